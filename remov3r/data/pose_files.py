"""Read pose text files and put reference trajectories together; every failure names file and line."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

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
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
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
        DataError: not 16 numbers, NaN or infinite, or not rigid.
    """
    poses, off = [], 0.0
    for where, text in texts:
        try:
            raw = np.array(text.split(), dtype=np.float64)
        except ValueError as error:
            raise DataError(f"{where}: a pose holds something that is not a number: {error}") from error
        if raw.size != 16:
            raise DataError(f"{where}: a pose needs 16 numbers, got {raw.size}")
        pose = checked_pose(raw.reshape(4, 4), where)
        off = max(off, float(np.abs(pose[:3, :3] - raw.reshape(4, 4)[:3, :3]).max()))
        poses.append(pose)
    logger.info("%d ground-truth poses, rotations off by up to %.2g and projected to SO(3)", len(poses), off)
    return poses


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
