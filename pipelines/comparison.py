"""An estimate and its reference in one frame, pose by pose, for the report's plots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from remov3r import geometry
from remov3r.eval.trajectory import TrajectoryEvalConfig, alignment, frame_errors
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
    errors, online_errors = (frame_errors(estimate, reference, "se3") for estimate in (final, online))
    first, last = final.timestamps_s[[0, -1]]
    during = (reference.timestamps_s >= first - TOLERANCE_S) & (reference.timestamps_s <= last + TOLERANCE_S)
    return Comparison(reference_m[during], errors.timestamps_s, errors.ate_m, online_errors.ate_m)
