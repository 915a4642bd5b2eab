"""Trajectory errors by evo: ATE after SE(3) and Sim(3) alignment side by side, RTE and RRE.

This is the only module that imports evo, which writes a settings folder into the home directory at first use.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import PositiveFloat

from remov3r.config import Config
from remov3r.errors import DataError, MissingDependencyError
from remov3r.geometry import inverse, umeyama
from remov3r.types import Pose, Trajectory

logger = logging.getLogger(__name__)


class TrajectoryEvalConfig(Config):
    """Settings of the trajectory errors.

    Attributes:
        tolerance_s: poses at most so far apart in time belong together (evo's own default).
    """

    tolerance_s: PositiveFloat = 0.01


DEFAULT = TrajectoryEvalConfig()


@dataclass(frozen=True)
class Se3Error:
    """Error after rigid alignment; None where the positions fix no alignment."""

    ate_rmse_m: float | None


@dataclass(frozen=True)
class Sim3Error:
    """Error after alignment with scale; `scale` multiplies the estimate onto the ground truth."""

    ate_rmse_m: float | None
    scale: float | None


@dataclass(frozen=True)
class TrajectoryMetrics:
    """Errors of one trajectory.

    Attributes:
        rte_rmse_m: RMSE of the relative translation between consecutive poses, without any alignment.
        rre_rmse_deg: RMSE of the relative rotation between consecutive poses.
        poses: how many poses were compared.
        frames: how many frames should have got a pose.
        notes: why a value is None, in words.
    """

    se3: Se3Error
    sim3: Sim3Error
    rte_rmse_m: float | None
    rre_rmse_deg: float | None
    poses: int
    frames: int
    notes: tuple[str, ...] = ()


def evaluate_trajectory(
    estimate: Trajectory,
    reference: Trajectory,
    frames: int | None = None,
    config: TrajectoryEvalConfig = DEFAULT,
) -> TrajectoryMetrics:
    """Compare an estimate with a reference.

    Args:
        frames: how many frames should have got a pose; None for as many as the estimate holds.
    Raises:
        DataError: an empty trajectory, NaN, timestamps that do not increase, or none in common.
        MissingDependencyError: evo is not installed.
    """
    evo = _evo()
    ref, est = _associated(evo, estimate, reference, config)
    relation = evo.metrics.PoseRelation
    notes: tuple[str, ...] = ()
    se3, sim3, rte, rre = Se3Error(None), Sim3Error(None, None), None, None
    try:
        se3 = Se3Error(_aligned_ate(evo, ref, est, with_scale=False)[0])
        sim3 = Sim3Error(*_aligned_ate(evo, ref, est, with_scale=True))
    except evo.geometry.GeometryException:
        notes += (
            f"the {est.num_poses} positions fix no alignment (static, a straight line or too few): no ATE",
        )
    if est.num_poses > 1:
        rte = _relative_rmse(evo, ref, est, relation.translation_part)
        rre = _relative_rmse(evo, ref, est, relation.rotation_angle_deg)
    else:
        notes += ("one pose only: no relative errors",)
    return TrajectoryMetrics(
        se3, sim3, rte, rre, est.num_poses, len(estimate) if frames is None else frames, notes
    )


def alignment(estimate: Trajectory, reference: Trajectory, config: TrajectoryEvalConfig = DEFAULT) -> Pose:
    """Return the rigid transform T_reference_estimate that brings the estimate's world onto the reference's.

    It is the one behind the SE(3) ATE. Where the positions fix none (a static camera, a straight line) the
    first common pose is laid onto its reference.

    Raises:
        DataError, MissingDependencyError: as `evaluate_trajectory`.
    """
    evo = _evo()
    ref, est = _associated(evo, estimate, reference, config)
    try:
        R, t, _ = copy.deepcopy(est).align(ref)
    except evo.geometry.GeometryException:
        logger.warning("the positions fix no alignment: the first pose is laid onto its reference")
        return np.asarray(ref.poses_se3[0]) @ inverse(np.asarray(est.poses_se3[0]))
    T_reference_estimate = np.eye(4)
    T_reference_estimate[:3, :3], T_reference_estimate[:3, 3] = R, t
    return T_reference_estimate


def view_alignment(
    estimate: Trajectory, reference: Trajectory, config: TrajectoryEvalConfig = DEFAULT
) -> Pose:
    """Return the rigid transform T_reference_estimate that fits centres and viewing directions together.

    For maps: surfaces lie a metre and more in front of the camera, and the centres of a short or nearly straight
    path leave a rotation open that would swing them far away. Each camera counts with its centre and a point
    one metre along each of its axes.

    Raises:
        DataError, MissingDependencyError: as `evaluate_trajectory`.
    """
    ref, est = _associated(_evo(), estimate, reference, config)
    fit = umeyama(_centres_and_axes(est), _centres_and_axes(ref), with_scale=False)
    assert fit is not None  # four points that span space, for a single pose already
    return fit.matrix()


def _centres_and_axes(trajectory: Any) -> Float[np.ndarray, "n 3"]:
    T = np.stack(trajectory.poses_se3)
    centres = T[:, :3, 3]
    return np.concatenate([centres, *(centres + T[:, :3, k] for k in range(3))])


def _evo() -> Any:
    try:
        import evo.core.geometry
        import evo.core.metrics
        import evo.core.sync
        import evo.core.trajectory
    except ImportError as error:
        raise MissingDependencyError("trajectory errors need evo: pip install 'remov3r[eval]'") from error
    return evo.core


def _associated(
    evo: Any, estimate: Trajectory, reference: Trajectory, config: TrajectoryEvalConfig
) -> tuple[Any, Any]:
    """The poses of both that belong together in time, as evo trajectories: reference, estimate."""
    ref, est = _converted(evo, reference, "reference"), _converted(evo, estimate, "estimate")
    try:
        return evo.sync.associate_trajectories(ref, est, max_diff=config.tolerance_s)
    except evo.sync.SyncException as error:
        a, b = estimate.timestamps_s, reference.timestamps_s
        raise DataError(
            f"no timestamp of the estimate ({a[0]:.3f}..{a[-1]:.3f} s) lies within {config.tolerance_s} s "
            f"of one of the reference ({b[0]:.3f}..{b[-1]:.3f} s)"
        ) from error


def _converted(evo: Any, trajectory: Trajectory, what: str) -> Any:
    """Refuse what evo would take without a word: NaN, and times that do not increase."""
    T, times = trajectory.T_world_cam, trajectory.timestamps_s
    if len(times) == 0:
        raise DataError(f"the {what} trajectory holds no poses")
    bad = np.flatnonzero(~np.isfinite(T).all((1, 2)) | ~np.isfinite(times))
    if len(bad):
        raise DataError(f"the {what} trajectory holds NaN or infinite values, first in pose {bad[0]}")
    back = np.flatnonzero(np.diff(times) <= 0)
    if len(back):
        raise DataError(f"the {what} trajectory's timestamps do not increase after pose {back[0]}")
    return evo.trajectory.PoseTrajectory3D(poses_se3=list(T), timestamps=times)


def _aligned_ate(evo: Any, ref: Any, est: Any, with_scale: bool) -> tuple[float, float]:
    """RMSE of the positions after alignment, and the scale."""
    if est.num_poses < 3:
        raise evo.geometry.GeometryException("fewer than three poses")
    aligned = copy.deepcopy(est)
    scale = aligned.align(ref, correct_scale=with_scale)[2]
    metric = evo.metrics.APE(evo.metrics.PoseRelation.translation_part)
    metric.process_data((ref, aligned))
    return float(metric.get_statistic(evo.metrics.StatisticsType.rmse)), float(scale)


def _relative_rmse(evo: Any, ref: Any, est: Any, relation: Any) -> float:
    """RMSE over all pairs of consecutive poses."""
    metric = evo.metrics.RPE(relation, delta=1, delta_unit=evo.metrics.Unit.frames, all_pairs=True)
    metric.process_data((ref, est))
    return float(metric.get_statistic(evo.metrics.StatisticsType.rmse))
