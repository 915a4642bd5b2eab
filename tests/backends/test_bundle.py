"""The bundle backend on images of a room whose depth and poses are known exactly."""

from dataclasses import replace

import numpy as np
import pytest

from remov3r.backends.bundle import BundleBackend, BundleConfig
from remov3r.backends.features import FeatureConfig
from remov3r.backends.pose_solver import PoseSolution
from remov3r.backends.tracking import TrackerConfig
from remov3r.errors import DataError
from remov3r.frontends.sensor import SensorFrontEnd
from remov3r.geometry import se3_exp
from remov3r.types import Frame, TrackingState
from tests.backends.room import CAMERA, pose
from tests.backends.textured_room import (
    DepthOnlyFrontEnd,
    ExactFrontEnd,
    drive,
    frames,
    path,
    position_errors,
    relative,
)

SMALL = BundleConfig(tracker=TrackerConfig(features=FeatureConfig(corners=120)), keyframe_frames=6)
POSES = path(40)
STILL = np.repeat(POSES[:1], 25, 0)  # more than keyframe_frames, several times


@pytest.fixture(scope="module")
def sequence() -> list[Frame]:
    return frames(POSES)


@pytest.fixture(scope="module")
def with_sensor(sequence: list[Frame]) -> BundleBackend:
    backend = BundleBackend(SMALL)
    drive(sequence, SensorFrontEnd(), backend)
    backend.finish()
    return backend


def test_every_frame_gets_an_accurate_pose_with_a_sensor(with_sensor: BundleBackend) -> None:
    assert sorted(with_sensor.poses()) == list(range(len(POSES)))
    assert position_errors(with_sensor, POSES).max() < 0.025
    assert np.allclose(with_sensor.poses()[0], np.eye(4), atol=1e-9)


def test_a_pale_image_with_dark_edges_does_not_bend_the_path(sequence: list[Frame]) -> None:
    h, w = sequence[0].rgb.shape[:2]
    y, x = np.mgrid[:h, :w]
    shade = 1 - 0.4 * ((x - w / 2) ** 2 + (y - h / 2) ** 2) / (w**2 + h**2) * 4
    pale = [
        replace(f, rgb=((128 + 0.3 * (f.rgb - 128.0)) * shade[..., None]).clip(0, 255).astype(np.uint8))
        for f in sequence
    ]
    backend = BundleBackend(SMALL)
    drive(pale, SensorFrontEnd(), backend)
    backend.finish()
    assert np.sqrt((position_errors(backend, POSES) ** 2).mean()) < 0.012  # 0.026 where the shade stays


def test_landmarks_of_keyframes_lie_on_the_walls(with_sensor: BundleBackend, sequence: list[Frame]) -> None:
    pixels, depth_m = with_sensor.landmarks(0)
    truth = sequence[0].depth_m
    assert truth is not None
    assert len(pixels) > 20
    x, y = np.rint(pixels).astype(int).T
    assert np.median(np.abs(depth_m / truth[y, x] - 1)) < 0.01
    assert len(with_sensor.landmarks(10_000)[1]) == 0


def test_same_input_same_output(with_sensor: BundleBackend, sequence: list[Frame]) -> None:
    again = BundleBackend(SMALL)
    drive(sequence, SensorFrontEnd(), again)
    again.finish()
    for index, T in with_sensor.poses().items():
        assert np.array_equal(T, again.poses()[index])


def test_scale_comes_from_the_median_over_keyframes(sequence: list[Frame]) -> None:
    # Depth of one keyframe in three is 40 % too large: the shape and the scale must not follow it.
    backend = BundleBackend(SMALL)
    drive(sequence, DepthOnlyFrontEnd((1.0, 1.4, 1.0)), backend)
    backend.finish()
    assert position_errors(backend, POSES).max() < 0.05
    reached, truth = backend.poses()[10][:3, 3], relative(POSES)[10][:3, 3]
    assert np.linalg.norm(reached) / np.linalg.norm(truth) == pytest.approx(1, abs=0.08)


def test_a_common_bias_of_the_depth_is_the_scale_of_the_map(sequence: list[Frame]) -> None:
    backend = BundleBackend(SMALL)
    drive(sequence, DepthOnlyFrontEnd((1.25,)), backend)
    backend.finish()
    assert position_errors(backend, POSES, scale=1 / 1.25).max() < 0.03


def test_lost_in_the_dark_and_regained() -> None:
    dark = range(16, 30)
    backend = BundleBackend(SMALL)
    answers = drive(frames(POSES, dark), SensorFrontEnd(), backend)
    notes = backend.finish()
    states = [a.state for a in answers]
    assert TrackingState.LOST in states[16:30]
    assert all(s is not TrackingState.OK for s in states[16:30])
    assert states[-1] is TrackingState.OK
    held = answers[29].T_world_cam
    assert np.array_equal(held, answers[28].T_world_cam)
    assert any("lost" in n for n in notes)
    assert any("regained" in n for n in notes)
    errors = position_errors(backend, POSES)
    assert errors[:16].max() < 0.02
    assert errors[31:].max() < 0.03
    assert errors.max() < 0.3


def test_front_end_holds_the_pose_while_nothing_is_seen() -> None:
    # Textured but unrelated images cannot be tracked; the front end's own transform holds for a while.
    sequence = frames(POSES)
    noise = np.random.default_rng(0)
    for i in (14, 15, 16):
        rgb = noise.integers(0, 256, sequence[i].rgb.shape).astype(np.uint8)
        sequence[i] = Frame(i, i / 30, rgb, CAMERA, sequence[i].depth_m, relative(POSES)[i])
    backend = BundleBackend(SMALL)
    answers = drive(sequence, ExactFrontEnd(relative_sigma=0.02), backend)
    backend.finish()
    assert [a.state for a in answers[14:17]] == [TrackingState.WEAK] * 3
    assert position_errors(backend, POSES).max() < 0.03


def test_static_camera_makes_no_keyframes_and_no_nan() -> None:
    backend = BundleBackend(SMALL)
    answers = drive(frames(STILL), SensorFrontEnd(), backend)
    backend.finish()
    assert sum(a.is_keyframe for a in answers) == 1
    assert position_errors(backend, STILL).max() < 1e-3


def test_keyframes_forced_on_a_static_camera_do_no_harm() -> None:
    backend = BundleBackend(SMALL)
    drive(frames(STILL), ExactFrontEnd(), backend)
    backend.finish()
    assert position_errors(backend, STILL).max() < 5e-3


@pytest.mark.parametrize("level", [0, 128])
def test_blank_images_give_held_poses(level: int) -> None:
    blank = [
        Frame(i, i / 30, np.full((120, 160, 3), level, np.uint8), CAMERA, np.zeros((120, 160), np.float32))
        for i in range(25)
    ]
    backend = BundleBackend(SMALL)
    answers = drive(blank, SensorFrontEnd(), backend)
    backend.finish()
    assert len(backend.poses()) == 25
    assert all(np.array_equal(T, np.eye(4)) for T in backend.poses().values())
    assert answers[-1].state is TrackingState.LOST


def test_a_single_frame_and_none_at_all() -> None:
    backend = BundleBackend(SMALL)
    assert backend.finish() == ()
    assert backend.poses() == {}
    assert not backend.wants_keyframe()
    backend = BundleBackend(SMALL)
    drive(frames(POSES[:1]), SensorFrontEnd(), backend)
    backend.finish()
    assert np.array_equal(backend.poses()[0], np.eye(4))


def test_a_new_map_starts_elsewhere_and_is_joined_later() -> None:
    # Turn away in the dark, look at another wall long enough for a new map, come back to the first wall.
    first = [pose(0.03 * i, yaw=0.6) for i in range(8)]
    other = [pose(0.21 - 0.02 * i, yaw=2.5) for i in range(26)]
    turn = [pose(-0.29 + 0.01 * i, yaw=2.5 - 0.1 * i) for i in range(1, 20)]
    back = [pose(-0.1 + 0.02 * i, yaw=0.6) for i in range(14)]
    poses = np.stack([*first, *other, *turn, *back])
    backend = BundleBackend(SMALL)
    drive(frames(poses, range(7, 10)), SensorFrontEnd(), backend)
    notes = backend.finish()
    assert any("new map" in n for n in notes)
    assert any("joined" in n for n in notes)
    assert np.median(position_errors(backend, poses)) < 0.05


def test_a_keyframe_needs_a_dense_prediction(sequence: list[Frame]) -> None:
    backend, front_end = BundleBackend(SMALL), SensorFrontEnd()
    estimate = front_end.process(sequence[0])
    with pytest.raises(DataError, match="after track"):
        backend.add_keyframe(sequence[0], estimate)
    backend.track(sequence[0], estimate)
    bare = type(estimate)(0, 0, np.eye(4))
    with pytest.raises(DataError, match="dense"):
        backend.add_keyframe(sequence[0], bare)


@pytest.mark.parametrize(("inliers", "is_wrong"), [(10, False), (60, True)])
def test_a_pose_that_few_points_agree_on_is_looked_up(
    sequence: list[Frame], monkeypatch: pytest.MonkeyPatch, inliers: int, is_wrong: bool
) -> None:
    backend = BundleBackend(SMALL)
    drive(sequence[:15], SensorFrontEnd(), backend)
    session = backend._session
    assert session is not None
    wrong = relative(POSES)[14] @ se3_exp(np.array([0.3, 0, 0, 0, 0.2, 0]))
    solution = PoseSolution(wrong, np.eye(6) * 1e-4, np.ones(inliers, bool))
    monkeypatch.setattr(session._tracker, "track", lambda *_: solution)
    answer = backend.track(sequence[15], SensorFrontEnd().process(sequence[15]))
    error_m = np.linalg.norm((answer.T_world_cam - relative(POSES)[15])[:3, 3])
    assert (error_m > 0.2) == is_wrong
    assert answer.state is TrackingState.OK
