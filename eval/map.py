"""Map errors: distances between the mesh and the fused ground-truth depth, both as points about 1 cm apart.

accuracy_m and completeness_m are medians (estimate to truth, truth to estimate); chamfer_m is the mean of the
two mean distances; the F-score is the harmonic mean of the shares within 5 cm. Nothing is cut away from the
estimate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from pydantic import PositiveFloat, PositiveInt
from scipy.spatial import cKDTree

from remov3r.config import Config
from remov3r.errors import DataError
from remov3r.geometry import transform, unproject
from remov3r.types import Frame, Mesh, Pose

Points = Float[np.ndarray, "n 3"]
TruthPoints = Float[np.ndarray, "m 3"]


class MapEvalConfig(Config):
    """Settings of the map errors.

    Attributes:
        voxel_m: points are thinned to one for each cube of this size.
        samples: points drawn from the mesh, evenly over its area, before thinning.
        min_views: a cube counts as ground truth when so many frames saw it (fewer in runs under 15 frames).
        min_m, max_m: ground-truth depth outside this range is left out.
    """

    voxel_m: PositiveFloat = 0.01
    samples: PositiveInt = 1_000_000
    min_views: PositiveInt = 3
    min_m: PositiveFloat = 0.1
    max_m: PositiveFloat = 10.0


DEFAULT = MapEvalConfig()


F_SCORE_M = 0.05


@dataclass(frozen=True)
class MapMetrics:
    """Map errors; the first two are medians."""

    accuracy_m: float
    completeness_m: float
    chamfer_m: float
    f_score_5cm: float
    accuracy_mean_m: float
    completeness_mean_m: float


def map_metrics(
    mesh: Mesh, truth_points_m: TruthPoints, T_truth_map: Pose, config: MapEvalConfig = DEFAULT
) -> MapMetrics:
    """Compare a mesh with ground-truth points.

    Args:
        truth_points_m: in the ground truth's world, as `truth_points` makes them.
        T_truth_map: brings the mesh's world onto the ground truth's (remov3r.eval.trajectory.view_alignment).
    Raises:
        DataError: the mesh has no area or there are no points.
    """
    points = transform(T_truth_map, thinned(sample_mesh(mesh, config.samples), config.voxel_m))
    return cloud_metrics(points, truth_points_m)


def cloud_metrics(points_m: Points, truth_points_m: TruthPoints) -> MapMetrics:
    """Compare two sets of points in one world.

    Raises:
        DataError: one of them is empty.
    """
    if len(points_m) == 0 or len(truth_points_m) == 0:
        raise DataError(
            f"map: {len(points_m)} estimated and {len(truth_points_m)} true points; need some of both"
        )
    to_truth = np.asarray(cKDTree(truth_points_m).query(points_m, workers=-1)[0])
    to_map = np.asarray(cKDTree(points_m).query(truth_points_m, workers=-1)[0])
    precision, recall = (float(np.mean(d < F_SCORE_M)) for d in (to_truth, to_map))
    f_score = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    accuracy, completeness = float(to_truth.mean()), float(to_map.mean())
    return MapMetrics(
        float(np.median(to_truth)),
        float(np.median(to_map)),
        (accuracy + completeness) / 2,
        f_score,
        accuracy,
        completeness,
    )


def truth_points(frames: Iterable[Frame], config: MapEvalConfig = DEFAULT) -> Points:
    """Fuse the ground-truth depth of frames: the mean point of each cube of space that enough of them saw.

    A single view's points would lay the sensor's noise around every surface as a thick shell.

    Args:
        frames: with depth and pose, consumed one after the other; only what they saw counts as ground truth.
    Raises:
        DataError: a frame has no depth or no pose.
    """
    parts, count, waiting = [_Cells.of(np.zeros((0, 3)), config.voxel_m)], 0, 0
    for frame in frames:
        if frame.depth_m is None or frame.T_world_cam is None:
            raise DataError(f"frame {frame.index}: has no ground-truth depth or pose")
        seen = (frame.depth_m >= config.min_m) & (frame.depth_m <= config.max_m)
        points_cam = unproject(frame.depth_m, frame.camera)[seen].astype(np.float64)
        parts.append(_Cells.of(transform(frame.T_world_cam, points_cam), config.voxel_m))
        count, waiting = count + 1, waiting + len(parts[-1].keys)
        if waiting > len(parts[0].keys) + 2_000_000:  # merged in few large steps: each sorts everything
            parts, waiting = [_Cells.merged(parts)], 0
    cells = _Cells.merged(parts)
    keep = cells.views >= min(config.min_views, max(1, count // 5))
    return cells.means[keep]


def thinned(points_m: Points, voxel_m: float) -> Float[np.ndarray, "m 3"]:
    """Replace the points in each cube of space by their mean."""
    return _Cells.of(points_m, voxel_m).means


@dataclass(frozen=True)
class _Cells:
    """Occupied cubes of space: their numbers in increasing order, mean points, how many views saw them."""

    keys: Int[np.ndarray, " n"]
    means: Points
    views: Float[np.ndarray, " n"]

    @staticmethod
    def of(points_m: Float[np.ndarray, "p 3"], voxel_m: float) -> _Cells:
        """Sort one view's points into cubes; 21 bits a side reach 10 km either way at 1 cm."""
        cell = np.floor(points_m / voxel_m).astype(np.int64) + (1 << 20)
        keys, which = np.unique((cell[:, 0] << 42) | (cell[:, 1] << 21) | cell[:, 2], return_inverse=True)
        return _Cells(keys, _weighted_means(points_m, np.ones(len(points_m)), which)[0], np.ones(len(keys)))

    @staticmethod
    def merged(parts: Sequence[_Cells]) -> _Cells:
        """Put views together."""
        keys, which = np.unique(np.concatenate([p.keys for p in parts]), return_inverse=True)
        points, views = (np.concatenate([getattr(p, name) for p in parts]) for name in ("means", "views"))
        return _Cells(keys, *_weighted_means(points, views, which))


def _weighted_means(
    points: Points, weights: Float[np.ndarray, " n"], which: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, " m"]]:
    total = np.bincount(which, weights).astype(np.float64)  # empty input counts in integers
    sums = np.stack([np.bincount(which, weights * points[:, axis]) for axis in range(3)], 1)
    return sums / total[:, None], total


def sample_mesh(mesh: Mesh, count: int, seed: int = 0) -> Points:
    """Draw points evenly over the surface.

    Raises:
        DataError: the mesh has no area.
    """
    corners = mesh.vertices_m[mesh.triangles]
    edges = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    if not area.sum() > 0:
        raise DataError(f"map: the mesh ({len(mesh.triangles)} triangles) has no area")
    rng = np.random.default_rng(seed)
    triangle = rng.choice(len(area), count, p=area / area.sum())
    ab = rng.random((count, 2, 1))
    ab = np.where(ab.sum(1, keepdims=True) > 1, 1 - ab, ab)  # fold the far half of the parallelogram back
    return corners[triangle, 0] + (ab * edges[triangle]).sum(1)
