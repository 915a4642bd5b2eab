"""All figures of a run together, and metrics.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import PositiveInt

from remov3r.config import Config
from remov3r.data.stream import StreamedSource
from remov3r.eval.depth import DepthEvalConfig, DepthMetrics, DepthPair, depth_metrics
from remov3r.eval.map import MapEvalConfig, MapMetrics, map_metrics, truth_points
from remov3r.eval.trajectory import (
    TrajectoryEvalConfig,
    TrajectoryMetrics,
    evaluate_trajectory,
    view_alignment,
)
from remov3r.types import Keyframe, Reconstruction, Trajectory

MAP_KEYS = ("accuracy_m", "completeness_m", "chamfer_m", "f_score_5cm")


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
    """Everything that was measured; None for what had no ground truth."""

    trajectory: TrajectoryReport | None = None
    depth: DepthMetrics | None = None
    map: MapMetrics | None = None

    def to_json(self) -> str:
        """Return metrics.json: the keys are fixed, a value that could not be measured is null."""
        tree: dict[str, Any] = {}
        if self.trajectory is not None:
            tree["trajectory"] = asdict(self.trajectory)
            for figures in tree["trajectory"].values():
                del figures["notes"]
        if self.depth is not None:
            tree["depth"] = asdict(self.depth)
        if self.map is not None:
            tree["map"] = {key: getattr(self.map, key) for key in MAP_KEYS}
        return json.dumps(tree, indent=2, allow_nan=False) + "\n"


def evaluate(
    result: Reconstruction,
    reference: Trajectory | None,
    truth: StreamedSource | None = None,
    config: EvalConfig = DEFAULT,
) -> Metrics:
    """Measure a run against all the ground truth there is.

    Args:
        reference: poses to compare with; None where there are none.
        truth: the same input with depth (`open_source(..., sensor=True)`), by which the keyframes' depth and
            the map are judged; None where there is none.
    Raises:
        DataError: bad or unrelated ground truth.
        MissingDependencyError: evo is not installed.
    """
    depth = None if truth is None else evaluate_depth(result.keyframes, truth, config.depth)
    return Metrics(
        None if reference is None else evaluate_trajectories(result, reference, config.trajectory),
        depth,
        None if truth is None else evaluate_map(result, truth, config),
    )


def evaluate_trajectories(
    result: Reconstruction, reference: Trajectory, config: TrajectoryEvalConfig
) -> TrajectoryReport:
    """Measure all three trajectories of a run.

    Raises:
        DataError, MissingDependencyError: as `evaluate_trajectory`.
    """
    frames, keyframes = len(result.trajectory), result.trajectory.keyframes()
    return TrajectoryReport(
        evaluate_trajectory(result.trajectory, reference, frames, config),
        evaluate_trajectory(keyframes, reference, len(keyframes), config),
        evaluate_trajectory(result.online, reference, frames, config),
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


def evaluate_map(result: Reconstruction, truth: StreamedSource, config: EvalConfig) -> MapMetrics | None:
    """Measure the mesh, placed by the rigid fit of the poses, against the depth its frames saw.

    Returns:
        None where there is no mesh, or no ground-truth poses.
    Raises:
        DataError: the source cannot be read, or nothing was seen.
    """
    reference = truth.reference()
    if result.mesh is None or reference is None:
        return None
    frames = truth.frames(result.trajectory.frame_index[:: config.map_every].tolist())
    points = truth_points((frame for frame in frames if frame.T_world_cam is not None), config.map)
    T_truth_map = view_alignment(result.trajectory, reference, config.trajectory)
    return map_metrics(result.mesh, points, T_truth_map, config.map)
