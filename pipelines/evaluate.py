"""Score a run against the ground truth that its input, or a given reference, brings along."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from remov3r.data.sources import open_source, read_reference
from remov3r.data.stream import StreamedSource
from remov3r.errors import ConfigError, DataError
from remov3r.eval.metrics import Metrics, evaluate
from remov3r.types import Reconstruction, Trajectory


@dataclass(frozen=True)
class GroundTruth:
    """What there is to score against.

    Attributes:
        reference: poses, or None.
        depth: the same input with registered depth, or None.
    """

    reference: Trajectory | None = None
    depth: StreamedSource | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to score against."""
        return self.reference is None and self.depth is None


def ground_truth_of(path: Path, dataset: str = "auto", sensor: bool = False) -> GroundTruth:
    """Find the ground truth at a path: a TUM trajectory file, or a data set with poses and perhaps depth.

    Args:
        sensor: the run used the depth sensor, so its poses are the colour camera's.
    Raises:
        DataError: nothing there, or bad poses.
    """
    if path.suffix in (".tum", ".txt"):
        return GroundTruth(read_reference(path))
    return GroundTruth(read_reference(path, dataset, sensor), depth_of(path, dataset))


def depth_of(path: Path, dataset: str = "auto") -> StreamedSource | None:
    """Open an input with its depth; None where it has none."""
    try:
        return open_source(path, dataset, sensor=True)
    except (DataError, ConfigError):
        return None


def score(result: Reconstruction, truth: GroundTruth) -> Metrics | None:
    """Measure a run; None where there is no ground truth at all.

    Raises:
        DataError: the ground truth is unreadable or belongs to other frames.
        MissingDependencyError: evo is not installed.
    """
    return None if truth.empty else evaluate(result, truth.reference, truth.depth)
