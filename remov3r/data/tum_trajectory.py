"""TUM trajectory files: `timestamp tx ty tz qx qy qz qw`, camera to world, metres, seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from remov3r.data.pose_files import known_trajectory, read_lines
from remov3r.errors import DataError
from remov3r.geometry import from_quaternion_xyzw, quaternion_xyzw
from remov3r.types import Trajectory


def read_tum(path: Path) -> Trajectory:
    """Read a trajectory; `frame_index` counts its poses.

    Raises:
        DataError: missing or empty file, a row that is not eight finite numbers, a quaternion far from unit
            length, or timestamps that do not increase.
    """
    rows: list[Float[np.ndarray, " 8"]] = []
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        try:
            row = np.array(line.replace(",", " ").split(), dtype=np.float64)
        except ValueError as error:
            raise DataError(f"{where}: not a number: {error}") from error
        if row.size != 8 or not np.isfinite(row).all():
            raise DataError(
                f"{where}: need 8 finite numbers (timestamp tx ty tz qx qy qz qw), got {line.strip()!r}"
            )
        if not 0.5 < np.linalg.norm(row[4:]) < 2:
            raise DataError(f"{where}: the quaternion's length is {np.linalg.norm(row[4:]):.3g}, not near 1")
        if rows and row[0] <= rows[-1][0]:
            raise DataError(f"{where}: timestamp {row[0]:.9f} does not come after {rows[-1][0]:.9f}")
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: holds no pose")
    table = np.stack(rows)
    poses = from_quaternion_xyzw(table[:, 1:4], table[:, 4:])
    return known_trajectory(range(len(rows)), table[:, 0].tolist(), list(poses))


def write_tum(path: Path, trajectory: Trajectory) -> None:
    """Write a trajectory with nine decimals.

    Args:
        path: the file to write, replaced when it exists.
    Raises:
        OSError: the file cannot be written.
    """
    T = trajectory.T_world_cam
    table = np.column_stack([trajectory.timestamps_s, T[:, :3, 3], quaternion_xyzw(T)])
    path.write_text("".join(" ".join(f"{x:.9f}" for x in row) + "\n" for row in table))
