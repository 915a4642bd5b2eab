"""A second video posed in the map of a first run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from remov3r import Slam
from remov3r.backends.localiser import Localiser
from remov3r.camera import Camera
from remov3r.data.synthetic.source import SyntheticSource
from remov3r.errors import DataError
from remov3r.geometry import inverse
from remov3r.pipelines.cli import main
from remov3r.pipelines.demo import write_sequence
from remov3r.pipelines.relocalise import Relocalised, load_map, relocalise
from remov3r.types import Frame
from tests.backends import textured_room
from tests.backends.room import CAMERA, pose
from tests.backends.textured_room import _TEXTURES, frames, path, render
from tests.pipelines.test_session import Listed, config

FIRST = path(30)
ANGLES = np.linspace(0, 2 * np.pi, 12)
SECOND = np.stack(
    [
        pose(0.2 * np.cos(a) - 0.05, 0.15 * np.sin(a), 0.1 + 0.1 * np.sin(2 * a), 0.6 + 0.1 * np.cos(a), -0.1)
        for a in ANGLES
    ]
)
TRUTH = np.asarray(inverse(FIRST[0]) @ SECOND)  # in the world of the first path


@pytest.fixture(scope="module", params=["bundle", "pose_graph"])
def sessions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of a walk through the room: one that was stopped before the end, and the finished one."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("session")
    slam = Slam.from_config(config(request.param))
    for frame in frames(FIRST):
        slam.track(frame)
    slam.save(folder / "stopped")
    slam.finish()
    slam.save(folder / "finished/session")
    return folder / "stopped", folder / "finished"


def errors_m(found: Relocalised) -> np.ndarray:
    return np.linalg.norm(
        found.trajectory.T_world_cam[:, :3, 3] - TRUTH[found.trajectory.frame_index][:, :3, 3], axis=1
    )


def test_a_second_path_through_the_room_is_found(sessions: tuple[Path, Path]) -> None:
    for session in sessions:
        found = relocalise(session, Listed(frames(SECOND)))
        assert found.found.all()
        assert np.median(errors_m(found)) < 0.03
        assert errors_m(found).max() < 0.05
        np.testing.assert_array_equal(found.trajectory.frame_index, found.frame_index)


def test_another_camera_does_as_well(sessions: tuple[Path, Path]) -> None:
    wide = Camera(CAMERA.width, CAMERA.height, CAMERA.fx * 0.85, CAMERA.fy * 0.85, CAMERA.cx, CAMERA.cy)
    listed = [Frame(i, i / 30, render(T, wide), wide) for i, T in enumerate(SECOND[:5])]
    found = relocalise(sessions[1], Listed(listed))
    assert found.found.all()
    assert np.median(errors_m(found)) < 0.05


def test_frames_that_show_nothing_or_another_room_are_not_found(
    sessions: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = frames(SECOND, blank=range(3, 6))
    found = relocalise(sessions[1], Listed(listed[:8]))
    np.testing.assert_array_equal(np.flatnonzero(~found.found), [3, 4, 5])
    monkeypatch.setattr(textured_room, "_TEXTURES", [t[::-1, ::-1].swapaxes(0, 1) for t in _TEXTURES[::-1]])
    other = [Frame(i, i / 30, render(T), CAMERA) for i, T in enumerate(SECOND[:4])]
    nowhere = relocalise(sessions[1], Listed(other))
    assert not nowhere.found.any()
    assert nowhere.trajectory.T_world_cam.shape == (0, 4, 4)
    assert list(nowhere.frame_index) == [0, 1, 2, 3]


def test_the_map_itself_does_not_change(sessions: tuple[Path, Path]) -> None:
    landmark_map = load_map(sessions[1])
    before = landmark_map.points.copy(), landmark_map.camera
    localiser = Localiser(landmark_map, CAMERA.resized(160, 120))
    localiser.locate(np.zeros((120, 160), np.uint8))
    np.testing.assert_array_equal(landmark_map.points, before[0])
    assert landmark_map.camera == before[1]


def test_sessions_without_a_map_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no session there"):
        load_map(tmp_path)
    slam = Slam.from_config(config("bundle"))
    slam.save(tmp_path / "empty")
    with pytest.raises(DataError, match="holds no landmarks"):
        load_map(tmp_path / "empty")


def test_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Two rooms that share their textures: frames of the one are found in its map, those of the other are not."""
    camera = Camera(240, 180, 200.0, 200.0, 119.5, 89.5)
    rooms = [write_sequence(SyntheticSource(seed, 8, camera), tmp_path / str(seed)).frames for seed in (2, 5)]
    run = ["run", str(rooms[0]), "--front-end", "sensor", "--no-mesh", "--out", str(tmp_path / "run")]
    assert main(run) == 0
    assert main(["relocalise", str(tmp_path / "run"), str(rooms[0]), "--out", str(tmp_path / "same")]) == 0
    assert "8 of 8 frames found" in capsys.readouterr().out
    assert len((tmp_path / "same/trajectory.tum").read_text().splitlines()) >= 8
    assert main(["relocalise", str(tmp_path / "run"), str(rooms[1]), "--out", str(tmp_path / "other")]) == 1
    done = capsys.readouterr()
    assert "0 of 8 frames found" in done.out
    assert done.err.count("\n") == 1
    states = [line.split(",")[2] for line in (tmp_path / "other/frames.csv").read_text().splitlines()[1:]]
    assert states == ["lost"] * 8
    assert main(["relocalise", str(tmp_path), str(rooms[1]), "--out", str(tmp_path / "no")]) == 1
    assert "no session there" in capsys.readouterr().err
