from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from remov3r.errors import ConfigError, MissingDependencyError, ShapeError
from remov3r.models import engine, engine_cache
from remov3r.models.engine_boxes import EngineBoxes, choose_boxes, fingerprint
from remov3r.models.network import FrameFeatures, Remov3rNetwork
from remov3r.models.recorded import Boxes, TorchBoxes
from remov3r.models.streaming import StreamingNetwork
from remov3r.models.weights import load_weights
from tests.data.helpers import SHARED_DATA
from tests.models.tiny import clip, switched_on, tiny_config, tiny_network

needs_openvino = pytest.mark.skipif(engine.engine_version() is None, reason="OpenVINO is not installed")
FRAMES, PROMOTED = 7, {2, 5}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("sys.platform", "linux")
        yield engine_cache.cache_folder()


@pytest.fixture(scope="module")
def network() -> Remov3rNetwork:
    return tiny_network(switched_on(tiny_config(max_window=4)))


@pytest.fixture(scope="module")
def boxes(network: Remov3rNetwork) -> EngineBoxes:
    return EngineBoxes(network)


def views(count: int) -> list[tuple[Tensor, Tensor]]:
    """Frames of the recorded desk, or images of random shapes where it is absent; each with its intrinsics."""
    K = torch.tensor([[[246.0, 0, 128], [0, 246, 97], [0, 0, 1]]])
    paths = sorted((SHARED_DATA / "desk" / "rgb").glob("*.jpg"))
    images = [cv2.imread(str(p)) for p in paths[:: max(1, len(paths) // count)][:count]]
    rng = np.random.default_rng(0)
    images = images or [rng.integers(0, 255, (6, 8, 3), dtype=np.uint8) for _ in range(count)]
    resized = [cv2.resize(x, (256, 192), interpolation=cv2.INTER_AREA) for x in images]
    return [(torch.from_numpy(x[..., ::-1].copy()).permute(2, 0, 1)[None] / 255, K) for x in resized]


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (2 * x,)


def all_outputs(boxes: Boxes, rgb_B3HW: Tensor, K_B33: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        f: FrameFeatures = boxes.encode(rgb_B3HW, K_B33)
        dense = boxes.dense(f)
    return [f.log_prior_Bhw, f.pose_embedding_BD, *f.visual.maps, *f.scf, *vars(dense).values()]


@needs_openvino
def test_streaming_through_the_engine_equals_batch_in_torch(
    network: Remov3rNetwork, boxes: EngineBoxes
) -> None:
    rgb, K = clip(1, FRAMES, 32, 32)
    stream, estimates = StreamingNetwork(network, boxes), []
    for t in range(FRAMES):
        estimate = stream.push(stream.encode(rgb[0, t], K[0, t]))
        estimates.append(stream.promote() if t in PROMOTED else estimate)
    keys = torch.tensor([[e.keyframe for e in estimates]])
    assert set(keys[0].tolist()) == {0, 2, 5}
    with torch.no_grad():
        out = network(rgb, K, keys)
    for t, e in enumerate(estimates):
        torch.testing.assert_close(e.pose_embedding, out.pose_embedding[0, t], atol=1e-4, rtol=0)
        torch.testing.assert_close(e.T_key_cam, out.T_key_cam[0, t], atol=1e-4, rtol=0)
        torch.testing.assert_close(e.T_world_key, out.T_world_key[0, t], atol=1e-4, rtol=0)
        if e.dense is not None:
            torch.testing.assert_close(e.dense.depth_m[0], out.depth_m[0, t], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(e.dense.points_cam[0], out.points_cam[0, t], atol=1e-4, rtol=1e-4)
        else:
            assert e.local_cholesky is not None
            assert out.local_cholesky is not None
            torch.testing.assert_close(e.local_cholesky, out.local_cholesky[0, t], atol=1e-4, rtol=0)


@needs_openvino
def test_intrinsics_are_an_input_and_images_of_any_memory_order_and_aspect_are_taken(
    network: Remov3rNetwork, boxes: EngineBoxes
) -> None:
    rgb, K = (x[0] for x in clip(1, 1, 64, 96))
    skewed = rgb.transpose(2, 3).contiguous().transpose(2, 3)
    assert not skewed.is_contiguous()
    other = K * torch.tensor([1.7, 1.3, 1.0])[:, None] + torch.tensor([[0, 0, 3.0], [0, 0, -2], [0, 0, 0]])
    reference, depths = TorchBoxes(network), []
    for image, intrinsics in ((rgb, K), (skewed, K), (skewed, other)):
        expected = all_outputs(reference, image, intrinsics)
        found = all_outputs(boxes, image, intrinsics)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        depths.append(found[-4])
    torch.testing.assert_close(depths[1], depths[0])
    assert not torch.allclose(depths[2], depths[0], rtol=0.1)


@needs_openvino
def test_sizes_that_do_not_fit_are_refused(boxes: EngineBoxes) -> None:
    rgb, K = (x[0] for x in clip(1, 1, 40, 64))
    with pytest.raises(ShapeError, match="multiples of 32"):
        boxes.encode(rgb, K)


@needs_openvino
def test_any_thread_may_encode(boxes: EngineBoxes) -> None:
    rgb, K = clip(1, 6, 32, 32)
    expected = [boxes.encode(rgb[:, t], K[:, t]).pose_embedding_BD for t in range(6)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda t: boxes.encode(rgb[:, t], K[:, t]).pose_embedding_BD, range(6)))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@needs_openvino
def test_bfloat16_moves_depth_by_less_than_a_percent_but_for_single_frames() -> None:
    network = load_weights("lite").network
    half, full = EngineBoxes(network, bfloat16=True), TorchBoxes(network)
    errors = []
    for rgb, K in views(12):
        a, b = (all_outputs(boxes, rgb, K)[-4] for boxes in (half, full))
        errors.append(float((a / b - 1).abs().median()))
    limit = 0.01 if (SHARED_DATA / "desk").is_dir() else 0.02  # shapes unlike any room round more coarsely
    assert np.median(errors) < limit
    assert max(errors) < 2 * limit


@needs_openvino
def test_bfloat16_is_taken_by_itself_where_the_cpu_has_it(
    network: Remov3rNetwork, boxes: EngineBoxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb, K = (x[0] for x in clip(1, 1, 32, 32))
    whole, asked = (all_outputs(b, rgb, K) for b in (boxes, EngineBoxes(network, bfloat16=True)))
    assert all(map(torch.equal, all_outputs(choose_boxes(network, bfloat16=None), rgb, K), asked))
    assert torch.equal(asked[0], whole[0]) != engine.Engine("any").has_bfloat16
    monkeypatch.setattr(engine.Engine, "has_bfloat16", False)
    assert all(map(torch.equal, all_outputs(EngineBoxes(network, bfloat16=True), rgb, K), whole))


@needs_openvino
def test_what_was_compiled_is_taken_from_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(6.0)
    assert torch.equal(engine.Engine("kept").run("a", Doubled(), (x,), False)[0], 2 * x)
    monkeypatch.delattr(engine.Engine, "_converted")
    assert torch.equal(engine.Engine("kept").run("a", Doubled(), (x,), False)[0], 2 * x)
    assert not list(cache.glob("*.part"))


@needs_openvino
@pytest.mark.parametrize("checked", [False, True])
def test_a_damaged_cache_is_built_anew(
    checked: bool, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    x = torch.arange(6.0)
    engine.Engine("damaged").run("a", Doubled(), (x,), False)
    newest = max(cache.glob("*.bin"), key=lambda p: p.stat().st_mtime_ns)
    if checked:  # as if written by something else: the checksum is right, the content is not
        engine_cache.write_cached(newest.stem, b"not a network")
    else:
        newest.write_bytes(newest.read_bytes()[:-1])
    assert torch.equal(engine.Engine("damaged").run("a", Doubled(), (x,), False)[0], 2 * x)
    assert "built anew" in caplog.text


@needs_openvino
def test_a_cache_that_cannot_be_written_is_said_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    x = torch.arange(6.0)
    assert torch.equal(engine.Engine("homeless").run("a", Doubled(), (x,), False)[0], 2 * x)
    assert "cannot be kept" in caplog.text


def test_a_full_disk_leaves_nothing_half_written(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    engine_cache.write_cached("new", b"content")
    assert "No space left" in caplog.text
    assert engine_cache.read_cached("new") is None
    assert not list(cache.glob("*.part"))


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(engine_cache, "MOST_BYTES", 3 * (engine_cache.DIGEST_BYTES + 10))
    for i in range(6):
        engine_cache.write_cached(str(i), bytes(10))
    assert sorted(p.stem for p in engine_cache.cache_folder().iterdir()) == ["3", "4", "5"]


@needs_openvino
def test_what_the_engine_cannot_take_torch_runs(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (torch.special.i1e(x),)

    x = torch.arange(3.0)
    assert torch.equal(engine.Engine("odd").run("odd", Odd(), (x,), False)[0], torch.special.i1e(x))
    assert "cannot run odd" in caplog.text


def test_without_the_package_torch_runs(
    network: Remov3rNetwork, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> None:
        raise ImportError("No module named 'openvino'")

    monkeypatch.setattr(engine, "_openvino", missing)
    with caplog.at_level(logging.INFO):
        assert isinstance(choose_boxes(network), TorchBoxes)
    assert "remov3r[engine]" in caplog.text
    with pytest.raises(MissingDependencyError, match=r"remov3r\[engine\]"):
        choose_boxes(network, "openvino")


def test_the_engine_does_not_go_with_torch_compile(network: Remov3rNetwork) -> None:
    with pytest.raises(ConfigError, match="compiled"):
        choose_boxes(network, "openvino", compiled=True)


def test_other_weights_have_another_fingerprint(network: Remov3rNetwork) -> None:
    same, other = (tiny_network(network.config) for _ in range(2))
    with torch.no_grad():
        next(other.heads.parameters()).add_(1e-3)
    assert fingerprint(same) == fingerprint(network)
    assert fingerprint(other) != fingerprint(network)


@needs_openvino
def test_signals_reach_a_process_whose_engines_came_and_went() -> None:
    program = """
import gc, os, signal
from remov3r.models.engine import Engine
signal.signal(signal.SIGTERM, lambda number, frame: print("told"))
first, second = Engine("a"), Engine("b")
del first
gc.collect()
del second
gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "told\n"), done.stderr
