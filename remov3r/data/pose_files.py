"""Read pose text files and put reference trajectories together; every failure names file and line."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from remov3r.data.faults import MissingFile, PoseFault
from remov3r.errors import DataError
from remov3r.geometry import checked_pose
from remov3r.types import Pose, TrackingState, Trajectory

logger = logging.getLogger(__name__)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines that are neither blank nor comments (#), each with its number from 1.

    Raises:
        DataError: the file cannot be read as text.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise MissingFile(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file") from error
    return [
        (n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")
    ]


def parse_poses(texts: Iterable[tuple[str, str]]) -> list[Pose]:
    """Parse poses of 16 row-major numbers and make their rotations proper; says in the log by how much.

    Args:
        texts: for each pose its file and line, for messages, and its numbers between white space.
    Raises:
        PoseFault: not 16 numbers, NaN or infinite, or not rigid.
    """
    raw = [_sixteen(where, text) for where, text in texts]
    return rigid_poses(raw)


def parse_poses_or_unknown(texts: Iterable[tuple[str, str]]) -> list[Pose | None]:
    """Parse poses as `parse_poses` does; one without any finite number means that tracking was lost: None.

    Raises:
        PoseFault: as `parse_poses`; also when only some of the numbers are infinite.
    """
    raw = [_sixteen(where, text) for where, text in texts]
    known = [np.isfinite(T).any() for _, T in raw]
    poses = iter(rigid_poses([r for r, k in zip(raw, known) if k]))
    return [next(poses) if k else None for k in known]


def rigid_poses(raw: Sequence[tuple[str, np.ndarray]]) -> list[Pose]:
    """Make rotations of 4×4 matrices proper; says in the log by how much.

    Args:
        raw: for each pose its file and line, for messages, and the matrix.
    Raises:
        PoseFault: NaN or infinite, or not rigid.
    """
    try:
        poses = [checked_pose(T, where) for where, T in raw]
    except DataError as error:
        raise PoseFault(str(error)) from error
    off = max((float(np.abs(p[:3, :3] - T[:3, :3]).max()) for p, (_, T) in zip(poses, raw)), default=0.0)
    logger.info("%d ground-truth poses, rotations off by up to %.2g and projected to SO(3)", len(poses), off)
    return poses


def _sixteen(where: str, text: str) -> tuple[str, np.ndarray]:
    try:
        numbers = np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise PoseFault(f"{where}: a pose holds something that is not a number: {error}") from error
    if numbers.size != 16:
        raise PoseFault(f"{where}: a pose needs 16 numbers, got {numbers.size}")
    return where, numbers.reshape(4, 4)


def known_trajectory(
    frame_index: Sequence[int], timestamps_s: Sequence[float], T_world_cam: Sequence[Pose]
) -> Trajectory:
    """Put known poses together as a metric trajectory in which every pose is a keyframe."""
    n = len(timestamps_s)
    return Trajectory(
        frame_index=np.array(frame_index, dtype=np.int64).reshape(n),
        timestamps_s=np.array(timestamps_s, dtype=np.float64).reshape(n),
        T_world_cam=np.array(T_world_cam, dtype=np.float64).reshape(n, 4, 4),
        is_keyframe=np.ones(n, dtype=bool),
        state=(TrackingState.OK,) * n,
    )
