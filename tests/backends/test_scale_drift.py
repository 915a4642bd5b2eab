"""Drift of scale between parts of a map that little ties together."""

import numpy as np
import pytest

from remov3r.backends import bundle_session
from remov3r.backends.adjustment import Adjustment, AdjustmentConfig
from remov3r.backends.bundle_session import BundleConfig, BundleSession
from remov3r.backends.landmark_map import KeyframeLink, LandmarkMap
from remov3r.backends.map_scale import update_log_scale
from remov3r.backends.map_state import MapState
from remov3r.backends.pose_solver import reproject, reprojection_error
from remov3r.backends.scale_drift import ScaleDriftConfig, joint_information, scale_drift, stretch
from remov3r.backends.trajectory_store import TrajectoryStore
from remov3r.geometry import inverse
from remov3r.types import TrackingState
from tests.backends.test_landmark_map import CAMERA, build_map

CONFIG, ADJUSTMENT = ScaleDriftConfig(), AdjustmentConfig()
HALF, COUNT = 8, 60


def drifted(factor: float, ties: int, noise: float = 0.0) -> tuple[LandmarkMap, np.ndarray]:
    """Two halves of a way along x, each with landmarks of its own; the second is `factor` times too large.

    Landmarks shared by the halves (`ties`) fit the drifted map: they were triangulated in it. Depths are true, up
    to a common factor per keyframe that scatters by `noise`.

    Returns:
        the map, and the keyframes' true positions.
    """
    rng = np.random.default_rng(3)
    centres = np.array([[0.25 * i, 0, 0] for i in range(2 * HALF)])
    turn = centres[HALF].copy()
    grown = np.where(np.arange(2 * HALF)[:, None] < HALF, centres, turn + factor * (centres - turn))
    parts = [rng.uniform([x - 1, -1, 2], [x + 3, 1, 4], (COUNT, 3)) for x in (0, turn[0])]
    shared = rng.uniform([turn[0] - 1, -1, 2], [turn[0] + 1, 1, 4], (ties, 3))
    points = np.concatenate([parts[0], turn + factor * (parts[1] - turn), shared])
    true = np.concatenate([*parts, shared])
    landmark_map = LandmarkMap(CAMERA)
    landmark_map.add_landmarks(points[:COUNT], 0, np.full(COUNT, 0.01))
    landmark_map.add_landmarks(points[COUNT : 2 * COUNT], HALF, np.full(COUNT, 0.01))
    landmark_map.add_landmarks(points[2 * COUNT :], 0, np.full(ties, 0.01))
    for i, centre in enumerate(grown):
        T = np.eye(4)
        T[:3, 3] = centre
        own = np.arange(COUNT) + COUNT * (i >= HALF)
        ids = np.concatenate([own, np.arange(2 * COUNT, len(points))])
        pixels, _ = reproject(T, points[ids], CAMERA)
        z = (true[ids] - centres[i])[:, 2] * np.exp(noise * rng.normal())
        landmark_map.add_keyframe(
            10 * i, T, ids, pixels, z, 0.1 * z, np.zeros((len(ids), 128), np.uint8), np.zeros(4), 0.1, 0
        )  # fmt: skip
    for place in range(2 * HALF):
        update_log_scale(landmark_map, place, ADJUSTMENT)
    return landmark_map, centres


def drift_of(landmark_map: LandmarkMap, config: ScaleDriftConfig = CONFIG) -> np.ndarray | None:
    return scale_drift(landmark_map, ADJUSTMENT, ADJUSTMENT.solver.sigma_px, config)


def test_two_loose_halves_come_to_one_scale() -> None:
    landmark_map, centres = drifted(1.5, ties=0)
    drift = drift_of(landmark_map)
    assert drift is not None
    assert drift[-1] - drift[0] == pytest.approx(-np.log(1.5), abs=0.06)
    assert np.ptp(drift[: HALF - 1]) < 0.02
    assert np.ptp(drift[HALF:]) < 0.02
    stretch(landmark_map, drift)
    way = np.linalg.norm(np.diff(landmark_map.poses[:, :3, 3], axis=0), axis=1)
    assert way[0] == pytest.approx(way[-1], rel=0.06)
    assert np.abs(landmark_map.poses[:, :3, 3] - centres).max() < 0.15


def test_stretching_keeps_what_a_part_sees_of_its_own() -> None:
    landmark_map, _ = drifted(1.5, ties=0)
    for keyframe in landmark_map.keyframes[1:]:
        keyframe.link = KeyframeLink(np.eye(4), np.eye(6))
    ways = np.repeat([0.1, -0.2], [HALF - 1, HALF])
    before = [k.log_scale for k in landmark_map.keyframes]
    stretch(landmark_map, ways)
    for place, keyframe in enumerate(landmark_map.keyframes):
        rows = landmark_map.rows_of_keyframes([place])
        points, pixels = landmark_map.points[landmark_map.obs_landmark[rows]], landmark_map.obs_pixel[rows]
        assert reprojection_error(keyframe.T_world_cam, points, pixels, CAMERA).max() < 1e-6
    added = np.array([k.log_scale for k in landmark_map.keyframes]) - before
    assert added == pytest.approx(np.repeat([0.1, -0.05, -0.2], [HALF - 1, 1, HALF]))
    link = landmark_map.keyframes[HALF - 1].link
    assert link is not None
    assert np.diag(link.covariance)[3:] == pytest.approx(np.exp(2 * 0.1))


def test_ties_hold_against_scattered_depth() -> None:
    rigid = drift_of(drifted(1.0, ties=60, noise=0.1)[0])
    loose = drift_of(drifted(1.0, ties=0, noise=0.1)[0])
    assert rigid is None
    assert loose is not None


def test_what_is_seen_from_one_place_does_not_tie() -> None:
    ties, none = (joint_information(drifted(1.0, ties=n)[0], 1.0, 0.1) for n in (40, 0))
    inner = np.arange(2 * HALF - 2) + 1  # keyframes
    broken = (inner == HALF - 1) | (inner == HALF)  # the last of one half, the first of the other
    assert np.array_equal(none < 1, broken)
    assert (ties[broken] > 1e4).all()
    still, _, _ = build_map((1.0, 1.0, 1.0))
    for keyframe in still.keyframes:
        keyframe.T_world_cam = np.eye(4)
    assert np.allclose(joint_information(still, 1.0, 0.1), 0, atol=1e-6)


def test_no_drift_is_told_without_depth_by_sure_ways_or_when_switched_off() -> None:
    assert drift_of(build_map()[0]) is None  # never read
    landmark_map, _ = drifted(1.5, ties=0)
    assert drift_of(landmark_map, ScaleDriftConfig(enabled=False)) is None
    assert drift_of(landmark_map, ScaleDriftConfig(least_drift=0.6)) is None
    T = inverse(landmark_map.poses[2]) @ landmark_map.poses[3]
    landmark_map.keyframes[3].link = KeyframeLink(T, np.eye(6) * 1e-8, metric=True)
    assert drift_of(landmark_map) is None


def test_frames_are_stretched_with_their_keyframe() -> None:
    landmark_map, _, poses = build_map()
    store = TrajectoryStore(landmark_map)
    frame = poses[5].copy()
    frame[:3, 3] += [0.2, 0, 0.1]
    store.put(53, frame, TrackingState.OK, np.empty(0, int), np.empty((0, 2)))
    factors = np.array([0.0, 0, 0, 0, np.log(2)])
    stretch(landmark_map, factors)
    store.stretch(factors)
    from_key = (inverse(poses[5]) @ frame)[:3, 3]
    assert np.allclose((inverse(landmark_map.poses[5]) @ store.pose(53))[:3, 3], 2 * from_key)
    store.rescale(3.0)
    landmark_map.rescale(3.0)
    assert np.allclose((inverse(landmark_map.poses[5]) @ store.pose(53))[:3, 3], 6 * from_key)


def test_a_state_is_put_back() -> None:
    landmark_map, _ = drifted(1.5, ties=0)
    points, poses = landmark_map.points.copy(), landmark_map.poses.copy()
    state = MapState(landmark_map)
    stretch(landmark_map, np.linspace(0, 1, 2 * HALF - 1))
    landmark_map.obs_good[:5] = False
    state.restore()
    assert np.array_equal(landmark_map.points, points)
    assert np.array_equal(landmark_map.poses, poses)
    assert landmark_map.obs_good.all()


def session_with(landmark_map: LandmarkMap) -> BundleSession:
    session = BundleSession(CAMERA, BundleConfig())
    session.map, session.store = landmark_map, TrajectoryStore(landmark_map)
    nothing = np.empty(0, int), np.empty((0, 2))
    session.store.put(10 * 2 * HALF, landmark_map.poses[-1], TrackingState.OK, *nothing)
    return session


def test_a_run_ends_at_one_scale_and_says_so() -> None:
    session = session_with(drifted(1.5, ties=0)[0])
    session.finish()
    way = np.linalg.norm(np.diff(session.map.poses[:, :3, 3], axis=0), axis=1)
    assert way[0] == pytest.approx(0.25, rel=0.06)
    assert way[-1] == pytest.approx(0.25, rel=0.06)
    assert any("scale drifted by" in note for note in session.notes)


def test_a_rejected_optimisation_leaves_the_map_unbent(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_with(drifted(1.5, ties=0)[0])
    points, poses = session.map.points.copy(), session.map.poses.copy()
    results = iter([[Adjustment(True, 1.0, 1.0)], [Adjustment(False, np.nan, np.nan)]])
    monkeypatch.setattr(bundle_session, "adjust_all", lambda *_, **__: next(results))
    monkeypatch.setattr(bundle_session, "settle_scale", lambda *_: 1.0)
    session.finish()
    assert np.array_equal(session.map.points, points)
    assert np.array_equal(session.map.poses, poses)
    assert any("rejected" in note for note in session.notes)
    assert not any("scale drifted by" in note for note in session.notes)
