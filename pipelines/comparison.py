"""An estimate and its reference in one frame, pose by pose, for the report's plots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from remov3r import geometry
from remov3r.eval.trajectory import TrajectoryEvalConfig, alignment
from remov3r.types import Trajectory

TOLERANCE_S = TrajectoryEvalConfig().tolerance_s


@dataclass(frozen=True)
class Comparison:
    """Reference and errors as seen from the estimate's world frame.

    Attributes:
        reference_m: camera centres of the reference while the estimate lasts, moved rigidly onto it.
        times_s: times of the estimated poses that have a reference pose.
        error_m: distance of each of them from its reference after rigid alignment.
        online_error_m: the same for the poses as first given out, aligned by themselves.
    """

    reference_m: Float[np.ndarray, "m 3"]
    times_s: Float[np.ndarray, " n"]
    error_m: Float[np.ndarray, " n"]
    online_error_m: Float[np.ndarray, " n"]


def compare(final: Trajectory, online: Trajectory, reference: Trajectory) -> Comparison:
    """Bring a reference onto an estimate and measure how far each pose is from it.

    Raises:
        DataError: no timestamps in common.
        MissingDependencyError: evo is not installed.
    """
    T_estimate_reference = geometry.inverse(alignment(final, reference))
    reference_m = geometry.transform(T_estimate_reference, reference.T_world_cam[:, :3, 3])
    nearest, known = _nearest(final.timestamps_s, reference.timestamps_s)
    error = np.linalg.norm(final.T_world_cam[known, :3, 3] - reference_m[nearest[known]], axis=1)
    centres = geometry.transform(alignment(online, reference), online.T_world_cam[known, :3, 3])
    online_error = np.linalg.norm(centres - reference.T_world_cam[nearest[known], :3, 3], axis=1)
    first, last = final.timestamps_s[[0, -1]]
    during = (reference.timestamps_s >= first - TOLERANCE_S) & (reference.timestamps_s <= last + TOLERANCE_S)
    return Comparison(reference_m[during], final.timestamps_s[known], error, online_error)


def _nearest(
    times_s: Float[np.ndarray, " n"], reference_s: Float[np.ndarray, " m"]
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each time the index of the nearest reference time, and whether it is near enough."""
    after = np.clip(np.searchsorted(reference_s, times_s), 1, max(len(reference_s) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(reference_s) - 1)
    closer = np.abs(reference_s[before] - times_s) <= np.abs(reference_s[after] - times_s)
    nearest = np.where(closer, before, after)
    return nearest, np.abs(reference_s[nearest] - times_s) <= TOLERANCE_S
