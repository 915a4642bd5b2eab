"""How well recorded poses and depth fit together: the depth of one frame is moved into another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from remov3r.frontends.recorded.recording import RecordedFrame, Recording, no_dense
from remov3r.geometry import inverse
from remov3r.types import DepthMap, Pose

PAIRS = 16
_GAPS = (1, 3)
_PIXELS = 160 * 120  # about so many of each map are compared
_SEEN = 0.15  # share of the pixels that must land in the other frame
_MEDIAN_OF_DIFFERENCE = 0.6745 * np.sqrt(2)  # of two values with standard deviation 1


@dataclass(frozen=True)
class View:
    """One frame with pose and depth; 0 = missing."""

    number: float
    T_world_cam: Pose
    depth_m: DepthMap
    K: Float[np.ndarray, "3 3"]


def pairs_of_views(recording: Recording) -> list[tuple[View, View]]:
    """Load pairs of near frames, spread over the recording; only those with pose, depth and intrinsics."""
    frames = [f for f in recording.frames if f.T_world_cam is not None and f.load_dense is not no_dense]
    count = len(frames)
    starts = np.unique(np.linspace(0, max(count - 2, 0), PAIRS // len(_GAPS)).astype(int))
    loaded: dict[int, View | None] = {}

    def at(place: int) -> View | None:
        if place not in loaded:
            loaded[place] = _view(frames[place])
        return loaded[place]

    places = [(int(i), int(i) + gap) for i in starts for gap in _GAPS if i + gap < count]
    chosen = [(at(i), at(j)) for i, j in places]
    return [(a, b) for a, b in chosen if a is not None and b is not None]


def disagreement(pairs: list[tuple[View, View]], pose: Callable[[Pose], Pose] = lambda T: T) -> float | None:
    """Return the median relative difference between depth that was moved into a frame and the depth there.

    Args:
        pose: applied to the poses first, such as their inversion.
    Returns:
        None when no pair sees the same.
    """
    found = [_compare(a, b, inverse(pose(b.T_world_cam)) @ pose(a.T_world_cam)) for a, b in pairs]
    known = [d for d in found if d is not None]
    return float(np.median(known)) if known else None


def fitted_relative_sigma(recording: Recording, low: float = 0.005, high: float = 0.3) -> float:
    """Tell from the disagreement of neighbours how exact the recorded depth is; 0.05 where nothing tells it."""
    found = disagreement(pairs_of_views(recording))
    return 0.05 if found is None else float(np.clip(found / _MEDIAN_OF_DIFFERENCE, low, high))


def _view(frame: RecordedFrame) -> View | None:
    dense = frame.load_dense(None)
    if dense is None or dense.K is None or frame.T_world_cam is None:
        return None
    there = np.isfinite(dense.depth_m) & (dense.depth_m > 0)
    depth = np.where(there, dense.depth_m, 0).astype(np.float64)
    return View(frame.number, frame.T_world_cam, depth, dense.K)


def _compare(a: View, b: View, T_b_a: Pose) -> float | None:
    step = max(int(np.sqrt(a.depth_m.size / _PIXELS)), 1)
    v, u = np.nonzero(a.depth_m[::step, ::step])
    v, u = v * step, u * step
    if len(u) == 0:
        return None
    rays = np.stack([u, v, np.ones(len(u))], 1) @ np.linalg.inv(a.K).T
    points = (rays * a.depth_m[v, u][:, None]) @ T_b_a[:3, :3].T + T_b_a[:3, 3]
    front = points[:, 2] > 1e-6
    pixels = points @ b.K.T
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = (np.where(front, pixels[:, i] / pixels[:, 2], -9) for i in (0, 1))
    height, width = b.depth_m.shape
    inside = front & (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)
    seen = np.zeros(len(u))
    seen[inside] = b.depth_m[np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)]
    both = seen > 0
    if both.sum() < max(_SEEN * len(u), 20):
        return None
    return float(np.median(np.abs(points[both, 2] - seen[both]) / seen[both]))
