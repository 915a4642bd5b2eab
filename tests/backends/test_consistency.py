"""The multi-view check in a room whose depth is known."""

import numpy as np
import pytest

from remov3r.backends.consistency import ConsistencyConfig, compare, consistent, neighbours
from remov3r.errors import ShapeError
from tests.backends.room import pose, prediction, room_depth

POSES = np.stack([pose(x=0.15 * k - 0.3, yaw=0.05 * k) for k in range(5)])
GHOST = (slice(40, 80), slice(60, 100))


def test_true_depth_is_left_alone() -> None:
    truth = [prediction(room_depth(T)) for T in POSES]
    for dense, checked in zip(truth, consistent(truth, POSES)):
        assert np.array_equal(dense.depth_m, checked.depth_m)
        assert np.array_equal(dense.sigma_m, checked.sigma_m)


def test_ghost_in_free_space_is_masked() -> None:
    depths = [room_depth(T) for T in POSES]
    depths[2][GHOST] *= 0.5
    checked = consistent([prediction(d) for d in depths], POSES)[2]
    assert (checked.depth_m[GHOST] == 0).mean() > 0.95
    assert np.isinf(checked.sigma_m[GHOST][checked.depth_m[GHOST] == 0]).all()
    assert (checked.depth_confidence[GHOST][checked.depth_m[GHOST] == 0] == 0).all()
    outside = np.ones((120, 160), dtype=bool)
    outside[GHOST] = False
    assert (checked.depth_m[outside] > 0).all()


def test_pixels_behind_the_walls_that_nobody_supports_are_masked() -> None:
    depths = [room_depth(T) for T in POSES]
    depths[2][GHOST] *= 1.5
    checked = consistent([prediction(d) for d in depths], POSES)[2]
    assert (checked.depth_m[GHOST] == 0).mean() > 0.9


def test_one_bad_keyframe_does_not_mask_the_good_ones() -> None:
    depths = [room_depth(T) for T in POSES]
    depths[2] = depths[2] * 1.5
    checked = consistent([prediction(d) for d in depths], POSES)
    for k in (0, 1, 3, 4):
        assert (checked[k].depth_m > 0).all()


def test_single_contradiction_raises_sigma() -> None:
    depths = [room_depth(T) for T in POSES[:2]]
    depths[0][GHOST] *= 0.5
    checked = consistent([prediction(d, sigma_m=0.02) for d in depths], POSES[:2])[0]
    assert (checked.depth_m > 0).all()
    assert np.median(checked.sigma_m[GHOST]) == pytest.approx(0.04)


def test_uncertain_depth_is_given_more_room() -> None:
    depths = [room_depth(T) for T in POSES[:2]]
    sure, unsure = (prediction(depths[0] * 0.9, sigma_m=s) for s in (0.01, 0.3))
    other = prediction(depths[1], sigma_m=0.01)
    config = ConsistencyConfig()
    assert compare(sure, POSES[0], other, POSES[1], config).seen_through.mean() > 0.7
    assert compare(unsure, POSES[0], other, POSES[1], config).supported.mean() > 0.7


def test_neighbours_are_near_and_look_alike() -> None:
    poses = np.stack([pose(), pose(x=0.5), pose(x=0.2), pose(x=0.1, yaw=np.pi), pose(x=5)])
    assert neighbours(0, poses, ConsistencyConfig()).tolist() == [2, 1]


def test_alone_and_empty() -> None:
    dense = prediction(room_depth(POSES[0]))
    (alone,) = consistent([dense], POSES[:1])
    assert np.array_equal(alone.depth_m, dense.depth_m)
    assert consistent([], np.zeros((0, 4, 4))) == ()


def test_missing_pose_is_refused() -> None:
    with pytest.raises(ShapeError, match="2 predictions with 1 poses"):
        consistent([prediction(room_depth(T)) for T in POSES[:2]], POSES[:1])
