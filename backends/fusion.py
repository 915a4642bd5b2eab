"""Confidence-weighted fusion of depth maps into a truncated signed distance field."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from scipy.sparse.csgraph import connected_components

from remov3r.backends.open3d_import import load_open3d
from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.errors import DataError, ShapeError
from remov3r.geometry import inverse
from remov3r.types import DensePrediction, DepthMap, Mesh, PointCloud, Pose

logger = logging.getLogger(__name__)

BLOCK = 16  # voxels per side of a block
CHUNK = 32  # blocks updated at a time, so that the arrays in between stay in the cache


class FusionConfig(Config):
    """Resolution, reach and weights of the volume.

    Attributes:
        truncation_voxels: half width of the band around surfaces that is updated.
        upsample_to_width: narrower depth maps are enlarged (in inverse depth) so that planes fuse smoothly.
        max_curvature: depth edges are left out: where inverse depth bends by more than this fraction.
        reference_sigma_m: sigma of a pixel with weight 1; weights go with 1/sigma².
        min_weight, max_weight: the limits of a pixel's weight.
        min_views: how many average pixels must have seen a voxel for it to become surface.
        min_component_triangles: smaller loose pieces are dropped.
        max_blocks: cap on memory (about 80 kB a block); beyond it no new space is mapped.
    """

    voxel_m: PositiveFloat = 0.02
    truncation_voxels: PositiveFloat = 8.0
    min_depth_m: NonNegativeFloat = 0.2
    max_depth_m: PositiveFloat = 4.5
    upsample_to_width: NonNegativeInt = 256
    max_curvature: PositiveFloat = 0.05
    reference_sigma_m: PositiveFloat = 0.05
    min_weight: PositiveFloat = 0.02
    max_weight: PositiveFloat = 10.0
    min_views: PositiveFloat = 2.0
    min_component_triangles: NonNegativeInt = 200
    max_blocks: PositiveInt = 8000


@dataclass(frozen=True)
class Measurement:
    """A depth map made ready for the volume; weight 0 where it says nothing. Colours are 0..255."""

    camera: Camera
    depth_m: DepthMap
    weight: DepthMap
    rgb: Float[np.ndarray, "h w 3"]


def prepare(dense: DensePrediction, rgb: UInt8[np.ndarray, "hc wc 3"], config: FusionConfig) -> Measurement:
    """Turn sigma into weights, leave out depth edges, enlarge small depth maps.

    Raises:
        ShapeError: depth, sigma and camera differ in size.
        DataError: depth holds NaN or infinite values, or sigma NaN.
    """
    camera = dense.camera
    if dense.depth_m.shape != (camera.height, camera.width) or dense.sigma_m.shape != dense.depth_m.shape:
        raise ShapeError(
            f"depth {dense.depth_m.shape} and sigma {dense.sigma_m.shape} do not fit the camera "
            f"{camera.height}x{camera.width}"
        )
    if not np.isfinite(dense.depth_m).all() or np.isnan(dense.sigma_m).any():
        raise DataError("depth to fuse holds NaN or infinite values (missing depth is 0, its sigma infinite)")
    depth = dense.depth_m.astype(np.float32)
    usable = (depth > 0) & ~_depth_edges(depth, config.max_curvature)
    sigma = np.maximum(dense.sigma_m.astype(np.float32), 1e-4)
    weight = np.clip((config.reference_sigma_m / sigma) ** 2, config.min_weight, config.max_weight)
    weight[~usable | ~np.isfinite(sigma)] = 0
    if camera.width < config.upsample_to_width:
        height = round(camera.height * config.upsample_to_width / camera.width)
        camera = camera.resized(config.upsample_to_width, height)
        depth, weight = _enlarged(depth, weight, (camera.width, camera.height))
    size = (camera.width, camera.height)
    shrinks = rgb.shape[1] > camera.width
    colors = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    weight[(depth < config.min_depth_m) | (depth > config.max_depth_m)] = 0
    return Measurement(camera, np.where(weight > 0, depth, 0), weight, colors.astype(np.float32))


class TsdfVolume:
    """A sparse volume (Open3D's VoxelBlockGrid) of signed distances, weights and colours.

    References: Curless & Levoy 1996, sec. 3.
    """

    def __init__(self, config: FusionConfig | None = None) -> None:
        self._config = config or FusionConfig()
        self._o3d = load_open3d()
        core = self._o3d.core
        self._grid: Any = self._o3d.t.geometry.VoxelBlockGrid(
            ("tsdf", "weight", "color"),
            (core.float32,) * 3,
            ((1,), (1,), (3,)),
            self._config.voxel_m,
            BLOCK,
            500,
        )
        self._frames = 0
        self._pixels = 0
        self._weight_sum = 0.0
        self._refused_blocks = 0
        self._mesh: Mesh | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, in words."""
        if not self._refused_blocks:
            return ()
        return (
            f"the map is full ({self._config.max_blocks} blocks of {BLOCK * self._config.voxel_m:.2f} m): "
            f"{self._refused_blocks} blocks were left out; use larger voxels or raise fusion.max_blocks",
        )

    def integrate(self, dense: DensePrediction, rgb: UInt8[np.ndarray, "hc wc 3"], T_world_cam: Pose) -> None:
        """Fuse one depth map, each pixel weighted by 1/sigma².

        Args:
            rgb: the image with the same field of view, of any size.
        Raises:
            ShapeError: depth, sigma and camera differ in size.
            DataError: depth or pose holds NaN or infinite values.
        """
        self._update(prepare(dense, rgb, self._config), T_world_cam, sign=1)

    def deintegrate(
        self, dense: DensePrediction, rgb: UInt8[np.ndarray, "hc wc 3"], T_world_cam: Pose
    ) -> None:
        """Take back what `integrate` did with exactly these arguments (to fuse it again elsewhere).

        Raises:
            ShapeError: depth, sigma and camera differ in size.
            DataError: depth or pose holds NaN or infinite values.
        """
        self._update(prepare(dense, rgb, self._config), T_world_cam, sign=-1)

    def mesh(self) -> Mesh | None:
        """Extract the surface with colours and normals; None where nothing was seen well enough."""
        if self._mesh is None and self._frames > 0 and self._pixels > 0:
            self._mesh = self._extract()
        return self._mesh

    def cloud(self) -> PointCloud | None:
        """Return the points of the surface; None where there is none."""
        mesh = self.mesh()
        return None if mesh is None else PointCloud(mesh.vertices_m, mesh.colors, mesh.normals)

    def _update(self, seen: Measurement, T_world_cam: Pose, sign: int) -> None:
        if T_world_cam.shape != (4, 4) or not np.isfinite(T_world_cam).all():
            raise DataError("pose to fuse at holds NaN or infinite values, or is not 4x4")
        self._mesh = None
        self._frames += sign
        self._pixels += sign * int((seen.weight > 0).sum())
        self._weight_sum += sign * float(seen.weight.sum())
        if not seen.weight.any():
            return
        T_cam_world = inverse(T_world_cam.astype(np.float64))
        buffers = self._allocate(self._touched_blocks(seen, T_cam_world), grow=sign > 0)
        # Only after the allocation: an array fetched before the grid grows is a stale copy.
        layers = [self._grid.attribute(name) for name in ("tsdf", "weight", "color")]
        tsdf, weight, color = (a.reshape((-1, a.shape[-1])).numpy() for a in layers)
        weight_of, rgb_of = seen.weight.ravel(), seen.rgb.reshape(-1, 3)
        for first in range(0, len(buffers), CHUNK):
            positions, voxels = self._grid.voxel_coordinates_and_flattened_indices(
                buffers[first : first + CHUNK]
            )
            chosen, distance, pixel = self._project(positions.numpy(), seen, T_cam_world)
            index, added = voxels.numpy()[chosen], sign * weight_of[pixel][:, None]
            before = weight[index]
            after = before + added
            # Rounding leaves a trace of weight where everything was taken back.
            kept = after > 1e-5
            share = np.where(kept, 1 / np.where(kept, after, 1), 0)
            tsdf[index] = (tsdf[index] * before + distance[:, None] * added) * share
            color[index] = (color[index] * before + rgb_of[pixel] * added) * share
            weight[index] = np.where(kept, after, 0)

    def _touched_blocks(self, seen: Measurement, T_cam_world: Pose) -> Any:
        """Coordinates of the blocks within the truncation band of the depth map."""
        core, config = self._o3d.core, self._config
        K = seen.camera.K
        K[:2, 2] += 0.5  # Open3D's tensor code puts pixel centres at +0.5
        image = self._o3d.t.geometry.Image(core.Tensor(np.ascontiguousarray(seen.depth_m, dtype=np.float32)))
        return self._grid.compute_unique_block_coordinates(
            image, core.Tensor(K), core.Tensor(T_cam_world), 1.0, config.max_depth_m, config.truncation_voxels
        )

    def _allocate(self, blocks: Any, grow: bool) -> Any:
        """Activate blocks as far as the cap allows; return the buffer indices of those that exist."""
        table = self._grid.hashmap()
        if grow:
            _, present = table.find(blocks)
            new = np.flatnonzero(~present.numpy())
            room = max(self._config.max_blocks - table.size(), 0)
            if len(new) > room and not self._refused_blocks:
                logger.warning("the map is full at %d blocks", self._config.max_blocks)
            self._refused_blocks += max(len(new) - room, 0)
            if len(new[:room]):
                table.activate(blocks[self._o3d.core.Tensor(new[:room])])
        buffers, present = table.find(blocks)
        return buffers[present]

    def _project(
        self, positions: Float[np.ndarray, "n 3"], seen: Measurement, T_cam_world: Pose
    ) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        """Find the voxels that the depth map measures, their distance (-1..1) and their flat pixel index."""
        camera, T = seen.camera, T_cam_world.astype(np.float32)
        x, y, z = T[:3, :3] @ positions.T + T[:3, 3:]
        # Voxels behind the camera get a depth of 1 m to be divided by, and are told by their own z below.
        scale = 1 / np.where(z > 1e-3, z, np.float32(1))
        column = np.rint(np.float32(camera.fx) * x * scale + np.float32(camera.cx))
        row = np.rint(np.float32(camera.fy) * y * scale + np.float32(camera.cy))
        inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
        index = np.flatnonzero(inside & (z > 1e-3))
        pixel = row[index].astype(np.int32) * camera.width + column[index].astype(np.int32)
        truncation = np.float32(self._config.truncation_voxels * self._config.voxel_m)
        distance = (seen.depth_m.ravel()[pixel] - z[index]) / truncation
        near = np.flatnonzero((seen.weight.ravel()[pixel] > 0) & (distance >= -1))
        return index[near], np.minimum(distance[near], np.float32(1)), pixel[near]

    def _extract(self) -> Mesh | None:
        views = min(self._config.min_views, float(self._frames))
        # Open3D's comparison is strict, so half an average pixel makes one view enough.
        threshold = max(views - 0.5, 0.0) * self._weight_sum / self._pixels
        raw = self._grid.extract_triangle_mesh(weight_threshold=threshold)
        if "positions" not in raw.vertex or "indices" not in raw.triangle or not len(raw.triangle.indices):
            return None
        mesh = Mesh(
            raw.vertex.positions.numpy().astype(np.float32),
            raw.triangle.indices.numpy().astype(np.int64),
            np.clip(raw.vertex.colors.numpy(), 0, 1).astype(np.float32),
            raw.vertex.normals.numpy().astype(np.float32),
        )
        return without_small_pieces(mesh, self._config.min_component_triangles)


def without_small_pieces(mesh: Mesh, min_triangles: int) -> Mesh | None:
    """Drop connected pieces of fewer triangles, and vertices that none uses; None if nothing is left."""
    n = len(mesh.vertices_m)
    a, b, c = mesh.triangles.T
    links = sp.coo_array((np.ones(2 * len(a), dtype=np.int8), (np.r_[a, b], np.r_[b, c])), shape=(n, n))
    _, piece = connected_components(links.tocsr(), directed=False)
    of_triangle = piece[a]
    triangles = mesh.triangles[np.bincount(of_triangle, minlength=n)[of_triangle] >= min_triangles]
    if not len(triangles):
        return None
    used = np.zeros(n, dtype=bool)
    used[triangles] = True
    renumbered = np.cumsum(used) - 1
    return replace(
        mesh,
        vertices_m=mesh.vertices_m[used],
        triangles=renumbered[triangles],
        colors=mesh.colors[used],
        normals=mesh.normals[used],
    )


def _depth_edges(depth_m: DepthMap, max_curvature: float) -> Bool[np.ndarray, "h w"]:
    """Pixels at a jump of depth. Inverse depth is linear on planes, so its second difference tells jumps."""
    with np.errstate(divide="ignore"):
        inverse_depth = np.where(depth_m > 0, 1 / depth_m, 0).astype(np.float32)
    missing = cv2.dilate((depth_m <= 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    kernel = np.array([[1.0, -2.0, 1.0]], dtype=np.float32)
    bend = np.maximum(
        np.abs(cv2.filter2D(inverse_depth, -1, kernel, borderType=cv2.BORDER_REPLICATE)),
        np.abs(cv2.filter2D(inverse_depth, -1, kernel.T, borderType=cv2.BORDER_REPLICATE)),
    )
    # Beside missing depth the difference says nothing.
    return (bend * depth_m > max_curvature) & ~missing


def _enlarged(
    depth_m: DepthMap, weight: DepthMap, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "hl wl"], Float[np.ndarray, "hl wl"]]:
    """Enlarge depth linearly in inverse depth (exact on planes), nowhere across pixels of weight 0."""
    usable = weight > 0
    inverse_depth = np.where(usable, 1 / np.where(usable, depth_m, 1), 0).astype(np.float32)
    known = cv2.resize(usable.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.999
    big = cv2.resize(inverse_depth, size, interpolation=cv2.INTER_LINEAR)
    heavy = cv2.resize(weight, size, interpolation=cv2.INTER_LINEAR)
    depth = np.where(known, 1 / np.where(known, big, 1), 0)
    return depth.astype(np.float32), np.where(known, heavy, 0).astype(np.float32)
