"""What goes into the pose graph and what comes out of it; needs no optimiser."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from remov3r.config import Config
from remov3r.errors import DataError
from remov3r.geometry import project_to_se3
from remov3r.types import Covariance, Pose


class GraphConfig(Config):
    """The optimisation of the graph.

    Attributes:
        similarity: give every keyframe its own scale (Sim(3)) instead of one for all (SE(3)).
        kernel: Cauchy's, of priors always and of loops until they are sorted; in standard deviations.
        inlier_probability: a true loop is nearer than GNC's limit with this probability.
        spare_sigma_factors: by how much trusted measurements may be worse than they say; the next one is tried
            when fewer loops agree with them than `spare_inlier_ratio`.
        spare_min_loops: fewer loops than these are no proof against the trusted measurements.
    """

    similarity: bool = False
    kernel: float = Field(3.0, gt=0)
    inlier_probability: float = Field(0.99, gt=0, lt=1)
    relinearize_threshold: float = Field(0.002, gt=0)
    iterations: int = Field(200, ge=1)
    spare_sigma_factors: tuple[float, ...] = (1.0, 3.0, 10.0)
    spare_min_loops: int = Field(5, ge=2)
    spare_inlier_ratio: float = Field(0.5, gt=0, le=1)


@dataclass(frozen=True)
class Edge:
    """A measured transform between two keyframes.

    Attributes:
        T_from_to: its translation is in the lengths of the `from` keyframe.
        covariance: rotation first, then translation, in the `to` frame: of Log(T_from_to⁻¹ T_true).
        log_scale: logarithm of scale(to) / scale(from); used where keyframes have their own scales.
        log_scale_sigma: its standard deviation; infinite where it was not measured.
    """

    from_index: int
    to_index: int
    T_from_to: Pose
    covariance: Covariance
    log_scale: float = 0.0
    log_scale_sigma: float = np.inf


@dataclass(frozen=True)
class Prior:
    """A loose measurement of a keyframe's pose in the world.

    Attributes:
        covariance: rotation first, then translation, in the keyframe's frame.
        log_scale_sigma: standard deviation of the logarithm of the keyframe's scale about 1.
    """

    index: int
    T_world_key: Pose
    covariance: Covariance
    log_scale_sigma: float = np.inf


@dataclass(frozen=True)
class GraphState:
    """Where a keyframe is: a point p of its frame lies at scale · R p + t in the world."""

    T_world_key: Pose
    scale: float = 1.0


@dataclass(frozen=True)
class GraphUpdate:
    """What an incremental optimiser was given at once.

    Attributes:
        anchored: the first of the keyframes is held where it is.
        right, doubtful: loops that have been sorted, and those that have not.
        sigma_factor: by which the edges' standard deviations were multiplied.
    """

    anchored: bool
    states: dict[int, GraphState]
    edges: tuple[Edge, ...]
    right: tuple[Edge, ...]
    doubtful: tuple[Edge, ...]
    priors: tuple[Prior, ...]
    sigma_factor: float


@dataclass(frozen=True)
class GraphResult:
    """What an optimisation did.

    Attributes:
        accepted: False when the optimiser failed or its result was worse; then no pose has changed.
        wrong_loops: of `loops`, how many were left out as wrong.
        sigma_factor: by how much the trusted measurements were found to be worse than they say.
    """

    accepted: bool
    loops: int = 0
    wrong_loops: int = 0
    sigma_factor: float = 1.0


def checked_edge(edge: Edge, what: str) -> Edge:
    """Return an edge with an exact rotation, or refuse it.

    Args:
        what: named in the message, such as "loop".
    Raises:
        DataError: a number is not finite, the pose is not rigid or the covariance not positive definite.
    """
    where = f"{what} {edge.from_index} -> {edge.to_index}"
    if edge.from_index == edge.to_index:
        raise DataError(f"{where}: joins a keyframe to itself")
    if not np.isfinite(edge.log_scale) or not edge.log_scale_sigma > 0:
        raise DataError(f"{where}: log scale {edge.log_scale} ± {edge.log_scale_sigma} is not a measurement")
    T = rigid_pose(edge.T_from_to, where)
    covariance = positive_covariance(edge.covariance, where)
    return Edge(edge.from_index, edge.to_index, T, covariance, edge.log_scale, edge.log_scale_sigma)


def in_metres(edge: Edge, scale: float) -> Edge:
    """Return an edge between poses alone: lengths multiplied by the scale of the keyframe it starts from."""
    unit = np.array([1.0, 1.0, 1.0, scale, scale, scale])
    T = edge.T_from_to.copy()
    T[:3, 3] *= scale
    return Edge(edge.from_index, edge.to_index, T, edge.covariance * np.outer(unit, unit))


def rigid_pose(T: Pose, where: str) -> Pose:
    """Return the pose with its rotation made exact.

    Raises:
        DataError: not finite, or more than 1 % off a rotation.
    """
    if not np.isfinite(T).all():
        raise DataError(f"{where}: pose holds NaN or infinite values")
    nearest = project_to_se3(T)
    off = float(np.abs(nearest - T).max())
    if off > 1e-2:
        raise DataError(f"{where}: not a rigid pose (off by {off:.3g}, allowed 0.01)")
    return nearest


def positive_covariance(covariance: Covariance, where: str) -> Covariance:
    """Return the covariance made symmetric.

    Raises:
        DataError: not finite or not positive definite.
    """
    symmetric = np.asarray((covariance + covariance.T) / 2, dtype=np.float64)
    if not np.isfinite(symmetric).all() or not np.linalg.eigvalsh(symmetric)[0] > 0:
        raise DataError(f"{where}: covariance is not finite and positive definite")
    return symmetric
