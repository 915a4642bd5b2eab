"""Labels from a teacher and a network together: what is written, what is left out, and the error messages."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from remov3r.camera import Camera
from remov3r.models.weights import save_network
from remov3r.training import taught
from remov3r.training.framing import Framing, TrainingFrame, framed
from remov3r.training.shards import open_shard
from remov3r.training.taught import label, main, photos
from remov3r.training.teachers import DepthModel, load_student, load_teacher
from remov3r.types import Frame, Image
from tests.models.tiny import tiny_network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A landscape photo with known focal length, a ramp from left to right, and a portrait one without."""
    images = tmp_path / "photos"
    images.mkdir()
    ramp = np.broadcast_to(np.linspace(0, 255, 640, dtype=np.uint8)[:, None], (480, 640, 3))
    cv2.imwrite(str(images / "2.png"), ramp)
    cv2.imwrite(str(images / "10.png"), np.full((400, 300, 3), 90, np.uint8))
    (images / "focal.json").write_text(json.dumps({"2.png": 1.25}))
    return images


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """An ONNX model whose metres are 1 plus the red channel, for images of 64x64."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    float32, make = TensorProto.FLOAT, helper.make_tensor_value_info
    one = helper.make_tensor("one", float32, [1], [1.0])
    pick = [
        helper.make_tensor(n, TensorProto.INT64, [1], [v]) for n, v in (("from", 0), ("to", 1), ("axis", 1))
    ]
    nodes = [
        helper.make_node("Slice", ["rgb", "from", "to", "axis"], ["red"]),
        helper.make_node("Add", ["red", "one"], ["metres"]),
    ]
    entry, end = make("rgb", float32, [1, 3, 64, 64]), make("metres", float32, [1, 1, 64, 64])
    graph = helper.make_graph(nodes, "tiny", [entry], [end], [one, *pick])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "teacher.onnx"))
    return tmp_path / "teacher.onnx"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_network(tiny_network(), tmp_path / "tiny.safetensors", version="1", sigma_factor=1.0)
    return tmp_path / "tiny.safetensors"


def arguments(images: Path, teacher: Path, network: Path, out: Path) -> list[str]:
    """The command line that labels a folder."""
    given = {"images": images, "teacher": teacher, "network": network, "out": out}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def flat(metres: float) -> DepthModel:
    return lambda rgb, camera: np.full((12, 16), metres, np.float32)


def test_photos_have_the_listed_focal_length_or_the_assumed_one_of_the_longer_side(folder: Path) -> None:
    first, second = photos(folder, 0.8)
    assert first.rgb.shape == second.rgb.shape == (240, 320, 3)
    assert first.K[0, 0] == pytest.approx(1.25 * 320)
    assert second.K[0, 0] == pytest.approx(0.8 * 400 / 300 * 320)


def halves(left_m: float, right_m: float) -> DepthModel:
    """Depth of a bright left and a dark right half, in whichever order the image has them."""

    def predict(rgb: Image, camera: Camera) -> np.ndarray:
        bright = cv2.resize(rgb[:, :, 0], (16, 12), interpolation=cv2.INTER_AREA) > 127
        return np.where(bright, left_m, right_m).astype(np.float32)

    return predict


def half_bright() -> TrainingFrame:
    rgb = np.zeros((240, 320, 3), np.uint8)
    rgb[:, :160] = 255
    return framed(Frame(0, 0.0, rgb, Camera(320, 240, 250.0, 250.0, 159.5, 119.5)), Framing())


def test_the_label_is_the_mean_in_log_depth_at_the_networks_scale() -> None:
    frame = half_bright()
    # the teacher's 20 and 45 m come down to 4/3 and 3 m, so that their geometric mean is the network's 2 m
    depth_mm = label(frame, halves(20.0, 45.0), flat(2.0), 0.5)
    assert depth_mm.shape == (120, 160)
    np.testing.assert_allclose(depth_mm[60, [0, 159]], [1000 * (8 / 3) ** 0.5, 1000 * 6**0.5], atol=1)
    np.testing.assert_allclose(label(frame, halves(20.0, 45.0), flat(2.0), 1.0)[60, [0, 159]], [1333, 3000])
    assert (label(frame, flat(7.0), flat(3.0), 0.5) == 3000).all()


def test_what_is_not_believed_or_far_gets_no_label() -> None:
    depth_mm = label(half_bright(), halves(1.0, 3.5), flat(2.0), 0.5)
    assert not depth_mm[:, [0, 159]].any()  # between the halves the teacher comes close
    assert not label(half_bright(), flat(2.0), flat(8.1), 0.5).any()


@pytest.mark.parametrize("nothing", [0.0, np.nan])
def test_where_the_teacher_sees_nothing_there_is_no_label(nothing: float) -> None:
    assert not label(half_bright(), flat(nothing), flat(2.0), 0.5).any()
    depth_mm = label(half_bright(), halves(7.0, nothing), flat(2.0), 0.5)
    assert (depth_mm[:, 0] == 2000).all()
    assert not depth_mm[:, 159].any()


def test_the_mirror_image_is_turned_back(folder: Path) -> None:
    seen: list[Camera] = []

    def by_brightness(rgb: Image, camera: Camera) -> np.ndarray:
        seen.append(camera)
        return 1 + rgb[:, :, 0].astype(np.float32) / 255

    depth_mm = label(next(photos(folder, 0.8)), by_brightness, by_brightness, 0.5)
    np.testing.assert_allclose(depth_mm[60, [0, 159]], [1000, 2000], atol=8)
    assert seen[0].cx + seen[1].cx == pytest.approx(319)


def test_a_longer_focal_length_moves_the_teachers_depth_away(teacher: Path) -> None:
    rgb = np.full((240, 320, 3), 255, np.uint8)
    at = [load_teacher(teacher)(rgb, Camera(320, 240, f, f, 159.5, 119.5)) for f in (250.0, 500.0)]
    # squeezed to 64x64: fx 50, fy 66.7
    np.testing.assert_allclose(at[0], 2 * (50 * 250 * 64 / 240) ** 0.5 / 229, rtol=1e-5)
    np.testing.assert_allclose(at[1], 2 * at[0], rtol=1e-5)


def test_a_set_is_written(
    folder: Path,
    teacher: Path,
    network: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(taught, "_LARGEST_RATIO", 1e6)  # the network has learnt nothing
    caplog.set_level("INFO")
    out = folder.parent / "shards" / "some"
    assert main(arguments(folder, teacher, network, out)) == 0
    assert "2 images, 100% of the pixels labelled" in caplog.text
    clips = open_shard(out / "some-00000.npz")
    assert (clips.rgb.shape, clips.depth_mm.shape) == ((2, 1, 240, 320, 3), (2, 1, 120, 160))
    assert np.isnan(clips.T_world_cam).all()
    frame = next(photos(folder, 0.8))
    expected = label(frame, load_teacher(teacher), load_student(str(network)), 0.5)
    np.testing.assert_array_equal(clips.depth_mm[0, 0], expected)


def test_each_mistake_is_one_line(
    folder: Path,
    teacher: Path,
    network: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (empty := folder.parent / "empty").mkdir()

    def message(images: Path, model: Path) -> str:
        caplog.clear()
        assert main(arguments(images, model, network, Path("unused"))) == 1
        return caplog.messages[-1]

    assert message(folder / "none", teacher) == f"error: {folder / 'none'}: no such folder"
    assert message(empty, teacher) == f"error: {empty}: no images"
    assert message(folder, Path("none.onnx")) == "error: none.onnx: no such file"
    (broken := folder.parent / "broken.onnx").write_bytes(b"no model")
    assert "not a readable ONNX model" in message(folder, broken)
    (folder / "focal.json").write_text("{")
    assert "focal.json: not JSON" in message(folder, teacher)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert message(folder, teacher) == "error: an ONNX model needs onnxruntime: pip install onnxruntime"
