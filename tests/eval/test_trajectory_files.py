"""The same trajectory in every format, and files that are none of them."""

from pathlib import Path

import numpy as np
import pytest

from remov3r.data.pose_files import known_trajectory
from remov3r.data.tum_trajectory import write_tum
from remov3r.errors import DataError
from remov3r.eval.trajectory_files import read_trajectory_file, with_times
from remov3r.geometry import quaternion_xyzw, se3_exp
from remov3r.types import Trajectory

T = se3_exp(np.random.default_rng(0).normal(0, 1, (12, 6)))
TIMES = 1403636579.763555 + np.arange(12) / 20


def trajectory() -> Trajectory:
    return known_trajectory(range(12), TIMES.tolist(), list(T))


def write_kitti(path: Path, count: int = 12) -> Path:
    np.savetxt(path, T[:count, :3].reshape(-1, 12))
    return path


def write_all(folder: Path) -> dict[str, Path]:
    write_tum(folder / "a.tum", trajectory())
    q = quaternion_xyzw(T)
    rows = np.column_stack([T[:, :3, 3], q[:, [3, 0, 1, 2]], np.zeros((12, 9))])
    euroc = [f"{round(t * 1e9)}," + ",".join(f"{x:.12f}" for x in row) for t, row in zip(TIMES, rows)]
    heading = "#timestamp [ns], p_RS_R_x [m], p_RS_R_y [m], ..."
    (folder / "data.csv").write_text("\n".join([heading, *euroc]) + "\n")
    np.savez(folder / "b.npz", timestamps_s=TIMES, T_world_cam=T)
    return {"tum": folder / "a.tum", "euroc": folder / "data.csv", "npz": folder / "b.npz"}


def test_every_format_with_times_is_the_same_trajectory(tmp_path: Path) -> None:
    for kind, path in write_all(tmp_path).items():
        read = read_trajectory_file(path)
        assert (read.format, read.timed) == (kind, True)
        np.testing.assert_allclose(read.trajectory.T_world_cam, T, atol=2e-9)
        np.testing.assert_allclose(read.trajectory.timestamps_s, TIMES, rtol=0, atol=1e-6)


def test_kitti_takes_the_times_of_the_reference(tmp_path: Path) -> None:
    tum = read_trajectory_file(write_all(tmp_path)["tum"])
    kitti = read_trajectory_file(write_kitti(tmp_path / "00.txt"))
    assert (kitti.format, kitti.timed, kitti.name) == ("kitti", False, "00")
    np.testing.assert_allclose(with_times(kitti, tum).timestamps_s, TIMES, rtol=0, atol=1e-6)
    np.testing.assert_allclose(with_times(tum, kitti).timestamps_s, np.arange(12))
    np.testing.assert_allclose(with_times(kitti, kitti).T_world_cam, T)
    with pytest.raises(
        DataError, match=r"no timestamps.*9 estimated and 12 reference poses: write it as TUM"
    ):
        with_times(read_trajectory_file(write_kitti(tmp_path / "short.txt", 9)), tum)


def test_names_of_runs_come_from_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "kitchen"
    folder.mkdir()
    write_tum(folder / "trajectory.tum", trajectory())
    write_tum(folder / "trajectory_online.tum", trajectory())
    assert read_trajectory_file(folder).name == "kitchen"
    assert read_trajectory_file(folder / "trajectory_online.tum").name == "kitchen trajectory_online"


def test_nan_passes_so_that_the_comparison_can_count_it(tmp_path: Path) -> None:
    (tmp_path / "x.tum").write_text("0 0 0 0 0 0 0 1\n1 nan nan nan nan nan nan nan\n")
    read = read_trajectory_file(tmp_path / "x.tum").trajectory
    assert np.isfinite(read.T_world_cam).all((1, 2)).tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2 3\n", "3 numbers a line; TUM has 8"),
        ("0 0 0 0 0 0 0 1\n1 0 0\n", "line 2: 3 numbers, 8 in the lines before"),
        ("0 0 0 0 0 0 0 1\nx 0 0 0 0 0 0 1\n", "line 2: not a number"),
        ("# nothing\n", "holds no pose"),
        ("0 0 0 0 9 9 9 9\n", "order of the columns"),
        ("1 0 0 0 0 2 0 0 0 0 1 0\n", "pose 0: not a rigid pose"),
    ],
)
def test_files_that_hold_no_trajectory(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(DataError, match=said):
        read_trajectory_file(tmp_path / "x.txt")


def test_archives_without_the_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", poses=T)
    with pytest.raises(DataError, match="needs the arrays timestamps_s and T_world_cam"):
        read_trajectory_file(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", timestamps_s=TIMES[:3], T_world_cam=T)
    with pytest.raises(DataError, match=r"need \(n, 4, 4\)"):
        read_trajectory_file(tmp_path / "y.npz")
    with pytest.raises(DataError, match="cannot be read"):
        read_trajectory_file(tmp_path / "absent.npz")
