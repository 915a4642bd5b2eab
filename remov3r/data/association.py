"""Bring together what was recorded at different times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation, Slerp

from remov3r.errors import DataError
from remov3r.types import Pose, Trajectory


def nearest_in_time(
    times_s: Float[np.ndarray, " n"], candidates_s: Float[np.ndarray, " m"], tolerance_s: float
) -> Int[np.ndarray, " n"]:
    """Return for each time the index of the nearest candidate, -1 where none is within the tolerance.

    Args:
        candidates_s: increasing.
    """
    after = np.searchsorted(candidates_s, times_s).clip(0, len(candidates_s) - 1)
    before = (after - 1).clip(0)
    nearest = np.where(
        np.abs(candidates_s[before] - times_s) <= np.abs(candidates_s[after] - times_s), before, after
    )
    return np.where(np.abs(candidates_s[nearest] - times_s) <= tolerance_s, nearest, -1)


def nearest_poses(
    truth: Trajectory, times_s: Float[np.ndarray, " n"], tolerance_s: float
) -> list[Pose | None]:
    """Return the pose nearest to each time, None where none is within the tolerance."""
    rows = nearest_in_time(times_s, truth.timestamps_s, tolerance_s)
    return [truth.T_world_cam[row] if row >= 0 else None for row in rows]


def interpolated_poses(
    truth: Trajectory, times_s: Float[np.ndarray, " n"], gap_s: float
) -> list[Pose | None]:
    """Return the pose at each time, between its neighbours; None outside, or where they are farther apart."""
    known_s = truth.timestamps_s
    inside = (times_s >= known_s[0]) & (times_s <= known_s[-1])
    after = np.searchsorted(known_s, times_s).clip(0, len(known_s) - 1)
    exact = known_s[after] == times_s
    inside &= exact | (known_s[after] - known_s[(after - 1).clip(0)] <= gap_s)
    T = np.tile(np.eye(4), (len(times_s), 1, 1))
    if len(known_s) > 1 and inside.any():
        turns = Slerp(known_s, Rotation.from_matrix(truth.T_world_cam[:, :3, :3]))
        T[inside, :3, :3] = turns(times_s[inside]).as_matrix()
    else:
        T[:, :3, :3] = truth.T_world_cam[0, :3, :3]
    for axis in range(3):
        T[:, axis, 3] = np.interp(times_s, known_s, truth.T_world_cam[:, axis, 3])
    return [pose if ok else None for pose, ok in zip(T, inside)]


def check_increasing(times_s: Sequence[float], wheres: Sequence[str]) -> None:
    """Refuse times that do not increase.

    Args:
        wheres: file and line of each time, for messages.
    Raises:
        DataError: naming the first line that does not come after the one before.
    """
    wrong = np.flatnonzero(np.diff(np.asarray(times_s, dtype=np.float64)) <= 0)
    if len(wrong):
        n = int(wrong[0])
        raise DataError(
            f"{wheres[n + 1]}: timestamp {times_s[n + 1]:.9f} does not come after {times_s[n]:.9f}; "
            "were the lines shuffled or sorted as text?"
        )
