"""What long runs give up: crowded keyframes, landmarks seen once, old measurements; poses must not feel it."""

import numpy as np
import pytest

from remov3r.backends import loop_adjustment
from remov3r.backends.adjustment import Adjustment, AdjustmentConfig
from remov3r.backends.landmark_map import KeyframeLink, LandmarkMap
from remov3r.backends.loop_adjustment import LoopAdjustmentConfig, adjust_loop, is_loop_at
from remov3r.backends.map_culling import (
    CullingConfig,
    MapCuller,
    crowding_keyframes,
    forget_single_observations,
    redundant_keyframes,
)
from remov3r.backends.map_reuse import Reobservation
from remov3r.backends.pose_solver import PoseSolverConfig, reproject
from remov3r.backends.trajectory_store import TrajectoryStore
from remov3r.geometry import inverse, se3_exp
from remov3r.types import TrackingState
from tests.backends.test_landmark_map import CAMERA, build_map


def still_map(count: int) -> tuple[LandmarkMap, TrajectoryStore]:
    """A map of keyframes that all stand at one place, and two frames relative to each."""
    rng = np.random.default_rng(3)
    P = np.stack([rng.uniform(-1, 1, 60), rng.uniform(-0.8, 0.8, 60), rng.uniform(2, 4, 60)], 1)
    landmark_map = LandmarkMap(CAMERA)
    store = TrajectoryStore(landmark_map)
    ids = landmark_map.add_landmarks(P, 0, np.full(60, 0.01))
    for i in range(count):
        T = se3_exp(np.array([0.001 * i, 0, 0, 0, 0, 0]))
        add(landmark_map, i, T, ids)
        for k in range(2):
            T_frame = T @ se3_exp(np.array([0, 0.01 * k, 0, 0, 0.01 * k, 0]))
            store.put(
                2 * i + k,
                T_frame,
                TrackingState.OK,
                ids,
                reproject(T_frame, P, CAMERA)[0],
                is_keyframe=k == 0,
            )
    return landmark_map, store


def add(landmark_map: LandmarkMap, i: int, T: np.ndarray, ids: np.ndarray) -> None:
    """Add a keyframe, made of frame 2 i, that sees some landmarks exactly."""
    pixels, P_cam = reproject(T, landmark_map.points[ids], CAMERA)
    z = P_cam[:, 2]
    link = None
    if landmark_map.keyframes:
        link = KeyframeLink(inverse(landmark_map.keyframes[-1].T_world_cam) @ T, np.eye(6) * 1e-4)
    landmark_map.add_keyframe(
        2 * i, T, ids, pixels, z, 0.01 * z, np.full((len(ids), 128), i, np.uint8), np.zeros(4), 0.1, 0, link
    )


def test_removing_keyframes_moves_no_frame() -> None:
    landmark_map, store = still_map(6)
    before = store.poses()
    numbers = landmark_map.remove([2, 3])
    store.renumber(numbers)
    assert [k.frame_index for k in landmark_map.keyframes] == [0, 2, 8, 10]
    after = store.poses()
    assert max(np.abs(after[i] - before[i]).max() for i in before) < 1e-12
    assert len(landmark_map.obs_keyframe) == 4 * 60
    for place, keyframe in enumerate(landmark_map.keyframes):
        assert (landmark_map.obs_keyframe[keyframe.observations] == place).all()
        assert (keyframe.descriptors == keyframe.frame_index // 2).all()


def test_a_removed_keyframe_hands_its_link_on() -> None:
    landmark_map, _ = still_map(5)
    landmark_map.remove([2, 3])
    T = landmark_map.poses
    link = landmark_map.keyframes[2].link
    assert link is not None
    assert np.allclose(link.T_before_this, inverse(T[1]) @ T[2], atol=1e-12)
    assert np.trace(link.covariance) > 2.9 * 6e-4  # of three links


def test_removal_renumbers_landmarks_merged_and_unseen() -> None:
    landmark_map, _ = still_map(3)
    lone = landmark_map.add_landmarks(np.array([[0.1, 0.1, 3.0], [0.2, 0.1, 3.0]]), 1, np.full(2, 0.1))
    add(landmark_map, 3, np.eye(4), np.concatenate([np.arange(10), lone]))
    landmark_map.merge(lone[:1], np.array([5]))
    place_of_5 = landmark_map.points[5].copy()
    forget_single_observations(landmark_map, after=0)
    numbers = landmark_map.remove([0])
    assert numbers.landmarks[lone[0]] == numbers.landmarks[5]
    assert numbers.landmarks[lone[1]] == -1
    assert np.array_equal(landmark_map.points[numbers.landmarks[5]], place_of_5)
    assert (landmark_map.anchor >= 0).all()
    assert len(landmark_map.points) == 60


def test_settled_keyframes_keep_the_landmarks_that_are_left() -> None:
    """Landmark 7 goes in the first removal; what has its number later is not taken for it in the second."""
    landmark_map, store = still_map(4)
    store.settle(1, PoseSolverConfig())  # all frames but the last
    where = landmark_map.points.copy()
    for gone in (7, 20):
        landmark_map.obs_good[landmark_map.obs_landmark == gone] = False
        store.renumber(landmark_map.remove([1]))
    expected = np.delete(where, [7, 21], 0)  # 20 was 21 at first
    for index in (0, 2, 4, 6):
        landmarks, pixels = store.seen_by(store.records[index])
        assert np.array_equal(landmark_map.points[landmarks], expected)
        assert np.abs(reproject(store.pose(index), expected, CAMERA)[0] - pixels).max() < 0.01
    assert len(store.seen_by(store.records[1])[0]) == 0


def test_only_crowds_are_thinned() -> None:
    landmark_map, _ = still_map(12)
    config = CullingConfig(crowd=3)
    removed = crowding_keyframes(landmark_map, range(2, 10), 10, config)
    assert len(removed) == 6  # keyframes 1 to 9 may go, three of them stay
    assert 0 not in removed
    assert max(removed) < 10
    going = crowding_keyframes(landmark_map, range(2, 10), 10, config, [3, 4])
    assert len(going) == 6
    assert {3, 4} <= set(going)
    apart, _, _ = build_map()
    assert crowding_keyframes(apart, range(6), 6, CullingConfig(crowd=1, near_share=0.02)) == []


def test_a_keyframe_goes_when_others_see_its_landmarks_as_well() -> None:
    landmark_map, _ = still_map(8)
    assert redundant_keyframes(landmark_map, 8, 0.9) == [1, 2, 3, 4, 5]  # three others see all that they see
    assert redundant_keyframes(landmark_map, 3, 0.9) == [1, 2]


def test_a_keyframe_that_alone_sees_much_stays() -> None:
    landmark_map, _ = still_map(1)
    own = landmark_map.add_landmarks(np.array([[0.1 * i, 0.1, 3.0] for i in range(10)]), 0, np.full(10, 0.1))
    add(landmark_map, 1, np.eye(4), np.concatenate([np.arange(60), own]))
    for i in range(2, 5):
        add(landmark_map, i, np.eye(4), np.arange(60))
    assert redundant_keyframes(landmark_map, 2, 0.9) == []  # 10 of its 70 are its own
    assert redundant_keyframes(landmark_map, 2, 0.8) == [1]


def test_views_from_farther_away_do_not_stand_in() -> None:
    landmark_map, _ = still_map(1)
    for i in range(1, 6):
        T = np.eye(4)
        T[2, 3] = 0.0 if i == 1 else -4.0
        add(landmark_map, i, T, np.arange(60))
    # From afar one sees what three others see from nearer or as far, but not the other way round.
    assert redundant_keyframes(landmark_map, 6, 0.9) == [2, 3, 4]


def test_keyframes_of_a_submap_that_was_joined_are_looked_at_again() -> None:
    landmark_map, store = still_map(12)
    for place in range(6, 12):
        landmark_map.keyframes[place].submap = 1
    culler = MapCuller(landmark_map, store, 1, CullingConfig(every=1, crowd=3, forget_after=1))
    config = CullingConfig(crowd=3)
    assert (
        len(crowding_keyframes(landmark_map, range(12), 12, config)) == 4
    )  # 1 to 5 and 7 to 11: three of each stay
    for keyframe in landmark_map.keyframes:
        keyframe.submap = 0
    culler.keyframe_added(PoseSolverConfig())
    assert len(landmark_map.keyframes) <= 5


def test_the_map_stays_small_however_long_one_place_is_seen() -> None:
    landmark_map, store = still_map(2)
    culler = MapCuller(landmark_map, store, 4, CullingConfig(every=5, crowd=3, frames_held=20))
    sizes = []
    for i in range(2, 80):
        ids = np.arange(len(landmark_map.points))
        T = se3_exp(np.array([0.001 * (i % 7), 0, 0, 0, 0, 0]))
        add(landmark_map, i, T, ids)
        pixels = reproject(T, landmark_map.points[ids], CAMERA)[0]
        store.put(2 * i, T, TrackingState.OK, ids, pixels, is_keyframe=True)
        store.put(2 * i + 1, T, TrackingState.OK, ids, pixels)
        culler.keyframe_added(PoseSolverConfig())
        sizes.append(len(landmark_map.keyframes))
    assert max(sizes) <= 14
    assert len(store.poses()) == 160
    assert sum(len(r.landmarks) > 0 for r in store.records.values()) <= 20 + 2 * 5
    assert all(len(store.seen_by(store.records[2 * i])[0]) == 60 for i in range(80))
    worst = max(np.abs(store.pose(2 * i)[0, 3] - 0.001 * (i % 7)) for i in range(2, 80))
    assert worst < 1e-4


def found(shift_m: float) -> Reobservation:
    """A match that moves the camera sideways."""
    return Reobservation(np.arange(3), np.arange(3), se3_exp(np.array([shift_m, 0, 0, 0, 0, 0])), 0)


def test_a_loop_needs_two_keyframes_that_agree() -> None:
    config = LoopAdjustmentConfig(least_share=0.04)
    assert is_loop_at([found(0.2), found(0.15)], np.eye(4), 2.0, config)
    assert not is_loop_at([found(0.2)], np.eye(4), 2.0, config)
    assert not is_loop_at([found(0.2), found(0.01)], np.eye(4), 2.0, config)
    assert not is_loop_at([], np.eye(4), 2.0, config)


def test_a_loop_straightens_the_whole_path() -> None:
    landmark_map, _, poses = build_map()
    for i, keyframe in enumerate(landmark_map.keyframes):
        keyframe.T_world_cam = poses[i] @ se3_exp(np.array([0.03 * i, 0, 0, 0, 0.01 * i, 0]))
    assert adjust_loop(landmark_map, AdjustmentConfig(), LoopAdjustmentConfig(iterations=10)).accepted
    assert np.abs(landmark_map.poses[:, :3, 3] - poses[:, :3, 3]).max() < 0.01


def test_a_rejected_loop_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    landmark_map, _, _ = build_map()
    before = landmark_map.poses, landmark_map.points.copy()

    def torn(landmark_map: LandmarkMap, config: AdjustmentConfig, passes: int) -> list[Adjustment]:
        landmark_map.points[:] += 1
        landmark_map.keyframes[2].T_world_cam = np.eye(4)
        return [Adjustment(True, 2.0, 1.0, put_back=(2,))]

    monkeypatch.setattr(loop_adjustment, "adjust_all", torn)
    assert not adjust_loop(landmark_map, AdjustmentConfig(), LoopAdjustmentConfig()).accepted
    assert np.array_equal(landmark_map.poses, before[0])
    assert np.array_equal(landmark_map.points, before[1])
