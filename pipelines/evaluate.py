"""Score a run against the ground truth that its input, or a given reference, brings along."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from remov3r.backends.open3d_import import load_open3d
from remov3r.data.sources import open_source, read_reference
from remov3r.data.stream import StreamedSource
from remov3r.errors import ConfigError, DataError
from remov3r.eval.metrics import EvalConfig, Metrics, evaluate
from remov3r.eval.rotations import stored_rotations
from remov3r.eval.trajectory_files import read_trajectory_file
from remov3r.types import Mesh, Reconstruction, Trajectory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroundTruth:
    """What there is to score against.

    Attributes:
        reference: poses, or None.
        depth: the same input with registered depth, or None.
        stored_rotations: of the reference's poses as the data set holds them, not quite rotations; None where
            they are not known.
        mesh: the true surface, in the world of the reference; None where the depth must do.
    """

    reference: Trajectory | None = None
    depth: StreamedSource | None = None
    stored_rotations: Float[np.ndarray, "n 3 3"] | None = None
    mesh: Mesh | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to score against."""
        return self.reference is None and self.depth is None


def ground_truth_of(
    path: Path, dataset: str = "auto", sensor: bool = False, camera: str | None = None
) -> GroundTruth:
    """Find the ground truth at a path: a trajectory file, or a data set with poses and perhaps depth.

    Args:
        sensor: the run used the depth sensor, so its poses are the colour camera's.
        camera: intrinsics in place of the data set's own, as in `open_source`.
    Raises:
        DataError: nothing there, or bad poses.
    """
    if path.is_file():
        return GroundTruth(read_trajectory_file(path).trajectory)
    reference = read_reference(path, dataset, sensor)
    return GroundTruth(reference, depth_of(path, dataset, camera), rotations_of(path, reference))


def rotations_of(path: Path, reference: Trajectory) -> Float[np.ndarray, "n 3 3"] | None:
    """Read the rotations behind a data set's reference before their projection; None where not known."""
    stored = stored_rotations(path)
    return stored if stored is not None and len(stored) == len(reference) else None


def depth_of(path: Path, dataset: str = "auto", camera: str | None = None) -> StreamedSource | None:
    """Open an input with its depth; None where it has none."""
    try:
        return open_source(path, dataset, camera, sensor=True)
    except (DataError, ConfigError):
        return None


def read_truth_mesh(path: Path) -> Mesh:
    """Read a ground-truth mesh of any format that Open3D knows (PLY, OBJ, STL, glTF …); colours are left out.

    Raises:
        DataError: no such file, or it holds no triangles.
        MissingDependencyError: Open3D is not installed.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no ground-truth mesh here; get it with the data set's poses")
    read = load_open3d().io.read_triangle_mesh(str(path))
    vertices, triangles = np.asarray(read.vertices, np.float64), np.asarray(read.triangles, np.int64)
    if not len(triangles):
        raise DataError(f"{path}: holds no triangles that can be read")
    return Mesh(vertices, triangles, np.zeros_like(vertices), np.zeros_like(vertices))


def score(result: Reconstruction, truth: GroundTruth, config: EvalConfig | None = None) -> Metrics | None:
    """Measure a run; None where there is no ground truth at all. What looks wrong is logged as a warning.

    Raises:
        DataError: the ground truth is unreadable or belongs to other frames.
        MissingDependencyError: evo is not installed.
    """
    if truth.empty:
        return None
    config = config or EvalConfig()
    metrics = evaluate(
        result, truth.reference, truth.depth, config, truth.stored_rotations, truth_mesh=truth.mesh
    )
    if metrics.trajectory is not None:
        for note in metrics.trajectory.all.notes:
            logger.warning(note)
    return metrics
