"""What a front end says of the motion, and when it is believed rather than the images."""

from __future__ import annotations

import numpy as np
import pytest

from remov3r.backends.front_motion import FrontMotion, FrontMotionConfig
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.pose_graph_noise import isotropic
from remov3r.backends.pose_solver import PoseSolution
from remov3r.backends.trajectory_store import TrajectoryStore
from remov3r.camera import Camera
from remov3r.geometry import se3_exp
from remov3r.types import Covariance, FrameEstimate, Pose, TrackingState

STATED = isotropic(0.01, 0.02)
STEP = se3_exp(np.array([0.1, 0, 0.05, 0, 0.1, 0]))
PLACE = se3_exp(np.array([1.0, 2, 3, 0.3, 0, 0]))  # of the keyframe in the map


@pytest.fixture
def front() -> FrontMotion:
    """Frame 10 is the last keyframe: at PLACE in the map, at the identity in the front end's own world."""
    landmark_map = LandmarkMap(Camera(64, 48, 60, 60, 32, 24))
    store = TrajectoryStore(landmark_map)
    landmark_map.add_keyframe(
        10, PLACE, np.empty(0, int), np.empty((0, 2)), np.empty(0), np.empty(0), np.empty((0, 128), np.uint8),
        np.zeros(1), 1.0, 0,
    )  # fmt: skip
    store.put(10, PLACE, TrackingState.OK, np.empty(0, int), np.empty((0, 2)), is_keyframe=True)
    motion = FrontMotion(store, FrontMotionConfig())
    motion.keyframe(FrameEstimate(10, 10, np.eye(4), np.eye(4)))
    return motion


def estimate(frame: int, T: Pose, covariance: Covariance | None) -> FrameEstimate:
    return FrameEstimate(frame, 10, T, covariance=covariance)


def solved(T: Pose) -> PoseSolution:
    return PoseSolution(T, isotropic(0.001, 0.002), np.ones(30, bool))


def test_it_is_read_from_where_the_keyframe_is_in_the_map(front: FrontMotion) -> None:
    said = front.read(estimate(14, STEP, STATED))
    assert said is not None
    np.testing.assert_allclose(said.T_world_cam, PLACE @ STEP)
    assert said.covariance is not None
    assert (np.diag(said.covariance) > np.diag(STATED)).all()  # no measurement is better than the least noise
    assert front.read(estimate(14, STEP, isotropic(0.1, 1.0))) is None  # it does not measure motion
    assert front.read(FrameEstimate(14, 9, STEP, covariance=STATED)) is None  # from a keyframe nobody knows


def test_a_keyframe_is_as_sure_as_frames_were_for_each_frame_passed(front: FrontMotion) -> None:
    keyframe = FrameEstimate(16, 16, np.eye(4), STEP)
    unknown = front.read(keyframe)
    assert unknown is not None
    assert unknown.covariance is None
    front.read(estimate(13, STEP, STATED))
    said = front.read(keyframe)
    assert said is not None
    assert said.covariance is not None
    np.testing.assert_allclose(said.T_key_cam, STEP)
    np.testing.assert_allclose(said.covariance, 2 * STATED, rtol=0.02)


@pytest.mark.parametrize(
    ("off_m", "followed", "stated", "believed"),
    [
        (0.3, 0.2, STATED, True),
        (0.3, 0.6, STATED, False),  # most points support the images
        (0.01, 0.2, STATED, False),  # no contradiction
        (0.3, 0.2, None, False),  # it does not say how sure it is
    ],
)
def test_it_is_believed_where_it_is_sure_and_few_points_contradict(
    front: FrontMotion, off_m: float, followed: float, stated: Covariance | None, believed: bool
) -> None:
    said = front.read(estimate(14, STEP, stated))
    wrong = PLACE @ STEP @ se3_exp(np.array([off_m, 0, 0, 0, 0, 0]))
    assert front.overrules(said, solved(wrong), followed) is believed
    assert not front.overrules(None, solved(wrong), followed)


def test_a_way_of_another_length_alone_is_no_contradiction(front: FrontMotion) -> None:
    way = np.array([0, 0, 0.9, 0, 0, 0])
    said = front.read(estimate(14, se3_exp(way), STATED))
    assert not front.overrules(said, solved(PLACE @ se3_exp(0.85 * way)), 0.3)
    aside = se3_exp(0.85 * way + [0.15, 0, 0, 0, 0, 0])
    assert front.overrules(said, solved(PLACE @ aside), 0.3)
