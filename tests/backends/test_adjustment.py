"""Window, closing bundle and scale on maps whose answer is known."""

import numpy as np
import pytest

from remov3r.backends.adjustment import (
    AdjustmentConfig,
    adjust_all,
    adjust_window,
    parallax_rad,
)
from remov3r.backends.bundle_terms import BundleSolverConfig
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.map_scale import depth_readings, settle_scale, time_shares, update_log_scale
from remov3r.geometry import se3_exp
from tests.backends.test_landmark_map import build_map

CONFIG = AdjustmentConfig(solver=BundleSolverConfig(iterations=40, relative_tolerance=1e-9))


def shape_error(landmark_map: LandmarkMap, truth: np.ndarray) -> float:
    """Largest error of the keyframes' positions after the best scale."""
    t, g = landmark_map.poses[:, :3, 3], truth[:, :3, 3]
    return float(np.abs(t * (t * g).sum() / (t * t).sum() - g).max())


def disturb(landmark_map: LandmarkMap, size: float = 0.02) -> None:
    """Move all keyframes but the first, and all landmarks."""
    rng = np.random.default_rng(4)
    for keyframe in landmark_map.keyframes[1:]:
        keyframe.T_world_cam = keyframe.T_world_cam @ se3_exp(rng.normal(size=6) * size)
    landmark_map.points[:] += rng.normal(size=landmark_map.points.shape) * size


def test_parallax_of_a_known_triangle() -> None:
    landmark_map, P, poses = build_map()
    rows = np.arange(len(landmark_map.obs_keyframe))
    a, b = P - poses[0, :3, 3], P - poses[5, :3, 3]
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.allclose(parallax_rad(landmark_map, rows), np.arccos(cosine), atol=1e-6)


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.4])
def test_log_scale_of_a_keyframe_is_recovered(factor: float) -> None:
    landmark_map, _, _ = build_map((1.0, 1.0, factor), scale_sigma=0.3)
    update_log_scale(landmark_map, 2, CONFIG)
    assert np.exp(landmark_map.keyframes[2].log_scale) == pytest.approx(1 / factor, rel=0.03)


def test_a_sure_depth_keeps_its_scale() -> None:
    landmark_map, _, _ = build_map((1.0, 1.0, 1.2), sigma=0.3, scale_sigma=0.001)
    update_log_scale(landmark_map, 2, CONFIG)
    assert abs(landmark_map.keyframes[2].log_scale) < 0.01


def test_scale_is_the_median_over_keyframes() -> None:
    landmark_map, _, _ = build_map((1.25, 1.25, 3.0, 1.25, 1.25, 0.4))
    assert settle_scale(landmark_map, CONFIG) == pytest.approx(1.25, rel=1e-6)
    assert settle_scale(landmark_map, CONFIG) == pytest.approx(1.0, abs=1e-6)


def test_depth_counts_for_the_time_that_its_keyframe_stands_for() -> None:
    """Two slow keyframes outweigh four of a fast turn."""
    landmark_map, _, _ = build_map((1.0, 1.0, 1.6, 1.6, 1.6, 1.6))
    for keyframe, index in zip(landmark_map.keyframes, (0, 100, 200, 201, 202, 203)):
        keyframe.frame_index = index
    assert time_shares(landmark_map) == pytest.approx(np.array([100, 100, 50.5, 1, 1, 1]) * 6 / 253.5)
    assert abs(np.log(settle_scale(landmark_map, CONFIG))) < 0.15


def test_keyframes_without_a_reading_have_no_weight() -> None:
    landmark_map, _, _ = build_map()
    assert np.array_equal(depth_readings(landmark_map), np.zeros((6, 2)))


def test_window_recovers_disturbed_keyframes() -> None:
    landmark_map, _, poses = build_map()
    disturb(landmark_map)
    before = shape_error(landmark_map, poses)
    result = adjust_window(landmark_map, CONFIG)
    assert result is not None
    assert result.accepted
    assert result.final_error < result.initial_error
    assert shape_error(landmark_map, poses) < 0.05 * before
    assert np.array_equal(landmark_map.keyframes[0].T_world_cam, poses[0])


def test_older_keyframes_are_held_in_the_window() -> None:
    landmark_map, _, poses = build_map((1.0,) * 7)
    for keyframe in landmark_map.keyframes[4:]:
        keyframe.T_world_cam = keyframe.T_world_cam @ se3_exp(np.full(6, 0.01))
    adjust_window(landmark_map, CONFIG.model_copy(update={"window": 3}))
    assert np.array_equal(landmark_map.poses[:4], poses[:4])
    assert np.abs(landmark_map.poses - poses).max() < 2e-3


def test_closing_bundle_drops_wrong_observations() -> None:
    landmark_map, _, poses = build_map()
    disturb(landmark_map, 0.005)
    wrong = np.arange(0, len(landmark_map.obs_pixel), 37)
    landmark_map.obs_pixel[wrong] += 30
    results = adjust_all(landmark_map, CONFIG)
    assert len(results) == 2
    assert all(r.final_error <= r.initial_error for r in results)
    assert not landmark_map.obs_good[wrong].any()
    assert landmark_map.obs_good.mean() > 0.95
    assert shape_error(landmark_map, poses) < 1e-3


def test_a_map_that_is_not_finite_is_left_alone() -> None:
    landmark_map, _, _ = build_map()
    landmark_map.points[5] = np.nan
    before = landmark_map.poses.copy()
    result = adjust_window(landmark_map, CONFIG)
    assert result is not None
    assert not result.accepted
    assert np.array_equal(landmark_map.poses, before)


def test_landmarks_seen_once_move_with_their_keyframe() -> None:
    landmark_map, P, poses = build_map()
    alone = landmark_map.add_landmarks(P[:1] + 0.3, 5, np.array([0.2]))
    in_camera = np.linalg.inv(poses[5]) @ np.append(landmark_map.points[alone[0]], 1)
    disturb_last = se3_exp(np.full(6, 0.02))
    keyframe = landmark_map.keyframes[5]
    keyframe.T_world_cam = keyframe.T_world_cam @ disturb_last
    landmark_map.points[alone] = (keyframe.T_world_cam @ in_camera)[:3]
    adjust_window(landmark_map, CONFIG)
    now = np.linalg.inv(keyframe.T_world_cam) @ np.append(landmark_map.points[alone[0]], 1)
    assert np.allclose(now, in_camera, atol=1e-9)
    assert np.abs(keyframe.T_world_cam - poses[5]).max() < 2e-3


def test_one_keyframe_is_nothing_to_optimise() -> None:
    landmark_map, _, _ = build_map((1.0,))
    assert adjust_window(landmark_map, CONFIG) is None
    assert adjust_all(landmark_map, CONFIG) == []
