"""The front end that replays a recording, alone and in the whole pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from remov3r.backends.bundle import BundleBackend, BundleConfig
from remov3r.errors import DataError, TrackingError
from remov3r.frontends.recorded import (
    NeutralFrame,
    RecordedConfig,
    RecordedFrontEnd,
    RecordingFrontEnd,
    open_recording,
    write_recording,
)
from remov3r.frontends.recorded.front_end import MOST_UNMATCHED_AT_START
from remov3r.frontends.recorded.recording import Match
from remov3r.geometry import inverse
from remov3r.models.weights import save_network
from remov3r.pipelines.config import PipelineConfig
from remov3r.pipelines.reconstruct import reconstruct
from remov3r.protocols import FrontEnd
from remov3r.types import Frame, Reconstruction
from tests.backends.room import CAMERA, room_depth
from tests.backends.textured_room import ExactFrontEnd, drive, relative
from tests.frontends.layouts import COUNT, WRITERS, poses, recorded_poses
from tests.frontends.sources import ListedFrames, room_frames
from tests.models.tiny import tiny_network

SIX = {"cut3r", "slam3r", "mast3r-slam", "vggt-slam", "vista-slam", "droid-slam"}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """The walk that was recorded."""
    return room_frames(COUNT)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every layout, and the neutral format."""
    root = tmp_path_factory.mktemp("layouts")
    for kind in SIX:
        WRITERS[kind](root / kind)
    write_recording(root / "remov3r", neutral(), scale="metric")
    return root


def neutral() -> list[NeutralFrame]:
    return [
        NeutralFrame(i, i / 30, T, CAMERA.K, room_depth(own).astype(np.float32))
        for i, (T, own) in enumerate(zip(recorded_poses(), poses()))
    ]


def front_end(path: Path, **config: float) -> RecordedFrontEnd:
    return RecordedFrontEnd(open_recording(str(path)), RecordedConfig.model_validate(config))


def run(frames: list[Frame], config: PipelineConfig) -> Reconstruction:
    return reconstruct(ListedFrames(frames), config)


def centres(result: Reconstruction) -> np.ndarray:
    return result.trajectory.T_world_cam[:, :3, 3]


@pytest.mark.parametrize("kind", ["cut3r", "slam3r", "remov3r"])
def test_without_a_backend_the_poses_are_the_recorded_ones(
    kind: str, written: Path, frames: list[Frame]
) -> None:
    result = run(frames, PipelineConfig(front_end=f"recorded:{written / kind}", backend="none", mesh=False))
    np.testing.assert_allclose(result.trajectory.T_world_cam, relative(poses()), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "backend"),
    [*((kind, "bundle") for kind in sorted(SIX)), ("cut3r", "pose_graph"), ("droid-slam", "pose_graph")],
)
def test_backends_run_on_every_layout(kind: str, backend: str, written: Path, frames: list[Frame]) -> None:
    result = run(frames, PipelineConfig(front_end=f"recorded:{written / kind}", backend=backend, mesh=False))
    off = np.linalg.norm(centres(result) - relative(poses())[:, :3, 3], axis=1)
    assert off.max() < 0.05
    assert {state.value for state in result.trajectory.state} == {"ok"}


@pytest.mark.parametrize("kind", sorted(SIX))
def test_recorded_depth_lies_where_the_frame_shows_it(kind: str, written: Path, frames: list[Frame]) -> None:
    dense = front_end(written / kind).process(frames[0]).dense
    assert dense is not None
    camera, there = dense.camera, dense.depth_m > 0
    exact = room_depth(poses()[0], camera)
    error = np.abs(dense.depth_m[there] / exact[there] - 1)
    assert (np.median(error) if kind == "mast3r-slam" else error.max()) < 5e-3
    corners = np.array([[-0.5, -0.5], [CAMERA.width - 0.5, CAMERA.height - 0.5]])
    seen = (corners - [CAMERA.cx, CAMERA.cy]) / CAMERA.fx * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    assert (np.abs(seen - [[-0.5, -0.5], [camera.width - 0.5, camera.height - 0.5]]) <= 0.5).all()
    assert np.isfinite(dense.sigma_m[there]).all()
    assert np.isinf(dense.sigma_m[~there]).all()
    np.testing.assert_allclose(dense.points_cam[..., 2], dense.depth_m)


def test_confidence_becomes_sigma(written: Path, frames: list[Frame]) -> None:
    dense = front_end(written / "cut3r", relative_sigma=0.1).process(frames[0]).dense
    assert dense is not None
    rows = np.flatnonzero((dense.depth_m > 0).any(1))
    first = rows[0]  # above it are rows that the recording does not show
    share = dense.sigma_m[first:, :] / np.where(dense.depth_m > 0, dense.depth_m, 1)[first:, :]
    assert share[0, 0] == pytest.approx(0.1)
    assert share[1, 2] == pytest.approx(0.2)  # half the confidence


def test_frames_between_keyframes_say_that_they_know_nothing(written: Path, frames: list[Frame]) -> None:
    replay = front_end(written / "droid-slam")
    estimates = [replay.process(frame) for frame in frames[:5]]
    assert [e.is_keyframe for e in estimates] == [True, False, False, True, False]
    for estimate in (estimates[1], estimates[2], estimates[4]):
        assert estimate.covariance is not None
        assert np.isinf(np.diag(estimate.covariance)).all()
        assert np.isfinite(estimate.T_key_cam).all()
    assert estimates[3].covariance is None
    assert estimates[3].T_world_key is not None
    np.testing.assert_allclose(estimates[3].T_world_key, relative(poses())[3], atol=1e-5)
    promoted = replay.promote()
    assert promoted.dense is not None
    assert not promoted.dense.depth_m.any()
    assert "8 of" not in " ".join(replay.notes())
    assert any("3 of 5 frames" in note for note in replay.notes())
    assert any("1 keyframes have no recorded depth" in note for note in replay.notes())


def test_keyframes_follow_the_rule_where_none_are_recorded(written: Path, frames: list[Frame]) -> None:
    by_count = front_end(written / "cut3r", keyframe_frames=5, keyframe_distance=9, keyframe_angle_deg=180)
    assert [i for i, f in enumerate(frames) if by_count.process(f).is_keyframe] == [0, 5, 10]
    by_angle = front_end(written / "cut3r", keyframe_angle_deg=2, keyframe_distance=9)
    marks = [by_angle.process(f).is_keyframe for f in frames]
    assert 1 < sum(marks) < COUNT
    none = front_end(written / "cut3r", keyframe_distance=9, keyframe_angle_deg=180)
    assert sum(none.process(f).is_keyframe for f in frames) == 1


def test_transforms_follow_the_keyframe_that_the_backend_makes(written: Path, frames: list[Frame]) -> None:
    replay = front_end(written / "cut3r", keyframe_distance=9, keyframe_angle_deg=180)
    for frame in frames[:4]:
        replay.process(frame)
    assert replay.promote().dense is not None
    estimate = replay.process(frames[5])
    assert estimate.keyframe_index == 3
    np.testing.assert_allclose(estimate.T_key_cam, inverse(poses()[3]) @ poses()[5], atol=1e-5)


def test_a_recording_of_every_third_frame_is_found(written: Path, frames: list[Frame]) -> None:
    spread = [replace(frame, index=10 + 3 * i) for i, frame in enumerate(frames)]
    replay = front_end(written / "cut3r", first=10, stride=3)
    assert all(replay.process(frame).covariance is None for frame in spread)
    assert replay.process(replace(spread[4], index=11)).covariance is not None


def test_another_source_is_refused(written: Path, frames: list[Frame]) -> None:
    replay = front_end(written / "mast3r-slam")
    late = [replace(frames[0], index=i, timestamp_s=100 + i / 30) for i in range(MOST_UNMATCHED_AT_START)]
    for frame in late[:-1]:
        replay.process(frame)
    with pytest.raises(DataError, match=r"none of the first 60 frames .* from 0.000000 s to 0.266667 s"):
        replay.process(late[-1])


def test_timestamps_are_matched_within_the_tolerance(tmp_path: Path, frames: list[Frame]) -> None:
    write_recording(tmp_path / "r", neutral(), scale="metric", match=Match.TIMESTAMP)
    near = [replace(f, index=500 + f.index, timestamp_s=f.timestamp_s + 0.004) for f in frames[:3]]
    replay = front_end(tmp_path / "r", tolerance_s=0.005)
    assert all(replay.process(frame).covariance is None for frame in near)
    strict = front_end(tmp_path / "r", tolerance_s=0.003)
    assert all(strict.process(frame).covariance is not None for frame in near)


def test_intrinsics_of_another_camera_are_refused(tmp_path: Path, frames: list[Frame]) -> None:
    K = np.array([[900.0, 0, 79.5], [0, 900.0, 59.5], [0, 0, 1]])
    write_recording(tmp_path / "r", [replace(f, K=K) for f in neutral()], scale="metric")
    with pytest.raises(DataError, match="do not fit the source's camera"):
        front_end(tmp_path / "r", relative_sigma=0.1).process(frames[0])


def test_promote_needs_a_frame(written: Path, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="process"):
        front_end(written / "cut3r").promote()
    with pytest.raises(TrackingError, match="process"):
        RecordingFrontEnd(ExactFrontEnd(), tmp_path / "new").promote()


def test_a_recorded_run_is_replayed_to_the_bit(tmp_path: Path) -> None:
    sequence = room_frames(25)
    config = BundleConfig()

    def backend_after(given: FrontEnd) -> BundleBackend:
        backend = BundleBackend(config)
        drive(sequence, given, backend)
        backend.finish()
        return backend

    first = backend_after(RecordingFrontEnd(ExactFrontEnd((1.0, 1.1)), tmp_path / "r")).poses()
    second = backend_after(front_end(tmp_path / "r")).poses()
    assert list(first) == list(second)
    assert all(np.array_equal(first[i], second[i]) for i in first)


def test_a_run_of_the_network_is_replayed_to_the_bit(tmp_path: Path, frames: list[Frame]) -> None:
    save_network(tiny_network(), tmp_path / "tiny.safetensors", version="0", sigma_factor=1.0)
    network = {"weights": str(tmp_path / "tiny.safetensors"), "input_pixels": 64 * 64}
    common = {"mesh": False, "threads": 1}
    recorded = PipelineConfig.model_validate({"network": network, "record": str(tmp_path / "r"), **common})
    first = run(frames, recorded)
    second = run(frames, PipelineConfig.model_validate({"front_end": f"recorded:{tmp_path / 'r'}", **common}))
    assert np.array_equal(first.trajectory.T_world_cam, second.trajectory.T_world_cam)
    assert np.array_equal(first.online.T_world_cam, second.online.T_world_cam)
    assert first.trajectory.state == second.trajectory.state
    for a, b in zip(first.keyframes, second.keyframes, strict=True):
        assert a.frame_index == b.frame_index
        assert a.dense.camera == b.dense.camera
        for name in ("depth_m", "depth_confidence", "points_cam", "points_confidence", "sigma_m"):
            assert np.array_equal(getattr(a.aligned, name), getattr(b.aligned, name)), name
    with pytest.raises(DataError, match="not empty"):
        run(frames, recorded)
