"""Each layout gives back the poses and the depth that its writer was given."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from remov3r.camera import Camera
from remov3r.errors import ConfigError, DataError
from remov3r.frontends.recorded import open_recording
from remov3r.frontends.recorded.check import check_recording
from remov3r.frontends.recorded.recording import Recording
from remov3r.geometry import inverse
from tests.backends.room import CAMERA
from tests.frontends.layouts import COUNT, WRITERS, depths, recorded_poses

STEPS = {"cut3r": 1, "slam3r": 1, "mast3r-slam": 4, "vggt-slam": 2}  # 3 for the others


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Camera]]:
    """Every layout."""
    root = tmp_path_factory.mktemp("layouts")
    return {kind: (root / kind, write(root / kind)) for kind, write in WRITERS.items()}


def relative(poses: np.ndarray) -> np.ndarray:
    return np.asarray(inverse(poses[0]) @ poses)


def found_poses(recording: Recording) -> np.ndarray:
    poses = [frame.T_world_cam for frame in recording.frames]
    return np.stack([T for T in poses if T is not None])


@pytest.mark.parametrize("kind", WRITERS)
def test_poses_and_depth_come_back(kind: str, written: dict[str, tuple[Path, Camera]]) -> None:
    path, camera = written[kind]
    step = STEPS.get(kind, 3)
    recording = open_recording(str(path))
    assert recording.kind == kind.split()[0]
    assert recording.scale == ("metric" if kind == "cut3r" else "unknown")
    by_time = kind == "mast3r-slam"
    expected = np.arange(0, COUNT, step) / (30 if by_time else 1)
    np.testing.assert_allclose(recording.numbers, expected, atol=1e-9)
    np.testing.assert_allclose(found_poses(recording), recorded_poses()[::step], atol=1e-5)
    exact = depths(camera)[::step]
    for frame, depth in zip(recording.frames, exact):
        dense = frame.load_dense(CAMERA)
        assert dense is not None
        if by_time:  # drawn from points beside the pixels, and missing at edges
            there = dense.depth_m > 0
            assert there.mean() > 0.8
            assert np.median(np.abs(dense.depth_m[there] / depth[there] - 1)) < 5e-3
        else:
            np.testing.assert_allclose(dense.depth_m, depth, atol=1e-5)


@pytest.mark.parametrize("kind", WRITERS)
def test_the_checker_finds_nothing_wrong(kind: str, written: dict[str, tuple[Path, Camera]]) -> None:
    findings = check_recording(str(written[kind][0]))
    assert [f for f in findings if f.level != "note"] == []


def test_a_layout_can_be_insisted_on(written: dict[str, tuple[Path, Camera]]) -> None:
    path = written["mast3r-slam"][0]
    assert open_recording(f"mast3r-slam:{path / 'room.txt'}").kind == "mast3r-slam"
    assert open_recording(str(path / "room.txt")).kind == "mast3r-slam"
    with pytest.raises(DataError, match=r"registered_pcds.npy"):
        open_recording(f"slam3r:{path}")


def test_the_focal_length_of_pointmaps_is_found(written: dict[str, tuple[Path, Camera]]) -> None:
    for kind in ("slam3r", "vggt-slam"):
        path, camera = written[kind]
        dense = open_recording(str(path)).frames[0].load_dense(None)
        assert dense is not None
        assert dense.K is not None
        assert dense.K[0, 0] == pytest.approx(camera.fx, rel=1e-4)


def test_nothing_and_the_unknown_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such recording"):
        open_recording(str(tmp_path / "none"))
    with pytest.raises(DataError, match="known layout"):
        open_recording(str(tmp_path))
    with pytest.raises(ConfigError, match="give its folder"):
        open_recording("cut3r:")


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def spoil(file: Path, value: float) -> None:
    array = np.load(file)
    array.flat[0] = value
    np.save(file, array)


def shorten(file: Path) -> None:
    np.save(file, np.load(file)[:-1])


@pytest.mark.parametrize(
    ("kind", "break_it", "said"),
    [
        ("cut3r", lambda p: (p / "depth/000003.npy").unlink(), "11 in depth/"),
        ("cut3r", lambda p: cut_off(p / "camera/000002.npz"), "000002.npz: not a complete"),
        ("slam3r", lambda p: cut_off(p / "preds/registered_pcds.npy"), "registered_pcds.npy: not a complete"),
        ("slam3r", lambda p: shorten(p / "preds/registered_confs.npy"), "need an array of 12x90x90"),
        ("vista-slam", lambda p: spoil(p / "trajectory.npy", np.nan), "frame 0: pose holds NaN"),
        ("vista-slam", lambda p: (p / "confs.npz").unlink(), "confs.npz: cannot be read"),
        ("vista-slam", lambda p: shorten(p / "scales.npy"), "scales.npy: need an array of 4x1"),
        ("droid-slam", lambda p: spoil(p / "poses.npy", np.inf), "poses hold NaN or infinite"),
        ("droid-slam", lambda p: shorten(p / "disps.npy"), "disps has 3"),
        ("droid-slam torch", lambda p: cut_off(p / "room.pth"), "room.pth: not a complete"),
        ("mast3r-slam", lambda p: (p / "room.txt").write_text("0 1 2 3\n"), "line 1: need 8"),
        ("vggt-slam", lambda p: (p / "room.txt").write_text(""), "holds no pose"),
        ("vggt-slam", lambda p: (p / "room.txt").write_text("0 0 0 0 0 0 0 0\n"), "line 1: quaternion"),
    ],
)
def test_bad_files_are_named_in_one_line(
    kind: str, break_it: object, said: str, written: dict[str, tuple[Path, Camera]], tmp_path: Path
) -> None:
    path = tmp_path / "copy"
    shutil.copytree(written[kind][0], path)
    assert callable(break_it)
    break_it(path)
    with pytest.raises(DataError, match=said) as raised:
        open_recording(str(path))
    assert "\n" not in str(raised.value)
    assert check_recording(str(path))[0].level == "error"


def test_bad_maps_are_named_when_they_are_read(
    written: dict[str, tuple[Path, Camera]], tmp_path: Path
) -> None:
    path = tmp_path / "copy"
    shutil.copytree(written["cut3r"][0], path)
    np.save(path / "conf/000001.npy", np.ones((3, 3), np.float32))
    recording = open_recording(str(path))
    with pytest.raises(DataError, match=r"000001.npy: need an array of 64x96"):
        recording.frames[1].load_dense(None)
    cloud = tmp_path / "cloud"
    shutil.copytree(written["mast3r-slam"][0], cloud)
    cut_off(cloud / "room.ply")
    with pytest.raises(DataError, match=r"room.ply: cut off"):
        open_recording(str(cloud)).frames[0].load_dense(CAMERA)


def test_a_pointmap_that_fits_no_camera_has_no_pose(
    written: dict[str, tuple[Path, Camera]], tmp_path: Path
) -> None:
    path = tmp_path / "copy"
    shutil.copytree(written["slam3r"][0], path)
    points = np.load(path / "preds/registered_pcds.npy")
    points[4] = np.random.default_rng(0).normal(size=points[4].shape)
    points[7] = np.nan
    np.save(path / "preds/registered_pcds.npy", points)
    frames = open_recording(str(path)).frames
    assert [i for i, frame in enumerate(frames) if frame.T_world_cam is None] == [4, 7]
    lost = [f for f in check_recording(str(path)) if f.level != "note"]
    assert [f.trap for f in lost] == ["lost poses"]
    assert "4, 7" in lost[0].said
