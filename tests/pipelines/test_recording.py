"""What a run remembers and says about itself."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest

from remov3r.camera import Camera
from remov3r.errors import ShapeError, TrackingError
from remov3r.pipelines.recording import Recording, grouped, lost_stretches
from remov3r.pipelines.thinning import at_most_wide
from remov3r.types import (
    Frame,
    FrameEstimate,
    Keyframe,
    PoseKind,
    RelativePose,
    TrackedPose,
    TrackingState,
)
from tests.pipelines.results import dense, trajectory

OK, LOST = TrackingState.OK, TrackingState.LOST


def tracked(index: int, state: TrackingState = OK) -> TrackedPose:
    relative = RelativePose(0, index, np.eye(4), PoseKind.LOCAL)
    return TrackedPose(index, index / 10, np.eye(4), state, index == 0, relative)


def states(*values: TrackingState) -> list[str]:
    path = trajectory(len(values))
    return list(lost_stretches(replace(path, state=values, timestamps_s=np.arange(len(values)) / 10.0)))


def test_lost_stretches_are_named_with_frames_and_times() -> None:
    assert states(OK, OK, OK) == []
    assert states(OK, LOST, LOST, OK) == ["tracking lost in frames 2 to 4 (0.10 s to 0.20 s), then regained"]
    first, second = states(LOST, OK, LOST)
    assert first.startswith("tracking lost in frames 0 to 0")
    assert second.endswith("and not regained")


def test_notes_of_one_frame_and_of_no_mesh() -> None:
    recording = Recording(320)
    recording.add(tracked(0))
    assert any("only one frame" in note for note in recording.notes(meshed=True, wanted=True))
    assert any("no surface was seen" in note for note in recording.notes(meshed=False, wanted=True))
    assert any("switched off" in note for note in recording.notes(meshed=False, wanted=False))
    recording.add(tracked(1))
    assert recording.notes(meshed=True, wanted=True) == ()


def test_drifted_rotations_are_made_proper() -> None:
    recording = Recording(320)
    recording.add(tracked(0))
    drifted = np.eye(4)
    drifted[:3, :3] *= 1 + 1e-5
    final = recording.trajectory({0: drifted})
    np.testing.assert_allclose(np.linalg.det(final.T_world_cam[:, :3, :3]), 1, atol=1e-12)


def test_covariances_follow_their_frames_and_unknown_ones_are_nan() -> None:
    recording = Recording(320)
    recording.add(tracked(0))
    recording.add(tracked(1))
    poses = {0: np.eye(4), 1: np.eye(4)}
    found = recording.trajectory(poses, {1: 4 * np.eye(6)}).covariances
    assert found is not None
    np.testing.assert_array_equal(found[1], 4 * np.eye(6))
    assert np.isnan(found[0]).all()
    assert recording.trajectory(poses, {}).covariances is None


def test_keyframes_shrink_and_keep_image_and_depth_of_one_size() -> None:
    camera = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
    recording = Recording(keyframe_width=32)
    frame = Frame(0, 0.0, np.zeros((96, 128, 3), np.uint8), camera.resized(128, 96))
    recording.add_keyframe(frame, FrameEstimate(0, 0, np.eye(4), dense=dense(camera=camera)))
    recording.add(tracked(0))
    (keyframe,) = recording.keyframes({0: np.eye(4)})
    assert keyframe.dense.depth_m.shape == keyframe.rgb.shape[:2] == (24, 32)
    assert recording.camera == frame.camera


def test_a_long_run_keeps_few_keyframes_in_memory_and_loses_none() -> None:
    camera = Camera(16, 12, 15.0, 15.0, 7.5, 5.5)
    recording = Recording(keyframe_width=32)
    for index in range(50):
        frame = Frame(index, index / 30, np.full((12, 16, 3), index, np.uint8), camera)
        recording.add_keyframe(frame, FrameEstimate(index, index, np.eye(4), dense=dense(camera=camera)))
    gc.collect()
    assert sum(type(thing) is Keyframe for thing in gc.get_objects()) <= 32
    keyframes = list(recording.keyframes({index: np.eye(4) for index in range(50)}))
    assert [k.frame_index for k in keyframes] == list(range(50))
    recording.close()


def test_a_keyframe_needs_depth_and_a_run_needs_a_frame() -> None:
    recording = Recording(320)
    frame = Frame(3, 0.0, np.zeros((24, 32, 3), np.uint8), Camera(32, 24, 30.0, 30.0, 15.5, 11.5))
    with pytest.raises(ShapeError, match="frame 3"):
        recording.add_keyframe(frame, FrameEstimate(3, 3, np.eye(4)))
    with pytest.raises(TrackingError, match="no frame"):
        recording.check_not_empty()


@pytest.mark.parametrize("width", [16, 21, 40])
def test_thinned_pixels_keep_their_points(width: int) -> None:
    original = dense(camera=Camera(64, 48, 60.0, 55.0, 30.0, 20.0))
    small = at_most_wide(original, width)
    assert small.camera.width <= width
    assert small.depth_m.shape == (small.camera.height, small.camera.width)
    from remov3r.geometry import unproject

    np.testing.assert_allclose(unproject(small.depth_m, small.camera), small.points_cam, atol=1e-6)


def test_small_predictions_stay_as_they_are() -> None:
    original = dense()
    assert at_most_wide(original, 32) is original


def test_notes_that_say_the_same_become_one() -> None:
    notes = [
        "frame 3: tracking lost",
        "frame 5: tracking regained",
        "frame 9: tracking lost",
        "no mesh",
        "a: b",
    ]
    assert grouped(notes) == (
        "frames 3 to 9, 2 times: tracking lost",
        "frame 5: tracking regained",
        "no mesh",
        "a: b",
    )
    assert grouped(["no depth", "no depth"]) == ("no depth (2 times)",)
    jumps = ["3 frames jumped (first 7): kept", "2 frames jumped (first 70): kept"]
    assert grouped(jumps) == ("5 frames jumped: kept (first 7)",)
    assert grouped([]) == ()
