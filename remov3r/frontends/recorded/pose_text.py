"""Pose files that others write: `number tx ty tz qx qy qz qw` a line, camera to world."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from remov3r.data.pose_files import read_lines
from remov3r.errors import DataError
from remov3r.geometry import from_quaternion_xyzw
from remov3r.types import Pose


def read_pose_rows(file: Path) -> list[tuple[float, Pose]]:
    """Read number and pose of each line, in the order of the lines, which may name a number twice.

    Raises:
        DataError: a line is not eight finite numbers, or its quaternion is far from unit length.
    """
    rows: list[tuple[float, Pose]] = []
    for n, line in read_lines(file):
        where = f"{file}, line {n}"
        try:
            row = np.array(line.split(), np.float64)
        except ValueError as error:
            raise DataError(f"{where}: not a number: {error}") from error
        if row.size != 8 or not np.isfinite(row).all():
            raise DataError(
                f"{where}: need 8 finite numbers (number tx ty tz qx qy qz qw), got {line.strip()!r}"
            )
        try:
            rows.append((float(row[0]), from_quaternion_xyzw(row[1:4], row[4:])))
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
    if not rows:
        raise DataError(f"{file}: holds no pose")
    return rows
