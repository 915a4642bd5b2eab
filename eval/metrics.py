"""All figures of a run together, and metrics.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import PositiveInt

from remov3r.config import Config
from remov3r.data.stream import StreamedSource
from remov3r.eval.depth import DepthEvalConfig, DepthMetrics, DepthPair, depth_metrics
from remov3r.eval.map import MapEvalConfig, MapMetrics, map_metrics
from remov3r.eval.rotations import RotationQuality, rotation_quality
from remov3r.eval.surface import fused_truth, sampled_surface
from remov3r.eval.trajectory import (
    TrajectoryEvalConfig,
    TrajectoryMetrics,
    evaluate_trajectory,
    view_alignment,
)
from remov3r.types import Keyframe, Mesh, Reconstruction, Trajectory

StoredRotations = Float[np.ndarray, "n 3 3"]


class EvalConfig(Config):
    """Settings of the evaluation.

    Attributes:
        map_every: every so many frames of the run bring their depth into the ground-truth map.
    """

    trajectory: TrajectoryEvalConfig = TrajectoryEvalConfig()
    depth: DepthEvalConfig = DepthEvalConfig()
    map: MapEvalConfig = MapEvalConfig()
    map_every: PositiveInt = 10


DEFAULT = EvalConfig()


@dataclass(frozen=True)
class TrajectoryReport:
    """Errors of the final trajectory, of its keyframes alone, and of the poses as first given out."""

    all: TrajectoryMetrics
    keyframes: TrajectoryMetrics
    online: TrajectoryMetrics


@dataclass(frozen=True)
class Metrics:
    """Everything that was measured; None for what had no ground truth.

    Attributes:
        ground_truth: how far its rotations, as stored, are from SO(3); None where that is not known.
    """

    trajectory: TrajectoryReport | None = None
    depth: DepthMetrics | None = None
    map: MapMetrics | None = None
    ground_truth: RotationQuality | None = None

    def to_json(self) -> str:
        """Return metrics.json: the keys are fixed, a value that could not be measured is null."""
        tree: dict[str, Any] = {key: value for key, value in asdict(self).items() if value is not None}
        return json.dumps(tree, indent=2, allow_nan=False) + "\n"


def evaluate(
    result: Reconstruction,
    reference: Trajectory | None,
    truth: StreamedSource | None = None,
    config: EvalConfig = DEFAULT,
    stored_rotations: StoredRotations | None = None,
    truth_mesh: Mesh | None = None,
) -> Metrics:
    """Measure a run against all the ground truth there is.

    Args:
        reference: poses to compare with; None where there are none.
        truth: the same input with depth (`open_source(..., sensor=True)`), by which the keyframes' depth and
            the map are judged; None where there is none.
        stored_rotations: of the reference's poses, before they were projected to SO(3); None where not known.
        truth_mesh: the map is judged by it in place of the fused depth.
    Raises:
        DataError: bad or unrelated ground truth.
        MissingDependencyError: evo is not installed.
    """
    trajectory = None
    if reference is not None:
        trajectory = evaluate_trajectories(result, reference, config.trajectory, stored_rotations)
    return Metrics(
        trajectory,
        None if truth is None else evaluate_depth(result.keyframes, truth, config.depth),
        None if truth is None else evaluate_map(result, truth, config, truth_mesh),
        None if stored_rotations is None else rotation_quality(stored_rotations),
    )


def evaluate_trajectories(
    result: Reconstruction,
    reference: Trajectory,
    config: TrajectoryEvalConfig,
    stored: StoredRotations | None = None,
) -> TrajectoryReport:
    """Measure all three trajectories of a run; `stored` as in `evaluate`.

    Raises:
        DataError, MissingDependencyError: as `evaluate_trajectory`.
    """
    frames, keyframes = len(result.trajectory), result.trajectory.keyframes()
    return TrajectoryReport(
        evaluate_trajectory(result.trajectory, reference, frames, config, stored),
        evaluate_trajectory(keyframes, reference, len(keyframes), config, stored),
        evaluate_trajectory(result.online, reference, frames, config, stored),
    )


def evaluate_depth(
    keyframes: Sequence[Keyframe], truth: StreamedSource, config: DepthEvalConfig
) -> DepthMetrics | None:
    """Measure the keyframes' depth, as predicted and as aligned, against the source's depth.

    Raises:
        DataError: the source cannot be read.
    """

    def pairs() -> Iterator[DepthPair]:
        by_index = {keyframe.frame_index: keyframe for keyframe in keyframes}
        for frame in truth.frames(sorted(by_index)):
            keyframe = by_index[frame.index]
            if frame.depth_m is not None:
                yield DepthPair(keyframe.dense.depth_m, frame.depth_m, keyframe.aligned.depth_m)

    return depth_metrics(pairs(), config)


def evaluate_map(
    result: Reconstruction, truth: StreamedSource, config: EvalConfig, truth_mesh: Mesh | None = None
) -> MapMetrics | None:
    """Measure the mesh, placed by the poses, against the depth its frames saw, or a ground-truth mesh.

    Args:
        truth_mesh: in the world of the source's poses; the source's depth then tells what was visible.
    Returns:
        None where there is no mesh, or no ground-truth poses.
    Raises:
        DataError: the source cannot be read, or nothing was seen.
    """
    reference = truth.reference()
    if result.mesh is None or reference is None:
        return None
    frames = truth.frames(result.trajectory.frame_index[:: config.map_every].tolist())
    known = (frame for frame in frames if frame.T_world_cam is not None)
    m = config.map
    fused = fused_truth(known, m.voxel_m, m.min_views, m.min_m, m.max_m)
    surface = fused.surface if truth_mesh is None else sampled_surface(truth_mesh, m.samples, m.voxel_m)
    T_truth_map = view_alignment(result.trajectory, reference, config.trajectory)
    return map_metrics(result.mesh, surface, T_truth_map, m, fused.views)
