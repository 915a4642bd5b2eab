"""The backend that only composes, the registry, and the sensor front end."""

import numpy as np
import pytest

from remov3r.backends.bundle import BundleBackend, BundleConfig
from remov3r.backends.none import FrontEndOnlyBackend
from remov3r.backends.registry import BACKENDS, create_backend
from remov3r.config import Config
from remov3r.errors import ConfigError, DataError
from remov3r.frontends.sensor import SensorFrontEnd
from remov3r.types import Frame, FrameEstimate, PoseKind, TrackingState
from tests.backends.room import CAMERA
from tests.backends.textured_room import ExactFrontEnd, drive, frames, path, position_errors

POSES = path(40)[:25]


def test_none_composes_the_front_ends_transforms() -> None:
    backend = FrontEndOnlyBackend()
    answers = drive(frames(POSES), ExactFrontEnd(), backend)
    assert backend.finish() == ()
    assert position_errors(backend, POSES).max() < 1e-9
    assert not backend.wants_keyframe()
    assert [a.frame_index for a in answers if a.is_keyframe] == [0, 10, 20]
    assert answers[20].relative.kind is PoseKind.GLOBAL
    assert answers[21].relative.kind is PoseKind.LOCAL
    assert np.allclose(answers[25 - 1].relative.T_from_to, np.linalg.inv(POSES[20]) @ POSES[24])
    assert len(backend.landmarks(0)[0]) == 0


def test_none_holds_the_pose_when_the_front_end_gives_nan() -> None:
    backend = FrontEndOnlyBackend()
    sequence = frames(POSES[:3])
    backend.track(sequence[0], FrameEstimate(0, 0, np.eye(4)))
    answer = backend.track(sequence[1], FrameEstimate(1, 0, np.full((4, 4), np.nan)))
    assert answer.state is TrackingState.LOST
    assert np.array_equal(answer.T_world_cam, np.eye(4))


def test_none_bridges_frames_that_a_recording_lacks() -> None:
    backend = FrontEndOnlyBackend()
    sequence = frames(POSES[:3])
    unknown = np.diag([np.inf] * 6)
    backend.track(sequence[0], FrameEstimate(0, 0, np.eye(4)))
    answer = backend.track(sequence[1], FrameEstimate(1, 0, POSES[2], covariance=unknown))
    assert answer.state is TrackingState.LOST
    assert np.array_equal(answer.T_world_cam, np.eye(4))
    known = FrameEstimate(2, 2, np.eye(4), T_world_key=POSES[2], covariance=unknown)
    assert backend.track(sequence[2], known).state is TrackingState.WEAK
    assert np.array_equal(backend.poses()[2], POSES[2])


def test_none_refuses_a_front_end_without_motion() -> None:
    with pytest.raises(ConfigError, match="measures motion"):
        drive(frames(POSES[:3]), SensorFrontEnd(), FrontEndOnlyBackend())


def test_registry_makes_each_backend_and_names_them_in_its_error() -> None:
    assert isinstance(create_backend("none"), FrontEndOnlyBackend)
    assert isinstance(create_backend("bundle", BundleConfig(keyframe_frames=5)), BundleBackend)
    with pytest.raises(ConfigError, match="bundle, none"):
        create_backend("bundel")
    with pytest.raises(ConfigError, match="BundleConfig"):
        create_backend("bundle", Config())
    assert sorted(BACKENDS) == ["bundle", "none", "pose_graph"]


def test_sensor_gives_depth_with_the_noise_of_its_distance() -> None:
    frame = frames(POSES[:1])[0]
    depth = np.full((120, 160), 2.0, np.float32)
    depth[0, :3] = [0.0, np.nan, 70.0]
    estimate = SensorFrontEnd().process(Frame(0, 0.0, frame.rgb, CAMERA, depth))
    assert estimate.is_keyframe
    dense = estimate.dense
    assert dense is not None
    assert dense.sigma_m[50, 50] == pytest.approx(0.0012 + 0.0019 * 1.6**2, rel=1e-5)
    assert (dense.depth_m[0, :3] == 0).all()
    assert np.isinf(dense.sigma_m[0, :3]).all()
    assert (dense.depth_confidence[0, :3] == 0).all()
    assert np.isfinite(dense.points_cam).all()


def test_sensor_makes_keyframes_only_when_asked() -> None:
    front_end = SensorFrontEnd()
    sequence = frames(POSES[:3])
    with pytest.raises(DataError, match="process"):
        front_end.promote()
    assert front_end.process(sequence[0]).is_keyframe
    assert front_end.process(sequence[1]).keyframe_index == 0
    assert front_end.promote().keyframe_index == 1
    second = front_end.process(sequence[2])
    assert second.keyframe_index == 1
    assert second.dense is None


def test_sensor_needs_depth() -> None:
    frame = frames(POSES[:1])[0]
    with pytest.raises(DataError, match="no sensor depth"):
        SensorFrontEnd().process(Frame(0, 0.0, frame.rgb, CAMERA))
