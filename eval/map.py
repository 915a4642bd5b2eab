"""Map errors: distances between the mesh and the ground truth, both as points about 1 cm apart.

accuracy_m and completeness_m are medians (estimate to truth, truth to estimate); chamfer_m is the mean of the
two mean distances; the F-score is the harmonic mean of the shares within 5 cm. These count the whole estimate;
`visible` leaves out what no ground-truth camera saw, of either, as many published figures do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import PositiveFloat, PositiveInt
from scipy.spatial import cKDTree

from remov3r.config import Config
from remov3r.errors import DataError
from remov3r.eval.surface import DepthView, Surface, sampled_surface
from remov3r.geometry import inverse, project, transform
from remov3r.types import Mesh, Pose

F_SCORE_M = 0.05


class MapEvalConfig(Config):
    """Settings of the map errors.

    Attributes:
        voxel_m: points are thinned to one for each cube of this size.
        samples: points drawn from a mesh, evenly over its area, before thinning.
        min_views: a cube counts as ground truth when so many frames saw it (fewer in runs under 15 frames).
        min_m, max_m: ground-truth depth outside this range is left out.
        behind_m: the estimate counts as visible so far behind the surface that a camera saw, and before it;
            less would forgive depth that is too far.
    """

    voxel_m: PositiveFloat = 0.01
    samples: PositiveInt = 1_000_000
    min_views: PositiveInt = 3
    min_m: PositiveFloat = 0.1
    max_m: PositiveFloat = 10.0
    behind_m: PositiveFloat = 0.5


DEFAULT = MapEvalConfig()


@dataclass(frozen=True)
class MapErrors:
    """Map errors; accuracy_m and completeness_m are medians.

    Attributes:
        precision_5cm, recall_5cm: shares of the estimate near the truth, and of the truth near the estimate.
        normal_consistency: mean absolute cosine between normals of nearest neighbours, both ways averaged;
            None where no normals are known.
    """

    accuracy_m: float
    completeness_m: float
    chamfer_m: float
    f_score_5cm: float
    accuracy_mean_m: float
    completeness_mean_m: float
    precision_5cm: float
    recall_5cm: float
    normal_consistency: float | None


@dataclass(frozen=True)
class MapMetrics(MapErrors):
    """Errors of the whole estimate.

    Attributes:
        visible: of what the ground-truth cameras saw of it and of the truth (a ground-truth mesh may go on where
            no frame looked); None without views, or when they saw nothing.
        visible_share: how much of the estimate that is.
    """

    visible: MapErrors | None = None
    visible_share: float | None = None


def map_metrics(
    mesh: Mesh,
    truth: Surface,
    T_truth_map: Pose,
    config: MapEvalConfig = DEFAULT,
    views: Sequence[DepthView] = (),
) -> MapMetrics:
    """Compare a mesh with the ground truth.

    Args:
        truth: in the ground truth's world: `fused_truth`, or `sampled_surface` of a ground-truth mesh.
        T_truth_map: brings the mesh's world onto the ground truth's (remov3r.eval.trajectory.view_alignment).
        views: of the ground truth, by which visibility is judged.
    Raises:
        DataError: the mesh has no area or there are no points.
    """
    estimate = sampled_surface(mesh, config.samples, config.voxel_m).moved(T_truth_map)
    whole = surface_errors(estimate, truth)
    if not views:
        return MapMetrics(**asdict(whole))
    seen = seen_points(estimate.points_m, views, config.behind_m)
    there = seen_points(truth.points_m, views, F_SCORE_M)
    both = seen.any() and there.any()
    visible = surface_errors(estimate.chosen(seen), truth.chosen(there)) if both else None
    return MapMetrics(**asdict(whole), visible=visible, visible_share=float(seen.mean()))


def surface_errors(estimate: Surface, truth: Surface) -> MapErrors:
    """Compare two sets of points in one world.

    Raises:
        DataError: one of them is empty.
    """
    counts = len(estimate.points_m), len(truth.points_m)
    if 0 in counts:
        raise DataError(f"map: {counts[0]} estimated and {counts[1]} true points; need some of both")
    to_truth, there = _nearest(estimate, truth)
    to_map, back = _nearest(truth, estimate)
    cosines = [_cosines(estimate, truth, there), _cosines(truth, estimate, back)]
    precision, recall = (float(np.mean(d < F_SCORE_M)) for d in (to_truth, to_map))
    f_score = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    accuracy, completeness = float(to_truth.mean()), float(to_map.mean())
    return MapErrors(
        float(np.median(to_truth)),
        float(np.median(to_map)),
        (accuracy + completeness) / 2,
        f_score,
        accuracy,
        completeness,
        precision,
        recall,
        float(np.mean([c.mean() for c in cosines])) if all(len(c) for c in cosines) else None,
    )


def seen_points(
    points_m: Float[np.ndarray, "n 3"], views: Sequence[DepthView], behind_m: float
) -> Bool[np.ndarray, " n"]:
    """Tell which points at least one camera saw: inside its image, not farther behind the surface there.

    Points in front of the surface count as seen: the camera looked through them, so they are errors.
    Where a camera has no depth it saw nothing.
    """
    waiting = np.arange(len(points_m))
    for view in views:
        if not len(waiting):
            break
        points_cam = transform(inverse(view.T_world_cam), points_m[waiting])
        uv, inside = project(points_cam, view.camera)
        u, v = np.round(uv[inside]).astype(int).T
        depth = view.depth_m[v, u]
        seen = np.zeros(len(waiting), bool)
        seen[inside] = (depth > 0) & (points_cam[inside, 2] < depth + behind_m)
        waiting = waiting[~seen]
    return ~np.isin(np.arange(len(points_m)), waiting)


def _nearest(source: Surface, target: Surface) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Distance to and number of the nearest target point; unbalanced trees are built in half the time."""
    tree = cKDTree(target.points_m, leafsize=32, balanced_tree=False, compact_nodes=False)
    distance, index = tree.query(source.points_m, workers=-1)
    return np.asarray(distance), np.asarray(index)


def _cosines(source: Surface, target: Surface, index: Int[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    """Absolute cosines between each normal and its neighbour's, where both are known."""
    cosines = np.abs((source.normals * target.normals[index]).sum(1))
    return cosines[np.isfinite(cosines)]
