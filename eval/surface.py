"""Surfaces as points with normals: drawn from a mesh, or fused from ground-truth depth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from remov3r.camera import Camera
from remov3r.errors import DataError
from remov3r.geometry import transform, unproject
from remov3r.types import Frame, Mesh, Pose

VIEW_WIDTH = 160
_JUMP = 0.05  # neighbouring depths that differ by a larger share lie on two surfaces


@dataclass(frozen=True)
class Surface:
    """Points of a surface.

    Attributes:
        normals: unit length, either side; NaN where unknown.
    """

    points_m: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]

    def moved(self, T: Pose) -> Surface:
        """Return the surface in another world."""
        return Surface(transform(T, self.points_m), self.normals @ T[:3, :3].T)

    def chosen(self, keep: Bool[np.ndarray, " n"]) -> Surface:
        """Return some of the points."""
        return Surface(self.points_m[keep], self.normals[keep])


@dataclass(frozen=True)
class DepthView:
    """What one ground-truth camera saw, at a small size; 0 = missing."""

    camera: Camera
    depth_m: Float[np.ndarray, "h w"]
    T_world_cam: Pose


@dataclass(frozen=True)
class FusedTruth:
    """Ground truth from depth maps: the surface that enough of them saw, and the views."""

    surface: Surface
    views: tuple[DepthView, ...]


def sampled_surface(mesh: Mesh, count: int, voxel_m: float, seed: int = 0) -> Surface:
    """Draw points evenly over a mesh and thin them to one for each cube of space.

    Raises:
        DataError: the mesh has no area.
    """
    return thinned(sample_mesh(mesh, count, seed), voxel_m)


def sample_mesh(mesh: Mesh, count: int, seed: int = 0) -> Surface:
    """Draw points evenly over the surface, with the normals of their triangles.

    Raises:
        DataError: the mesh has no area.
    """
    corners = mesh.vertices_m[mesh.triangles]
    edges = corners[:, 1:] - corners[:, :1]
    normals = np.cross(edges[:, 0], edges[:, 1])
    area = np.linalg.norm(normals, axis=1)
    if not area.sum() > 0:
        raise DataError(f"map: the mesh ({len(mesh.triangles)} triangles) has no area")
    rng = np.random.default_rng(seed)
    # One draw from each of equal shares of the area: evener than free draws, and neighbours stay neighbours.
    reached = np.cumsum(area)
    drawn = (np.arange(count) + rng.random(count)) * (reached[-1] / count)
    triangle = np.minimum(np.searchsorted(reached, drawn, side="right"), np.flatnonzero(area)[-1])
    ab = rng.random((count, 2, 1))
    ab = np.where(ab.sum(1, keepdims=True) > 1, 1 - ab, ab)  # fold the far half of the parallelogram back
    points = corners[triangle, 0] + (ab * edges[triangle]).sum(1)
    return Surface(points, normals[triangle] / area[triangle, None])


def thinned(surface: Surface, voxel_m: float) -> Surface:
    """Replace the points in each cube of space by their mean."""
    return _Cells.of(surface, voxel_m).surface()


def fused_truth(
    frames: Iterable[Frame], voxel_m: float, min_views: int, min_m: float, max_m: float
) -> FusedTruth:
    """Fuse the ground-truth depth of frames: the mean point of each cube of space that enough of them saw.

    A single view's points would lay the sensor's noise around every surface as a thick shell.

    Args:
        frames: with depth and pose, consumed one after the other; only what they saw counts as ground truth.
        min_views: a cube counts when so many frames saw it (fewer in runs under 15 frames).
        min_m, max_m: depth outside this range is left out.
    Raises:
        DataError: a frame has no depth or no pose.
    """
    nothing = Surface(np.zeros((0, 3)), np.zeros((0, 3)))
    parts, views, waiting = [_Cells.of(nothing, voxel_m)], [], 0
    for frame in frames:
        if frame.depth_m is None or frame.T_world_cam is None:
            raise DataError(f"frame {frame.index}: has no ground-truth depth or pose")
        depth = np.where((frame.depth_m >= min_m) & (frame.depth_m <= max_m), frame.depth_m, 0)
        seen = _lifted(depth, frame.camera).moved(frame.T_world_cam)
        parts.append(_Cells.of(seen, voxel_m))
        views.append(_view(depth, frame))
        waiting += len(parts[-1].keys)
        if waiting > len(parts[0].keys) + 2_000_000:  # merged in few large steps: each sorts everything
            parts, waiting = [_Cells.merged(parts)], 0
    cells = _Cells.merged(parts)
    keep = cells.views >= min(min_views, max(1, len(views) // 5))
    return FusedTruth(cells.surface().chosen(keep), tuple(views))


def _lifted(depth_m: Float[np.ndarray, "h w"], camera: Camera) -> Surface:
    """Points and normals in the camera's frame, normals by neighbouring pixels of the same surface."""
    points = unproject(depth_m.astype(np.float64), camera)
    right, down = np.roll(points, -1, 1) - points, np.roll(points, -1, 0) - points
    normals = np.cross(right, down)
    length = np.linalg.norm(normals, axis=-1)
    ahead = np.stack([np.roll(depth_m, -1, 1), np.roll(depth_m, -1, 0)])
    smooth = (np.abs(ahead - depth_m) < _JUMP * depth_m).all(0) & (length > 0)
    smooth[-1], smooth[:, -1] = False, False
    normals = np.where(smooth[..., None], normals / np.where(length > 0, length, 1)[..., None], 0)
    known = depth_m > 0
    return Surface(points[known], normals[known])


def _view(depth_m: Float[np.ndarray, "h w"], frame: Frame) -> DepthView:
    assert frame.T_world_cam is not None
    step = max(1, depth_m.shape[1] // VIEW_WIDTH)
    small, c = depth_m[::step, ::step], frame.camera  # pixel (0, 0) stays where it is
    camera = Camera(small.shape[1], small.shape[0], c.fx / step, c.fy / step, c.cx / step, c.cy / step)
    return DepthView(camera, small, frame.T_world_cam)


@dataclass(frozen=True)
class _Cells:
    """Occupied cubes of space: their numbers in increasing order, mean points and normals, views that saw them."""

    keys: Int[np.ndarray, " n"]
    means: Float[np.ndarray, "n 6"]
    views: Float[np.ndarray, " n"]

    @staticmethod
    def of(surface: Surface, voxel_m: float) -> _Cells:
        """Sort one view's points into cubes; 21 bits a side reach 10 km either way at 1 cm."""
        cell = np.floor(surface.points_m / voxel_m).astype(np.int64) + (1 << 20)
        keys, which = np.unique((cell[:, 0] << 42) | (cell[:, 1] << 21) | cell[:, 2], return_inverse=True)
        values = np.concatenate([surface.points_m, np.nan_to_num(surface.normals)], 1)
        return _Cells(keys, _weighted_means(values, np.ones(len(values)), which)[0], np.ones(len(keys)))

    @staticmethod
    def merged(parts: Sequence[_Cells]) -> _Cells:
        """Put views together."""
        keys, which = np.unique(np.concatenate([p.keys for p in parts]), return_inverse=True)
        means, views = (np.concatenate([getattr(p, name) for p in parts]) for name in ("means", "views"))
        return _Cells(keys, *_weighted_means(means, views, which))

    def surface(self) -> Surface:
        """Return the mean points, with normals where any was known."""
        length = np.linalg.norm(self.means[:, 3:], axis=1, keepdims=True)
        normals = np.where(length > 1e-6, self.means[:, 3:] / np.where(length > 0, length, 1), np.nan)
        return Surface(self.means[:, :3], normals)


def _weighted_means(
    values: Float[np.ndarray, "n k"], weights: Float[np.ndarray, " n"], which: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
    total = np.bincount(which, weights).astype(np.float64)  # empty input counts in integers
    sums = np.stack([np.bincount(which, weights * column) for column in values.T], 1)
    return sums / total[:, None], total
