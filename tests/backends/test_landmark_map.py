"""The map's columns, merging and rescaling."""

import numpy as np
import pytest

from remov3r.backends.landmark_map import Column, LandmarkMap
from remov3r.backends.pose_solver import PoseSolverConfig, reproject
from remov3r.backends.trajectory_store import TrajectoryStore
from remov3r.camera import Camera
from remov3r.geometry import se3_exp
from remov3r.types import TrackingState

CAMERA = Camera(640, 480, 500.0, 500.0, 320.0, 240.0)


def build_map(
    factors: tuple[float, ...] = (1.0,) * 6, count: int = 80, sigma: float = 0.1, scale_sigma: float = 0.1
) -> tuple[LandmarkMap, np.ndarray, np.ndarray]:
    """A map of exact landmarks and poses; keyframe k's front-end depth is factors[k] times the truth."""
    rng = np.random.default_rng(0)
    P = np.stack([rng.uniform(-1, 1, count), rng.uniform(-0.8, 0.8, count), rng.uniform(2, 4, count)], 1)
    poses = np.stack(
        [se3_exp(np.array([0.15 * i, 0, 0.02 * i, 0, -0.03 * i, 0])) for i in range(len(factors))]
    )
    landmark_map = LandmarkMap(CAMERA)
    ids = landmark_map.add_landmarks(P, 0, np.full(count, 0.01))
    for i, (T, factor) in enumerate(zip(poses, factors)):
        pixels, P_cam = reproject(T, P, CAMERA)
        z = P_cam[:, 2] * factor
        landmark_map.add_keyframe(
            10 * i, T, ids, pixels, z, sigma * z, np.zeros((count, 128), np.uint8), np.zeros(4), scale_sigma, 0
        )  # fmt: skip
    return landmark_map, P, poses


def test_columns_grow() -> None:
    column = Column(np.int64, 2)
    for i in range(10):
        column.append(np.full((100, 2), i))
    assert column.array.shape == (1000, 2)
    assert (column.array[::100, 0] == np.arange(10)).all()


def test_merging_keeps_the_older_landmark_and_one_observation_per_keyframe() -> None:
    landmark_map, P, _ = build_map()
    fresh = landmark_map.add_landmarks(P[:3] + 0.01, 5, np.full(3, 0.1))
    landmark_map.add_keyframe(
        60, np.eye(4), np.concatenate([fresh, [0]]), np.zeros((4, 2)), np.ones(4), np.ones(4),
        np.zeros((4, 128), np.uint8), np.zeros(4), 0.1, 0,
    )  # fmt: skip
    landmark_map.merge(fresh, np.array([0, 1, 2]))
    assert (landmark_map.canonical(fresh) == [0, 1, 2]).all()
    rows = landmark_map.rows_of_keyframes([6])
    assert sorted(landmark_map.obs_landmark[rows].tolist()) == [0, 1, 2]  # landmark 0 was seen twice
    assert len(landmark_map.rows_of_landmarks(np.array([1]))) == 7
    # A chain of merges ends at the oldest.
    more = landmark_map.add_landmarks(P[:1], 6, np.array([0.1]))
    landmark_map.merge(more, fresh[1:2])
    assert landmark_map.canonical(more)[0] == 1


def test_rescaling_keeps_every_projection() -> None:
    landmark_map, _, _ = build_map()
    before = landmark_map.obs_pixel.copy()
    landmark_map.rescale(1.7)
    for i, keyframe in enumerate(landmark_map.keyframes):
        pixels = reproject(keyframe.T_world_cam, landmark_map.points, CAMERA)[0]
        assert np.allclose(pixels, before[keyframe.observations], atol=1e-6), i


def test_frames_follow_their_keyframe_and_the_scale() -> None:
    landmark_map, _, poses = build_map()
    store = TrajectoryStore(landmark_map)
    nothing = np.empty(0, int), np.empty((0, 2))
    frame = poses[5] @ se3_exp(np.array([0.1, 0, 0, 0, 0, 0.1]))
    store.put(53, frame, TrackingState.OK, *nothing)
    assert np.allclose(store.pose(53), frame)
    move = se3_exp(np.array([0.5, 0.1, 0, 0, 0.3, 0]))
    landmark_map.keyframes[5].T_world_cam = move @ poses[5]
    assert np.allclose(store.pose(53), move @ frame)
    landmark_map.keyframes[5].T_world_cam = poses[5]
    landmark_map.rescale(2.0)
    store.rescale(2.0)
    expected = frame.copy()
    expected[:3, 3] *= 2
    assert np.allclose(store.pose(53), expected)


def test_frames_are_measured_again_against_the_final_landmarks() -> None:
    landmark_map, P, poses = build_map()
    store = TrajectoryStore(landmark_map)
    truth = poses[5] @ se3_exp(np.array([0.03, 0, 0.02, 0, 0.02, 0]))
    pixels = reproject(truth, P, CAMERA)[0]
    store.put(53, truth @ se3_exp(np.full(6, 0.02)), TrackingState.OK, np.arange(len(P)), pixels)
    store.refine(PoseSolverConfig())
    assert np.abs(store.pose(53) - truth).max() < 1e-4


def test_a_frame_that_would_jump_stays_and_is_that_unsure() -> None:
    landmark_map, P, poses = build_map()
    store = TrajectoryStore(landmark_map)
    away = poses[5] @ se3_exp(np.array([0.3, 0, 0, 0, 0, 0]))
    for i in range(51, 56):
        pixels = reproject(away if i == 53 else poses[5], P, CAMERA)[0]
        store.put(i, poses[5], TrackingState.OK, np.arange(len(P)), pixels)
    assert store.refine(PoseSolverConfig()) == [53]
    assert np.allclose(store.pose(53), poses[5])
    variances = [np.diag(c)[3] for i in range(51, 56) if (c := store.records[i].covariance) is not None]
    assert variances[2] == pytest.approx(0.3**2, rel=0.1)
    assert max(variances[:2] + variances[3:]) < 0.01**2


def test_gaps_are_bridged_evenly() -> None:
    landmark_map, _, poses = build_map()
    store = TrajectoryStore(landmark_map)
    nothing = np.empty(0, int), np.empty((0, 2))
    end = poses[5] @ se3_exp(np.array([0.4, 0, 0, 0, 0.2, 0]))
    store.put(50, poses[5], TrackingState.OK, *nothing)
    for i in (51, 52, 53):
        store.put(i, poses[5], TrackingState.LOST, *nothing)
    store.put(54, end, TrackingState.OK, *nothing)
    store.bridge_gaps()
    half = poses[5] @ se3_exp(np.array([0.2, 0, 0, 0, 0.1, 0]))
    assert np.allclose(store.pose(52), half, atol=1e-6)
