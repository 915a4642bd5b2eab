from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from remov3r.camera import Camera
from remov3r.errors import ConfigError, TrackingError
from remov3r.frontends.network import MOST_PREPARED, NetworkFrontEnd, NetworkFrontEndConfig, input_camera
from remov3r.geometry import pixel_rays
from remov3r.models.network import FrameFeatures
from remov3r.models.weights import Weights, load_weights, save_network
from remov3r.types import Frame
from tests.models.tiny import switched_on, tiny_config, tiny_network

CAMERA = Camera(160, 120, 140.0, 140.0, 79.0, 61.0)
CONFIG = NetworkFrontEndConfig(input_pixels=64 * 64, engine="torch")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    path: Path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_network(tiny_network(tiny_config(max_window=4)), path, version="1", sigma_factor=0.5)
    return load_weights(path)


def frame(index: int, camera: Camera = CAMERA) -> Frame:
    rng = np.random.default_rng(index)
    return Frame(
        index, index / 30, rng.integers(0, 255, (camera.height, camera.width, 3), dtype=np.uint8), camera
    )


def test_a_covariance_head_gives_covariances_between_keyframes(tmp_path: Path) -> None:
    config = switched_on(tiny_config(max_window=4))
    path = tmp_path / "a.safetensors"
    save_network(tiny_network(config), path, version="1", sigma_factor=0.5, covariance_factor=4.0)
    front_end, weights = NetworkFrontEnd(CONFIG, load_weights(path)), load_weights(path)
    plain = replace(weights, card=weights.card.model_copy(update={"covariance_factor": 1.0}))
    other = NetworkFrontEnd(CONFIG, plain)
    assert front_end.process(frame(0)).covariance is None  # a keyframe's own transform is exact
    covariance = front_end.process(frame(1)).covariance
    other.process(frame(0))
    unscaled = other.process(frame(1)).covariance
    assert covariance is not None
    assert unscaled is not None
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    np.testing.assert_allclose(covariance, 4 * unscaled)


def test_sigma_is_a_share_of_depth_or_of_the_scene(weights: Weights) -> None:
    scene = replace(weights, card=weights.card.model_copy(update={"sigma_unit": "scene"}))
    by_pixel = NetworkFrontEnd(CONFIG, weights).process(frame(0)).dense
    by_scene = NetworkFrontEnd(CONFIG, scene).process(frame(0)).dense
    assert by_pixel is not None
    assert by_scene is not None
    np.testing.assert_allclose(
        by_pixel.sigma_m * by_pixel.depth_confidence / by_pixel.depth_m, 0.5, rtol=1e-5
    )
    mean_m = np.linalg.norm(by_scene.points_cam, axis=-1).mean()
    np.testing.assert_allclose(by_scene.sigma_m * by_scene.depth_confidence, 0.5 * mean_m, rtol=1e-5)


def test_a_gpu_that_is_not_there_is_refused(weights: Weights) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match="no GPU"):
        NetworkFrontEnd(NetworkFrontEndConfig(device="cuda"), weights)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (256, 192)),
        ((480, 640), (192, 256)),
        ((1920, 1080), (288, 160)),
        ((500, 500), (224, 224)),
    ],
)
def test_input_size_keeps_the_aspect(size: tuple[int, int], expected: tuple[int, int]) -> None:
    camera = Camera(*size, 500.0, 500.0, size[0] / 2 - 0.5, size[1] / 2 - 0.5)
    chosen = input_camera(camera, 256 * 192, 32)
    assert (chosen.width, chosen.height) == expected
    assert chosen == camera.resized(*expected)


def test_first_frame_is_a_keyframe_with_dense_geometry(weights: Weights) -> None:
    estimate = NetworkFrontEnd(CONFIG, weights).process(frame(7))
    assert estimate.is_keyframe
    assert (estimate.T_key_cam == np.eye(4)).all()
    assert estimate.T_world_key is not None
    assert (estimate.T_world_key == np.eye(4)).all()
    dense = estimate.dense
    assert dense is not None
    assert dense.depth_m.shape == (dense.camera.height, dense.camera.width)
    chosen = input_camera(CAMERA, CONFIG.input_pixels, 32)
    assert dense.camera == CAMERA.resized(chosen.width // 2, chosen.height // 2)
    np.testing.assert_allclose(dense.sigma_m, 0.5 * dense.depth_m / dense.depth_confidence, rtol=1e-5)
    rays = pixel_rays(dense.camera)
    off = np.abs(dense.points_cam / dense.depth_m[..., None] - rays).max()
    assert off <= weights.card.config.heads.largest_ray_offset + 1e-5


def test_frames_follow_their_keyframe_and_can_be_promoted(weights: Weights) -> None:
    front_end = NetworkFrontEnd(CONFIG, weights)
    estimates = [front_end.process(frame(i)) for i in (10, 12, 14, 16, 18, 20)]
    assert [e.keyframe_index for e in estimates] == [10, 10, 10, 10, 18, 18]
    assert [e.dense is not None for e in estimates] == [True, False, False, False, True, False]
    assert all((e.T_world_key is not None) == e.is_keyframe for e in estimates)
    R = estimates[5].T_key_cam[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-6)
    promoted = front_end.promote()
    assert promoted.is_keyframe
    assert promoted.dense is not None
    assert (promoted.T_key_cam == np.eye(4)).all()
    assert front_end.process(frame(22)).keyframe_index == 20


def test_two_runs_are_identical(weights: Weights) -> None:
    runs = []
    for _ in range(2):
        front_end = NetworkFrontEnd(CONFIG, weights)
        front_end.process(frame(0))
        runs.append(front_end.process(frame(1)).T_key_cam)
    assert (runs[0] == runs[1]).all()


def test_bfloat16_stays_near_float32(weights: Weights) -> None:
    found = []
    for precision in ("float32", "bfloat16"):
        config = CONFIG.model_copy(update={"precision": precision})
        dense = NetworkFrontEnd(config, weights).process(frame(0)).dense
        assert dense is not None
        found.append(dense.depth_m)
    assert np.median(np.abs(found[1] / found[0] - 1)) < 2e-2


def test_auto_precision_leaves_torch_in_float32(weights: Weights) -> None:
    found = []
    for precision in ("float32", "auto"):
        config = NetworkFrontEndConfig.model_validate({**CONFIG.model_dump(), "precision": precision})
        found.append(NetworkFrontEnd(config, weights).process(frame(0)).dense)
    assert found[0] is not None
    assert found[1] is not None
    assert NetworkFrontEndConfig().precision == "auto"
    np.testing.assert_array_equal(found[0].depth_m, found[1].depth_m)


def test_promote_needs_a_frame(weights: Weights) -> None:
    with pytest.raises(TrackingError, match="process"):
        NetworkFrontEnd(CONFIG, weights).promote()


def test_a_failing_network_degrades_in_the_open(
    weights: Weights, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    front_end = NetworkFrontEnd(CONFIG, weights)
    front_end.process(frame(0))
    good = front_end.process(frame(1))
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
        good_features = front_end._encode(frame(2))
        bad_features = replace(good_features, pose_embedding_BD=good_features.pose_embedding_BD * torch.nan)
        broken.setattr(front_end, "_encode", lambda now: bad_features)
        bad = front_end.process(frame(2))
        promoted = front_end.promote()
    assert "frame 2" in caplog.text
    assert (bad.T_key_cam == good.T_key_cam).all()
    assert bad.keyframe_index == 0
    assert bad.pose_embedding is None
    assert promoted.dense is not None
    assert (promoted.dense.depth_m == 0).all()
    assert np.isinf(promoted.dense.sigma_m).all()
    assert front_end.process(frame(3)).keyframe_index == 0


def test_depth_that_is_not_finite_is_marked_missing(
    weights: Weights, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = weights.network.heads.depth.forward
    monkeypatch.setattr(weights.network.heads.depth, "forward", lambda x: plain(x) * torch.nan)
    dense = NetworkFrontEnd(CONFIG, weights).process(frame(0)).dense
    assert dense is not None
    assert "not finite" in caplog.text
    assert (dense.depth_m == 0).all()
    assert (dense.depth_confidence == 0).all()
    assert (dense.points_cam == 0).all()
    assert np.isinf(dense.sigma_m).all()


def test_working_ahead_encodes_each_frame_once_and_changes_nothing(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, ahead = NetworkFrontEnd(CONFIG, weights), NetworkFrontEnd(CONFIG, weights)
    frames = [frame(index) for index in range(4)]
    expected = [plain.process(now) for now in frames]
    encode, encoded = ahead._encode, []

    def counting(now: Frame) -> FrameFeatures:
        encoded.append(now.index)
        return encode(now)

    monkeypatch.setattr(ahead, "_encode", counting)
    found = []
    for now, upcoming in zip(frames, [*frames[1:], None]):
        if upcoming is not None:
            ahead.prepare(upcoming)  # as the pipeline does: announced before the present one is processed
        found.append(ahead.process(now))
    assert sorted(encoded) == [0, 1, 2, 3]
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(a.T_key_cam, b.T_key_cam)
        np.testing.assert_array_equal(a.pose_embedding, b.pose_embedding)


def test_frames_announced_in_vain_are_forgotten(weights: Weights) -> None:
    front_end = NetworkFrontEnd(CONFIG, weights)
    for index in range(MOST_PREPARED + 3):
        front_end.prepare(frame(index))
    assert len(front_end._prepared) == MOST_PREPARED
    assert front_end.process(frame(99)).frame_index == 99
