"""Confidence-weighted fusion of depth maps into a truncated signed distance field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, UInt8
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from remov3r.backends.block_mesh import extract_mesh
from remov3r.backends.block_spill import BLOCK, BlockStore
from remov3r.backends.fusion_kernel import fused_sums
from remov3r.backends.open3d_import import load_open3d
from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.errors import DataError, ShapeError
from remov3r.geometry import inverse
from remov3r.types import DensePrediction, DepthMap, Mesh, PointCloud, Pose

CHUNK = 32  # blocks updated at a time, so that the arrays in between stay in the cache
FULL_WEIGHT = 2**18  # the largest weight of a pixel as an integer
MAX_WEIGHT = 2**31 - 1  # of a voxel: 8191 observations of full weight


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
        max_blocks: cap on memory (80 kB a block); beyond it those least recently seen go to disk.
        moved_voxels: how far a pixel's point has to move (by its keyframe's pose or by its depth) ...
        moved_share: ... and in which share of the pixels, for the keyframe to be fused again (`Mapper`).
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
    moved_voxels: NonNegativeFloat = 0.5
    moved_share: NonNegativeFloat = 0.25


@dataclass(frozen=True)
class Measurement:
    """A depth map made ready for the volume.

    Attributes:
        depth_m: float32; 0 where it says nothing.
        weight: integer, `FULL_WEIGHT` at the largest allowed; 0 where it says nothing.
    """

    camera: Camera
    depth_m: DepthMap
    weight: Int32[np.ndarray, "h w"]
    rgb: UInt8[np.ndarray, "h w 3"]


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
    units = np.ceil(weight * (FULL_WEIGHT / config.max_weight)).astype(np.int32)
    return Measurement(camera, np.where(units > 0, depth, 0), units, np.asarray(colors, np.uint8))


class TsdfVolume:
    """A sparse volume of signed distances and colours, each the weighted mean of its observations.

    Sums are kept as integers, so that what was fused can be taken back without a trace and in any order: the
    volume depends only on what is in it now. Rounding moves a surface by less than 1e-3 of the truncation
    at the least weight, and by less at higher ones.

    References: Curless & Levoy 1996, sec. 3.
    """

    def __init__(self, config: FusionConfig | None = None, spill_folder: Path | None = None) -> None:
        """Prepare an empty volume.

        Args:
            spill_folder: where a temporary folder may be made for blocks beyond the cap; None for the
                system's place for those.
        """
        self._config = config or FusionConfig()
        self._o3d = load_open3d()
        core = self._o3d.core
        # Only its geometry is used, to find the blocks near a depth map; the voxels lie in the store.
        self._finder = self._o3d.t.geometry.VoxelBlockGrid(
            ("tsdf",), (core.float32,), ((1,),), self._config.voxel_m, BLOCK, 1
        )
        self._blocks = BlockStore(self._config.max_blocks, spill_folder)
        self._frames = 0
        self._heaviest = 0  # no voxel weighs more
        self._pixels = 0
        self._weight_sum = 0
        self._mesh: Mesh | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, in words."""
        notes = []
        if self._blocks.refused:
            notes.append(
                f"the map is full ({self._config.max_blocks} blocks of {BLOCK * self._config.voxel_m:.2f} m "
                f"in memory) and {self._blocks.trouble}: {len(self._blocks.refused)} blocks were left out; "
                "free some space, use larger voxels or raise fusion.max_blocks"
            )
        if self._blocks.damaged:
            notes.append(f"{len(self._blocks.damaged)} blocks of the map could not be read back from disk")
        return tuple(notes)

    @property
    def blocks_in_memory(self) -> int:
        """How many blocks are in memory, of those that the map has."""
        return self._blocks.in_memory

    def __len__(self) -> int:
        """Return the number of blocks that the map has, in memory and on disk."""
        return len(self._blocks)

    def integrate(self, dense: DensePrediction, rgb: UInt8[np.ndarray, "hc wc 3"], T_world_cam: Pose) -> None:
        """Fuse one depth map, each pixel weighted by 1/sigma².

        Args:
            rgb: the image with the same field of view, of any size.
        Raises:
            ShapeError: depth, sigma and camera differ in size.
            DataError: depth or pose holds NaN or infinite values, or the map holds as many depth maps as it
                can (8191 of full weight).
        """
        self.update(prepare(dense, rgb, self._config), T_world_cam, sign=1)

    def deintegrate(
        self, dense: DensePrediction, rgb: UInt8[np.ndarray, "hc wc 3"], T_world_cam: Pose
    ) -> None:
        """Take back what `integrate` did with exactly these arguments (to fuse it again elsewhere).

        Raises:
            ShapeError: depth, sigma and camera differ in size.
            DataError: depth or pose holds NaN or infinite values.
        """
        self.update(prepare(dense, rgb, self._config), T_world_cam, sign=-1)

    def mesh(self) -> Mesh | None:
        """Extract the surface with colours and normals; None where nothing was seen well enough."""
        if self._mesh is None and self._frames > 0 and self._pixels > 0:
            views = min(self._config.min_views, float(self._frames))
            # Half an average pixel makes one view enough.
            threshold = max(views - 0.5, 0.0) * self._weight_sum / self._pixels
            self._mesh = extract_mesh(
                self._blocks, self._config.voxel_m, threshold, self._config.min_component_triangles
            )
        return self._mesh

    def cloud(self) -> PointCloud | None:
        """Return the points of the surface; None where there is none."""
        mesh = self.mesh()
        return None if mesh is None else PointCloud(mesh.vertices_m, mesh.colors, mesh.normals)

    def close(self) -> None:
        """Forget the map and remove its temporary folder."""
        self._blocks.close()

    def update(self, seen: Measurement, T_world_cam: Pose, sign: int) -> None:
        """Fuse what `prepare` made of a depth map (sign 1), or take it back (sign -1).

        Raises:
            DataError: the pose is not finite, or the map holds as many depth maps as it can (8191 of full weight).
        """
        if T_world_cam.shape != (4, 4) or not np.isfinite(T_world_cam).all():
            raise DataError("pose to fuse at holds NaN or infinite values, or is not 4x4")
        heaviest = self._heaviest + sign * int(seen.weight.max())
        if heaviest > MAX_WEIGHT:
            raise DataError(f"the map holds {self._frames} depth maps, the most it can")
        self._mesh = None
        self._heaviest = heaviest
        self._frames += sign
        self._pixels += sign * int((seen.weight > 0).sum())
        self._weight_sum += sign * int(seen.weight.sum(dtype=np.int64))
        if not seen.weight.any():
            return
        T_cam_world = inverse(T_world_cam.astype(np.float64))
        observed = _Observed(seen, T_cam_world, sign, self._config)
        keys = self._touched_blocks(seen, T_cam_world)
        for first in range(0, len(keys), CHUNK):
            chunk = keys[first : first + CHUNK]
            self._blocks.add(map(tuple, chunk.tolist()), observed.sums(chunk))

    def _touched_blocks(self, seen: Measurement, T_cam_world: Pose) -> Int[np.ndarray, "n 3"]:
        """Coordinates of the blocks within the truncation band of the depth map."""
        core, config = self._o3d.core, self._config
        K = seen.camera.K
        K[:2, 2] += 0.5  # Open3D's tensor code puts pixel centres at +0.5
        image = self._o3d.t.geometry.Image(core.Tensor(np.ascontiguousarray(seen.depth_m, dtype=np.float32)))
        found = self._finder.compute_unique_block_coordinates(
            image, core.Tensor(K), core.Tensor(T_cam_world), 1.0, config.max_depth_m, config.truncation_voxels
        )
        return found.numpy().astype(np.int64)


class _Observed:
    """One measurement at its pose, and what it adds (sign 1) or takes (-1) from the voxels of a block.

    Every voxel is computed alone, by the same operations in the same order, whatever blocks come with it, so
    that the same measurement at the same pose gives the same integers again.
    """

    def __init__(self, seen: Measurement, T_cam_world: Pose, sign: int, config: FusionConfig) -> None:
        camera, self._voxel_m = seen.camera, config.voxel_m
        self._centre = np.float32(camera.cx), np.float32(camera.cy)
        self._truncation = np.float32(config.truncation_voxels * config.voxel_m)
        self._depth = np.where(seen.weight > 0, seen.depth_m, -np.inf).astype(np.float32)
        self._weight = np.int32(sign) * seen.weight
        tint = (seen.weight[..., None] * seen.rgb.astype(np.int32) + 128) >> 8
        self._tint = np.int32(sign) * tint
        # Focal lengths are multiplied in, so that x / z and y / z are pixels.
        self._T = np.diag([camera.fx, camera.fy, 1.0]) @ T_cam_world[:3]
        z, y, x = np.indices((BLOCK,) * 3).reshape(3, -1) * self._voxel_m
        self._inner = self._turned(np.stack([x, y, z], 1))

    def sums(self, blocks: Int[np.ndarray, "n 3"]) -> Int32[np.ndarray, "n channels voxels"]:
        """Return weight, weight · distance and weight · colour / 256 for each voxel of some blocks."""
        origins = self._turned(blocks * (BLOCK * self._voxel_m), self._T[:, 3])
        sums: Int32[np.ndarray, "n channels voxels"] = fused_sums(
            origins, self._inner, self._centre, self._depth, self._weight, self._tint, self._truncation
        )
        return sums

    def _turned(
        self, points: Float[np.ndarray, "n 3"], shift: Float[np.ndarray, " 3"] | float = 0.0
    ) -> Float32[np.ndarray, "n 3"]:
        """Turn points into the camera's frame, each always the same to the last bit (unlike a matrix product)."""
        x, y, z = points[:, :1], points[:, 1:2], points[:, 2:]
        A = self._T[:, :3]
        return (A[:, 0] * x + A[:, 1] * y + A[:, 2] * z + shift).astype(np.float32)


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
