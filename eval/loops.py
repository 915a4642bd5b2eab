"""Loops against ground truth: how many of those given are right, and how many places seen again were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from pydantic import Field, PositiveInt

from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.errors import DataError
from remov3r.geometry import inverse, pixel_rays, rotation_angle_rad
from remov3r.types import DepthMap, Pose, RelativePose


class LoopEvalConfig(Config):
    """When a loop is right, and when a place counts as seen again.

    Attributes:
        max_error_m, max_error_deg: of the transform; the former grows to `max_error_share` of the older view's
            median depth where that is more.
        min_overlap: share of what either view sees that the other sees too, for a loop to be expected.
        same_place_overlap: that share for a loop to be believable at all.
        depth_tolerance: relative difference of depth up to which two views see the same surface.
        grid: rows of the grid of pixels by which overlap is measured.
    """

    max_error_m: float = Field(0.05, gt=0)
    max_error_deg: float = Field(2.0, gt=0)
    max_error_share: float = Field(0.03, ge=0)
    min_overlap: float = Field(0.4, gt=0, le=1)
    same_place_overlap: float = Field(0.1, gt=0, le=1)
    depth_tolerance: float = Field(0.1, gt=0)
    grid: PositiveInt = 12


@dataclass(frozen=True)
class TrueView:
    """A keyframe as it really was: its pose, and its depth (0 = missing) at the size of `camera`."""

    frame_index: int
    T_world_cam: Pose
    depth_m: DepthMap
    camera: Camera


@dataclass(frozen=True)
class LoopMetrics:
    """How good loops are.

    Attributes:
        loops: that were given; same_place: between views that do overlap; correct: with the right transform too.
        revisits: keyframes that see a place again; found: those of them with a correct loop.
        error_m, error_deg: medians over the correct loops; None without any.
    """

    loops: int
    same_place: int
    correct: int
    revisits: int
    found: int
    error_m: float | None
    error_deg: float | None

    @property
    def precision(self) -> float | None:
        """Share of the loops whose transform is right; None without loops."""
        return self.correct / self.loops if self.loops else None

    @property
    def place_precision(self) -> float | None:
        """Share of the loops that are between views of one place, however good their transform."""
        return self.same_place / self.loops if self.loops else None

    @property
    def recall(self) -> float | None:
        """Share of the places seen again that was found; None without any."""
        return self.found / self.revisits if self.revisits else None


def overlaps(views: Sequence[TrueView], config: LoopEvalConfig | None = None) -> Float[np.ndarray, "n n"]:
    """Return for each pair of views the share of either that the other sees, the smaller of the two."""
    config = config or LoopEvalConfig()
    seen = np.zeros((len(views), len(views)))
    for i, view in enumerate(views):
        points = _sampled_points(view, config.grid)
        if len(points):
            for j, other in enumerate(views):
                seen[i, j] = _share_seen(points, other, config.depth_tolerance)
    return np.minimum(seen, seen.T)


def evaluate_loops(
    loops: Sequence[RelativePose],
    views: Sequence[TrueView],
    recent: int,
    config: LoopEvalConfig | None = None,
) -> LoopMetrics:
    """Measure the loops of a run.

    Args:
        views: all keyframes, in order.
        recent: pairs of keyframes at most so far apart are no loops, whatever they see.
    Raises:
        DataError: a loop names a frame that is not among the views.
    """
    config = config or LoopEvalConfig()
    number = {view.frame_index: i for i, view in enumerate(views)}
    unknown = {i for loop in loops for i in (loop.from_index, loop.to_index)} - number.keys()
    if unknown:
        raise DataError(f"loops name frames that are no keyframes: {sorted(unknown)[:5]}")
    errors_m, errors_deg = np.zeros(len(loops)), np.zeros(len(loops))
    right = np.zeros(len(loops), bool)
    for i, loop in enumerate(loops):
        old, new = views[number[loop.from_index]], views[number[loop.to_index]]
        gap = inverse(inverse(old.T_world_cam) @ new.T_world_cam) @ loop.T_from_to
        errors_m[i], errors_deg[i] = np.linalg.norm(gap[:3, 3]), np.rad2deg(rotation_angle_rad(gap))
        valid = old.depth_m[old.depth_m > 0]
        share = config.max_error_share * float(np.median(valid)) if len(valid) else 0.0
        right[i] = errors_m[i] < max(config.max_error_m, share) and errors_deg[i] < config.max_error_deg
    overlap = overlaps(views, config)
    same = [overlap[number[k.from_index], number[k.to_index]] >= config.same_place_overlap for k in loops]
    revisits = _revisits(views, overlap, recent, config)
    found = {loop.to_index for loop, good in zip(loops, right) if good} & revisits
    return LoopMetrics(
        len(loops),
        int(sum(same)),
        int(right.sum()),
        len(revisits),
        len(found),
        float(np.median(errors_m[right])) if right.any() else None,
        float(np.median(errors_deg[right])) if right.any() else None,
    )


def _revisits(
    views: Sequence[TrueView], overlap: Float[np.ndarray, "n n"], recent: int, config: LoopEvalConfig
) -> set[int]:
    """Return the frames that see what one before the recent ones saw."""
    earlier = np.tril(overlap >= config.min_overlap, -recent - 1)
    return {views[i].frame_index for i in np.flatnonzero(earlier.any(axis=1)).tolist()}


def _sampled_points(view: TrueView, rows: int) -> Float[np.ndarray, "p 3"]:
    """Return points in the world on a grid of the view's pixels, where it has depth."""
    step = max(1, view.camera.height // rows)
    part = np.s_[step // 2 :: step, step // 2 :: step]
    depth = view.depth_m[part].astype(np.float64)
    points = (pixel_rays(view.camera)[part] * depth[..., None])[depth > 0]
    return points @ view.T_world_cam[:3, :3].T + view.T_world_cam[:3, 3]


def _share_seen(points: Float[np.ndarray, "p 3"], view: TrueView, tolerance: float) -> float:
    """Return the share of points in the world that a view sees; those where it has no depth do not count."""
    c = view.camera
    P = (points - view.T_world_cam[:3, 3]) @ view.T_world_cam[:3, :3]
    z = np.maximum(P[:, 2], 1e-6)
    x, y = c.fx * P[:, 0] / z + c.cx, c.fy * P[:, 1] / z + c.cy
    inside = (P[:, 2] > 1e-6) & (x > -0.5) & (y > -0.5) & (x < c.width - 0.5) & (y < c.height - 0.5)
    depth = view.depth_m[np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)]
    known = len(points) - int((depth <= 0).sum())
    agree = (depth > 0) & (np.abs(depth - z[inside]) < tolerance * z[inside])
    return float(agree.sum()) / known if known else 0.0
