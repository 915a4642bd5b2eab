"""Tables of text files: rows of words or numbers, and keyed rows; every failure names file and line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from remov3r.data.faults import PoseFault
from remov3r.data.pose_files import read_lines
from remov3r.errors import DataError
from remov3r.types import Pose


def read_rows(path: Path) -> list[tuple[str, list[str]]]:
    """Return the words of each line, between commas or white space, with file and line for messages.

    Raises:
        DataError: the file cannot be read as text, or holds no row.
    """
    rows = [(f"{path}, line {n}", line.replace(",", " ").split()) for n, line in read_lines(path)]
    if not rows:
        raise DataError(f"{path}: holds no rows")
    return rows


def numbers(where: str, words: Sequence[str], count: int) -> Float[np.ndarray, " count"]:
    """Read so many finite numbers from the start of a row.

    Raises:
        DataError: fewer, or something else.
    """
    try:
        values = np.array(words[:count], dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{where}: not a number: {error}") from error
    if values.size != count or not np.isfinite(values).all():
        raise DataError(f"{where}: need {count} finite numbers, got {' '.join(words)!r}")
    return values


def read_numbers(path: Path, count: int) -> Float[np.ndarray, " count"]:
    """Read a file that holds just so many numbers, in rows of any length.

    Raises:
        DataError: as `read_rows` and `numbers`; also when there are more.
    """
    words = [word for _, row in read_rows(path) for word in row]
    if len(words) != count:
        raise DataError(f"{path}: need {count} numbers, got {len(words)}")
    return numbers(str(path), words, count)


def read_keyed(path: Path) -> dict[str, list[str]]:
    """Read lines `KEY: words` as KITTI's calibrations have them.

    Raises:
        DataError: the file cannot be read as text.
    """
    lines = (line.partition(":") for _, line in read_lines(path))
    return {key.strip(): rest.split() for key, _, rest in lines}


def keyed_numbers(
    path: Path, table: dict[str, list[str]], key: str, count: int
) -> Float[np.ndarray, " count"]:
    """Take the numbers of a key.

    Raises:
        DataError: no such key, or not so many numbers.
    """
    if key not in table:
        raise DataError(f"{path}: lacks {key}")
    return numbers(f"{path}, {key}", table[key], count)


def poses_of_3x4(rows: Sequence[tuple[str, list[str]]]) -> list[tuple[str, Float[np.ndarray, "4 4"]]]:
    """Read rows of 12 numbers, the upper three rows of a pose, for `rigid_poses`.

    Raises:
        PoseFault: a row that does not hold 12 finite numbers.
    """
    raw = []
    for where, words in rows:
        try:
            top = numbers(where, words, 12).reshape(3, 4)
        except DataError as error:
            raise PoseFault(str(error)) from error
        raw.append((where, np.vstack([top, [0, 0, 0, 1]])))
    return raw


def rigid(R: Float[np.ndarray, "3 3"], t_m: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "4 4"]:
    """Put a rotation and a translation together."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t_m
    return T


def from_first_position(T_world_x: Sequence[Pose]) -> list[Pose]:
    """Move the world's origin to the first position, its axes kept: coordinates of maps are too large for float32."""
    shift = np.zeros((4, 4))
    shift[:3, 3] = T_world_x[0][:3, 3]
    return [T - shift for T in T_world_x]
