"""What people really give a program: each case ends in one clear line, or in a result that says what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from remov3r.data.stream import StreamedSource
from remov3r.data.synthetic.source import SyntheticSource
from remov3r.data.synthetic.world import SyntheticWorld
from remov3r.pipelines.demo import DemoFiles, write_sequence
from remov3r.pipelines.load import load_reconstruction
from remov3r.pipelines.reconstruct import Slam
from remov3r.types import TrackingState
from tests.integration.conftest import CAMERA, Outcome, Run
from tests.pipelines.results import trajectory

SENSOR = ("--front-end", "sensor")


def assert_one_line(done: Outcome, *parts: str) -> None:
    """One line on standard error that says what and where, and status 1."""
    assert done.status == 1
    assert done.err.startswith("remov3r: ")
    assert done.err.count("\n") == 1
    for part in parts:
        assert part in done.err


@pytest.fixture
def copied(room: DemoFiles, tmp_path: Path) -> Path:
    """Twelve frames of the room in a folder that a test may damage."""
    folder = tmp_path / "room"
    for part in ("rgb", "depth"):
        (folder / part).mkdir(parents=True)
        for file in sorted((room.frames / part).iterdir())[:12]:
            shutil.copy(file, folder / part)
    shutil.copy(room.frames / "intrinsics.txt", folder)
    poses = (room.frames / "poses.txt").read_text().splitlines()[:12]
    (folder / "poses.txt").write_text("\n".join(poses) + "\n")
    return folder


def test_missing_file(remov3r: Run, tmp_path: Path) -> None:
    done = remov3r("run", tmp_path / "none.mp4", "--out", tmp_path / "out")
    assert_one_line(done, "none.mp4", "no such file")
    assert not (tmp_path / "out").exists()


def test_zero_length_video(remov3r: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert_one_line(remov3r("run", tmp_path / "empty.mp4", "--camera", "1,1,0,0"), "empty.mp4")


def test_unreadable_video(remov3r: Run, tmp_path: Path) -> None:
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    assert_one_line(remov3r("run", tmp_path / "noise.mp4", "--camera", "1,1,0,0"), "noise.mp4")


def test_image_of_another_size_in_mid_sequence(remov3r: Run, copied: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(copied / "rgb/000007.jpg"), np.zeros((90, 120, 3), np.uint8))
    cv2.imwrite(str(copied / "depth/000007.png"), np.ones((90, 120), np.uint16))
    done = remov3r("run", copied, *SENSOR, "--no-mesh", "--out", tmp_path / "out")
    assert_one_line(done, "frame 7", "120x90", "240x180", "saved")
    result = load_reconstruction(tmp_path / "out")
    assert len(result.trajectory) == 7
    assert "stopped after 7 of 12 frames" in result.notes[0]


def test_no_camera_given(remov3r: Run, room: DemoFiles, tmp_path: Path) -> None:
    video = shutil.copy(room.video, tmp_path / "bare.mp4")
    assert_one_line(remov3r("run", video, "--out", tmp_path / "out"), "bare.mp4", "--camera fx,fy,cx,cy")


@pytest.mark.parametrize(
    ("value", "said"), [("nan", "NaN"), ("inf", "infinite"), ("3.5", "not a rigid pose")]
)
def test_bad_ground_truth_pose(remov3r: Run, copied: Path, tmp_path: Path, value: str, said: str) -> None:
    lines = (copied / "poses.txt").read_text().splitlines()
    numbers = lines[4].split()
    numbers[0] = value
    lines[4] = " ".join(numbers)
    (copied / "poses.txt").write_text("\n".join(lines) + "\n")
    done = remov3r("run", copied, *SENSOR, "--out", tmp_path / "out")
    assert_one_line(done, "poses.txt, line 5", said)


def test_depth_with_only_invalid_pixels(remov3r: Run, copied: Path, tmp_path: Path) -> None:
    for file in (copied / "depth").iterdir():
        cv2.imwrite(str(file), np.zeros((180, 240), np.uint16))
    assert_one_line(remov3r("run", copied, *SENSOR, "--out", tmp_path / "out"), "frame 0", "no valid pixel")


def test_one_frame(remov3r: Run, copied: Path, tmp_path: Path) -> None:
    done = remov3r("run", copied, *SENSOR, "--max-frames", 1, "--out", tmp_path / "out")
    assert done.status == 0
    assert "note: only one frame" in done.out
    result = load_reconstruction(tmp_path / "out")
    assert len(result.trajectory) == 1
    assert result.mesh is not None
    assert len(result.mesh.triangles) > 500
    assert json.loads((tmp_path / "out/metrics.json").read_text())["depth"]["frames"] == 1


def test_static_camera(world: SyntheticWorld, remov3r: Run, tmp_path: Path) -> None:
    source = SyntheticSource(2, 15, CAMERA, world=world, motion="static")
    files = write_sequence(source, tmp_path)
    done = remov3r("run", files.frames, *SENSOR, "--no-mesh", "--out", tmp_path / "out")
    assert done.status == 0
    result = load_reconstruction(tmp_path / "out")
    assert np.abs(result.trajectory.T_world_cam[:, :3, 3]).max() < 0.01
    assert TrackingState.LOST not in result.trajectory.state


@pytest.mark.parametrize("kind", ["black", "blank"])
def test_black_or_textureless_stretch_is_lost_and_regained(
    world: SyntheticWorld, remov3r: Run, tmp_path: Path, kind: str
) -> None:
    stretch = (14, 26)
    black, blank = (stretch, None) if kind == "black" else (None, stretch)
    source = SyntheticSource(2, 40, CAMERA, world=world, black=black, blank=blank)
    files = write_sequence(source, tmp_path)
    done = remov3r("run", files.frames, *SENSOR, "--no-mesh", "--out", tmp_path / "out")
    assert done.status == 0, done.err
    result = load_reconstruction(tmp_path / "out")
    assert "then regained" in " ".join(result.notes)
    assert all(state is not TrackingState.OK for state in result.trajectory.state[14:26])
    assert result.trajectory.state[-1] is TrackingState.OK
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["trajectory"]["all"]["poses"] == 40


def test_output_folder_that_cannot_be_written(
    remov3r: Run, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(Slam, "track", lambda *_: pytest.fail("the work began before the folder was tried"))
    done = remov3r("run", copied, *SENSOR, "--out", tmp_path / "file/out")
    assert_one_line(done, "file/out", "cannot be written")


def test_interrupt_in_mid_run_saves_what_was_done(
    remov3r: Run, room: DemoFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def track_then_interrupt(slam: Slam, *arguments: object) -> object:
        answer = original(slam, *arguments)  # type: ignore[arg-type]
        if len(slam) == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return answer

    original, handler = Slam.track, signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Slam, "track", track_then_interrupt)
    done = remov3r("run", room.frames, *SENSOR, "--no-mesh", "--out", tmp_path / "out")
    assert done.status == 130
    assert "stopped after 9 of 40 frames: interrupted; what was done until then is saved" in done.err
    assert len(load_reconstruction(tmp_path / "out").trajectory) == 9
    assert signal.getsignal(signal.SIGINT) is handler


def test_disk_that_fills_up_while_saving(
    remov3r: Run, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("remov3r.pipelines.keyframe_files._save", full)
    done = remov3r("run", copied, *SENSOR, "--no-mesh", "--out", tmp_path / "out")
    assert_one_line(done, "No space left", "saved so far: ", "trajectory.tum")
    assert len((tmp_path / "out/trajectory.tum").read_text().splitlines()) == 12


def test_ground_truth_of_other_times_does_not_cost_the_run(
    remov3r: Run, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StreamedSource, "reference", lambda _: trajectory())
    done = remov3r("run", copied, *SENSOR, "--no-mesh", "--out", tmp_path / "out")
    assert done.status == 0
    assert "not scored" in done.err
    assert not (tmp_path / "out/metrics.json").exists()
    assert (tmp_path / "out/report.html").exists()
