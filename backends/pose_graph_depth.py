"""A few hundred depths of each keyframe: how the scales of two keyframes compare."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.geometry import inverse, project, transform, unproject
from remov3r.types import DensePrediction, Pose

_COLUMNS, _ROWS = 32, 24
_MIN_COMMON = 40
_SHARED = 16  # neighbouring depths of a network err together: so many count as one


@dataclass(frozen=True)
class CoarseDepth:
    """Depth on a coarse grid, 3 kB; 0 = missing."""

    camera: Camera
    depth_m: Float[np.ndarray, "h w"]


def coarse_depth(dense: DensePrediction) -> CoarseDepth:
    """Take the depths at the centres of the cells of a coarse grid."""
    h, w = dense.depth_m.shape
    x = np.clip(np.rint((np.arange(_COLUMNS) + 0.5) * w / _COLUMNS - 0.5), 0, w - 1).astype(int)
    y = np.clip(np.rint((np.arange(_ROWS) + 0.5) * h / _ROWS - 0.5), 0, h - 1).astype(int)
    depth = np.asarray(dense.depth_m[np.ix_(y, x)], np.float32)
    return CoarseDepth(dense.camera.resized(_COLUMNS, _ROWS), np.where(np.isfinite(depth), depth, 0))


def grid_of(coarse: CoarseDepth, camera: Camera) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
    """Return where the depths lie in another camera's image of the same view, and the depths."""
    rows, columns = np.nonzero(coarse.depth_m)
    c = coarse.camera
    u = (columns - c.cx) / c.fx * camera.fx + camera.cx
    v = (rows - c.cy) / c.fy * camera.fy + camera.cy
    return np.stack([u, v], 1), coarse.depth_m[rows, columns].astype(np.float64)


def log_scale_between(
    first: CoarseDepth, second: CoarseDepth, T_first_second: Pose, least_sigma: float
) -> tuple[float, float] | None:
    """Return log(scale of second / scale of first) and its standard deviation: the median over common points.

    Args:
        T_first_second: its translation in the lengths of the first.
    Returns:
        None where too little is seen by both.
    """
    depth = first.depth_m.astype(np.float64)
    points = unproject(depth, first.camera)[depth > 0]
    in_second = transform(inverse(T_first_second), points)
    pixels, seen = project(in_second, second.camera)
    x, y = np.rint(pixels[seen]).astype(int).T
    theirs = second.depth_m[y, x].astype(np.float64)
    there = theirs > 0
    if there.sum() < _MIN_COMMON:
        return None
    log_ratio = np.log(in_second[seen, 2][there] / theirs[there])
    middle = float(np.median(log_ratio))
    spread = 1.4826 * float(np.median(np.abs(log_ratio - middle)))
    return middle, float(np.hypot(least_sigma, 1.25 * spread / np.sqrt(len(log_ratio) / _SHARED)))
