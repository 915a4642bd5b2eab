"""Trajectory errors by evo: ATE after SE(3) and Sim(3) alignment side by side, RTE and RRE.

This is the only module that imports evo, which writes a settings folder into the home directory at first use.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt

from remov3r.config import Config
from remov3r.errors import DataError, MissingDependencyError
from remov3r.eval.input_checks import no_common_times, suspicions, unusable
from remov3r.eval.rotations import naive_rre_rmse_deg
from remov3r.geometry import inverse, umeyama
from remov3r.types import Pose, Trajectory

logger = logging.getLogger(__name__)

Align = Literal["se3", "sim3"]


class TrajectoryEvalConfig(Config):
    """Settings of the trajectory errors.

    Attributes:
        tolerance_s: poses at most so far apart in time belong together (evo's own default).
        path_m: length of the reference's path over which `per_metre` compares.
        frames: how many compared poses lie between those that `per_frames` compares.
    """

    tolerance_s: PositiveFloat = 0.01
    path_m: PositiveFloat = 1.0
    frames: PositiveInt = 30


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
class RelativeErrors:
    """RMSE of the relative pose over all pairs of poses a stated distance apart, without any alignment.

    Attributes:
        delta: the distance, in `unit`; of metres along the reference's path, pairs within 10 % count.
        pairs: how many there are.
    """

    delta: float
    unit: Literal["frames", "m"]
    rte_rmse_m: float
    rre_rmse_deg: float
    pairs: int


@dataclass(frozen=True)
class TrajectoryMetrics:
    """Errors of one trajectory.

    Attributes:
        rte_rmse_m: RMSE of the relative translation between consecutive poses, without any alignment.
        rre_rmse_deg: RMSE of the relative rotation between consecutive poses.
        poses: how many poses were compared.
        frames: how many frames should have got a pose.
        notes: why a value is None, and what looks wrong with the input, in words.
        rre_naive_rmse_deg: RRE against the rotations as the data set stores them; None where those are not known.
        per_metre: over one metre of path; None where no pair is so far apart.
        per_frames: over 30 poses; None where there are not so many.
        tolerance_s: poses at most so far apart in time were taken to belong together.
    """

    se3: Se3Error
    sim3: Sim3Error
    rte_rmse_m: float | None
    rre_rmse_deg: float | None
    poses: int
    frames: int
    notes: tuple[str, ...] = ()
    rre_naive_rmse_deg: float | None = None
    per_metre: RelativeErrors | None = None
    per_frames: RelativeErrors | None = None
    tolerance_s: float = DEFAULT.tolerance_s


@dataclass(frozen=True)
class FrameErrors:
    """Errors pose by pose, after alignment of the whole.

    Attributes:
        timestamps_s: of the estimate's poses that were compared.
        position_m, reference_m: camera centres of the aligned estimate and of the reference, its world.
        ate_m: distance between the two.
        rotation_deg: angle between the aligned orientation and the reference's.
        rte_m, rre_deg: of the step from the pose before, without alignment; NaN for the first.
    """

    timestamps_s: Float[np.ndarray, " n"]
    position_m: Float[np.ndarray, "n 3"]
    reference_m: Float[np.ndarray, "n 3"]
    ate_m: Float[np.ndarray, " n"]
    rotation_deg: Float[np.ndarray, " n"]
    rte_m: Float[np.ndarray, " n"]
    rre_deg: Float[np.ndarray, " n"]


def evaluate_trajectory(
    estimate: Trajectory,
    reference: Trajectory,
    frames: int | None = None,
    config: TrajectoryEvalConfig = DEFAULT,
    stored_rotations: Float[np.ndarray, "m 3 3"] | None = None,
) -> TrajectoryMetrics:
    """Compare an estimate with a reference.

    Args:
        frames: how many frames should have got a pose; None for as many as the estimate holds.
        stored_rotations: of each pose of the reference, before they were projected to SO(3).
    Raises:
        DataError: an empty trajectory, NaN, timestamps that do not increase, or none in common.
        MissingDependencyError: evo is not installed.
    """
    evo = _evo()
    ref, est = _associated(evo, estimate, reference, config)
    units = evo.metrics.Unit
    notes: tuple[str, ...] = ()
    se3, sim3, step, naive = Se3Error(None), Sim3Error(None, None), None, None
    try:
        se3 = Se3Error(_aligned_ate(evo, ref, est, with_scale=False)[0])
        sim3 = Sim3Error(*_aligned_ate(evo, ref, est, with_scale=True))
    except evo.geometry.GeometryException:
        notes += (
            f"the {est.num_poses} positions fix no alignment (static, a straight line or too few): no ATE",
        )
    if est.num_poses > 1:
        step = _relative(evo, ref, est, 1, units.frames)
    else:
        notes += ("one pose only: no relative errors",)
    T_est, T_ref = np.stack(est.poses_se3), np.stack(ref.poses_se3)
    if step is not None and stored_rotations is not None:
        stored = stored_rotations[np.searchsorted(reference.timestamps_s, ref.timestamps)]
        naive = naive_rre_rmse_deg(T_est[:, :3, :3], T_ref[:, :3, :3], stored)
    lengths = (len(estimate), len(reference))
    notes += suspicions(T_est, T_ref, sim3.scale, lengths, config.tolerance_s)
    return TrajectoryMetrics(
        se3,
        sim3,
        None if step is None else step.rte_rmse_m,
        None if step is None else step.rre_rmse_deg,
        est.num_poses,
        len(estimate) if frames is None else frames,
        notes,
        naive,
        _relative(evo, ref, est, config.path_m, units.meters),
        _relative(evo, ref, est, config.frames, units.frames),
        config.tolerance_s,
    )


def frame_errors(
    estimate: Trajectory, reference: Trajectory, align: Align, config: TrajectoryEvalConfig = DEFAULT
) -> FrameErrors:
    """Compare pose by pose.

    Args:
        align: "se3" for metric trajectories, "sim3" also fits the scale. Where the positions fix no alignment
            the first common pose is laid onto its reference.
    Raises:
        DataError, MissingDependencyError: as `evaluate_trajectory`.
    """
    evo = _evo()
    ref, est = _associated(evo, estimate, reference, config)
    aligned = _aligned(evo, ref, est, with_scale=align == "sim3")
    relation = evo.metrics.PoseRelation
    steps = np.full((2, est.num_poses), np.nan)
    if est.num_poses > 1:
        for row, part in zip(steps, (relation.translation_part, relation.rotation_angle_deg)):
            row[1:] = _relative_metric(evo, ref, est, part, 1, evo.metrics.Unit.frames).error
    ate, turn = (
        _absolute(evo, ref, aligned, r) for r in (relation.translation_part, relation.rotation_angle_deg)
    )
    position, truth = (np.asarray(t.positions_xyz) for t in (aligned, ref))
    return FrameErrors(np.asarray(est.timestamps), position, truth, ate.error, turn.error, steps[0], steps[1])


def alignment(estimate: Trajectory, reference: Trajectory, config: TrajectoryEvalConfig = DEFAULT) -> Pose:
    """Return the rigid transform T_reference_estimate that brings the estimate's world onto the reference's.

    It is the one behind the SE(3) ATE. Where the positions fix none (a static camera, a straight line) the
    first common pose is laid onto its reference.

    Raises:
        DataError, MissingDependencyError: as `evaluate_trajectory`.
    """
    evo = _evo()
    ref, est = _associated(evo, estimate, reference, config)
    aligned = _aligned(evo, ref, est, with_scale=False)
    return np.asarray(aligned.poses_se3[0]) @ inverse(np.asarray(est.poses_se3[0]))


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
        import evo.core.filters
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
        times = estimate.timestamps_s, reference.timestamps_s
        raise DataError(no_common_times(*times, config.tolerance_s)) from error


def _converted(evo: Any, trajectory: Trajectory, what: str) -> Any:
    """Refuse what evo would take without a word: NaN, and times that do not increase."""
    wrong = unusable(trajectory, what)
    if wrong is not None:
        raise DataError(wrong)
    T, times = trajectory.T_world_cam, trajectory.timestamps_s
    return evo.trajectory.PoseTrajectory3D(poses_se3=list(T), timestamps=times)


def _aligned(evo: Any, ref: Any, est: Any, with_scale: bool) -> Any:
    """The estimate in the reference's world; by the first pose alone where the positions fix no alignment."""
    aligned = copy.deepcopy(est)
    try:
        aligned.align(ref, correct_scale=with_scale)
    except evo.geometry.GeometryException:
        logger.warning("the positions fix no alignment: the first pose is laid onto its reference")
        aligned = copy.deepcopy(est)
        aligned.align_origin(ref)
    return aligned


def _aligned_ate(evo: Any, ref: Any, est: Any, with_scale: bool) -> tuple[float, float]:
    """RMSE of the positions after alignment, and the scale."""
    if est.num_poses < 3:
        raise evo.geometry.GeometryException("fewer than three poses")
    aligned = copy.deepcopy(est)
    scale = aligned.align(ref, correct_scale=with_scale)[2]
    return _rmse(evo, _absolute(evo, ref, aligned, evo.metrics.PoseRelation.translation_part)), float(scale)


def _absolute(evo: Any, ref: Any, aligned: Any, relation: Any) -> Any:
    metric = evo.metrics.APE(relation)
    metric.process_data((ref, aligned))
    return metric


def _relative(evo: Any, ref: Any, est: Any, delta: float, unit: Any) -> RelativeErrors | None:
    """RMSE over all pairs so far apart on the reference; None where there is no such pair."""
    relation = evo.metrics.PoseRelation
    try:
        parts = [
            _relative_metric(evo, ref, est, part, delta, unit)
            for part in (relation.translation_part, relation.rotation_angle_deg)
        ]
    except evo.filters.FilterException:
        return None
    rte, rre = (_rmse(evo, part) for part in parts)
    return RelativeErrors(delta, unit.value, rte, rre, len(parts[0].error))


def _relative_metric(evo: Any, ref: Any, est: Any, relation: Any, delta: float, unit: Any) -> Any:
    metric = evo.metrics.RPE(relation, delta, unit, all_pairs=True, pairs_from_reference=True)
    metric.process_data((ref, est))
    return metric


def _rmse(evo: Any, metric: Any) -> float:
    return float(metric.get_statistic(evo.metrics.StatisticsType.rmse))
