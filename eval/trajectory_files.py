"""Read trajectories that any system wrote: TUM, KITTI, EuRoC csv, npz. Told apart by what is in the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float

from remov3r.data.pose_files import known_trajectory, read_lines
from remov3r.errors import DataError
from remov3r.geometry import checked_pose, from_quaternion_xyzw
from remov3r.types import Trajectory

Format = Literal["tum", "kitti", "euroc", "npz"]
_NPZ_KEYS = ("timestamps_s", "T_world_cam")


@dataclass(frozen=True)
class TrajectoryFile:
    """A trajectory as read.

    Attributes:
        name: for tables; of the run's folder where the file is a run's `trajectory.tum`.
        timed: False where the file has no timestamps (KITTI); the pose number then stands for the time.
    """

    name: str
    trajectory: Trajectory
    format: Format
    timed: bool


def read_trajectory_file(path: Path) -> TrajectoryFile:
    """Read a trajectory; the output folder of a run stands for its `trajectory.tum`.

    TUM: `timestamp tx ty tz qx qy qz qw`. KITTI: 12 numbers, the upper rows of the pose. EuRoC: comma-separated,
    nanoseconds, position, quaternion w x y z, whatever follows. npz: `timestamps_s` (n), `T_world_cam` (n 4 4).

    Raises:
        DataError: no such file, none of these formats, or a row that is no pose.
    """
    if path.is_dir():
        path = path / "trajectory.tum"
    own = path.stem in ("trajectory", "trajectory_online", "keyframes")
    name = path.parent.name if path.stem == "trajectory" and path.parent.name else path.stem
    if own and path.stem != "trajectory":
        name = f"{path.parent.name} {path.stem}"
    if path.suffix == ".npz":
        return TrajectoryFile(name, _read_npz(path), "npz", True)
    table = _table(path)
    width = table.shape[1]
    if path.suffix == ".csv" and width >= 8:
        times, q_xyzw = table[:, 0] * 1e-9, table[:, [5, 6, 7, 4]]
        return TrajectoryFile(name, _by_quaternions(path, times, table[:, 1:4], q_xyzw), "euroc", True)
    if width == 8:
        trajectory = _by_quaternions(path, table[:, 0], table[:, 1:4], table[:, 4:])
        return TrajectoryFile(name, trajectory, "tum", True)
    if width == 12:
        T = np.tile(np.eye(4), (len(table), 1, 1))
        T[:, :3] = table.reshape(-1, 3, 4)
        return TrajectoryFile(name, _by_matrices(path, np.arange(float(len(T))), T), "kitti", False)
    raise DataError(
        f"{path}: {width} numbers a line; TUM has 8 (timestamp tx ty tz qx qy qz qw), KITTI 12, EuRoC is a .csv "
        "with at least 8"
    )


def with_times(file: TrajectoryFile, reference: TrajectoryFile) -> Trajectory:
    """Give a trajectory without timestamps those of the reference, pose by pose.

    Raises:
        DataError: only one of them has timestamps and their numbers of poses differ.
    """
    if file.timed == reference.timed:
        return file.trajectory
    n, m = len(file.trajectory), len(reference.trajectory)
    if n != m:
        without = file if reference.timed else reference
        raise DataError(
            f"{without.name}: a KITTI file has no timestamps, so it can only be compared pose by pose, but there are "
            f"{n} estimated and {m} reference poses: write it as TUM, with the time of each pose"
        )
    poses = file.trajectory.T_world_cam
    return known_trajectory(range(n), reference.trajectory.timestamps_s.tolist(), list(poses))


def _table(path: Path) -> Float[np.ndarray, "n m"]:
    rows: list[list[float]] = []
    for number, line in read_lines(path):
        try:
            rows.append([float(word) for word in line.replace(",", " ").split()])
        except ValueError as error:
            if not rows:  # a heading without the comment sign
                continue
            raise DataError(f"{path}, line {number}: not a number: {error}") from error
        if len(rows[-1]) != len(rows[0]):
            raise DataError(
                f"{path}, line {number}: {len(rows[-1])} numbers, {len(rows[0])} in the lines before"
            )
    if not rows:
        raise DataError(f"{path}: holds no pose")
    return np.array(rows)


def _by_quaternions(
    path: Path,
    times_s: Float[np.ndarray, " n"],
    t_m: Float[np.ndarray, "n 3"],
    q_xyzw: Float[np.ndarray, "n 4"],
) -> Trajectory:
    """NaN passes: the comparison counts and names such poses."""
    known = np.isfinite(q_xyzw).all(1) & np.isfinite(t_m).all(1)
    T = np.full((len(times_s), 4, 4), np.nan)
    try:
        T[known] = from_quaternion_xyzw(t_m[known], q_xyzw[known]) if known.any() else 0
    except DataError as error:
        raise DataError(f"{path}: {error}; is the order of the columns another?") from error
    return known_trajectory(range(len(T)), times_s.tolist(), list(T))


def _by_matrices(path: Path, times_s: Float[np.ndarray, " n"], T: Float[np.ndarray, "n 4 4"]) -> Trajectory:
    finite = np.isfinite(T).all((1, 2))
    poses = [
        checked_pose(pose, f"{path}, pose {i}") if ok else pose for i, (pose, ok) in enumerate(zip(T, finite))
    ]
    return known_trajectory(range(len(T)), times_s.tolist(), poses)


def _read_npz(path: Path) -> Trajectory:
    try:
        with np.load(path) as archive:
            times, T = (np.asarray(archive[key], np.float64) for key in _NPZ_KEYS)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except (KeyError, ValueError, BadZipFile) as error:
        raise DataError(f"{path}: needs the arrays {' and '.join(_NPZ_KEYS)}: {error}") from error
    if T.shape[1:] != (4, 4) or times.shape != T.shape[:1]:
        raise DataError(
            f"{path}: T_world_cam {T.shape} and timestamps_s {times.shape}; need (n, 4, 4) and (n,)"
        )
    return _by_matrices(path, times, T)
