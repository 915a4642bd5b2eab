"""Rendering of triangle meshes by ray casting on the CPU: colour, depth and an overview picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from remov3r.backends.open3d_import import load_open3d
from remov3r.camera import Camera
from remov3r.errors import DataError
from remov3r.geometry import pixel_rays
from remov3r.types import DepthMap, Image, Mesh, Pose


@dataclass(frozen=True)
class RayHits:
    """What the pixels that see the mesh (`hit`, n of them, row by row) see.

    Attributes:
        depth_m: z-depth of every pixel; 0 where nothing was hit.
        triangle: index of the triangle.
        barycentric: weights of its three corners.
        points_m: where, in the world frame.
        normals: unit normals of the triangle, turned towards the camera.
    """

    hit: Bool[np.ndarray, "h w"]
    depth_m: DepthMap
    triangle: Int[np.ndarray, " n"]
    barycentric: Float[np.ndarray, "n 3"]
    points_m: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]

    def interpolate(
        self, corners: Float[np.ndarray, "v c"], triangles: Int[np.ndarray, "t 3"]
    ) -> Float[np.ndarray, "n c"]:
        """Interpolate a quantity given at the vertices."""
        return np.einsum("nk,nkc->nc", self.barycentric, corners[triangles[self.triangle]])

    def fill(
        self, values: Float[np.ndarray, "n c"], background: Float[np.ndarray, " c"]
    ) -> Float[np.ndarray, "h w c"]:
        """Lay values out as an image."""
        out = np.broadcast_to(background, (*self.hit.shape, values.shape[1])).astype(values.dtype)
        out[self.hit] = values
        return out


class RayCaster:
    """Casts the rays of pinhole cameras at one mesh.

    Args:
        vertices_m: in the world frame.
        threads: 0 = as many as there are cores.
    Raises:
        DataError: the mesh has no triangle.
    """

    def __init__(
        self, vertices_m: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"], threads: int = 0
    ) -> None:
        if not len(triangles):
            raise DataError("the mesh has no triangle to cast rays at")
        o3d = load_open3d()
        self._tensor, self._threads = o3d.core.Tensor, threads
        self._scene = o3d.t.geometry.RaycastingScene(nthreads=threads)
        self._scene.add_triangles(
            self._tensor(np.ascontiguousarray(vertices_m, dtype=np.float32)),
            self._tensor(np.ascontiguousarray(triangles, dtype=np.uint32)),
        )

    def cast(self, camera: Camera, T_world_cam: Pose) -> RayHits:
        """Cast one ray through each pixel centre of an undistorted camera."""
        # Directions with z = 1 make the ray parameter the z-depth.
        directions = pixel_rays(camera) @ T_world_cam[:3, :3].T
        origins = np.broadcast_to(T_world_cam[:3, 3], directions.shape)
        rays = np.concatenate([origins, directions], -1).astype(np.float32)
        answer = self._scene.cast_rays(self._tensor(rays), nthreads=self._threads)
        t = answer["t_hit"].numpy()
        hit = np.isfinite(t)
        depth = np.where(hit, t, np.float32(0))
        uv = answer["primitive_uvs"].numpy()[hit]
        normals = answer["primitive_normals"].numpy()[hit]
        away = (normals * rays[..., 3:][hit]).sum(1, keepdims=True) > 0
        return RayHits(
            hit,
            depth,
            answer["primitive_ids"].numpy()[hit].astype(np.int64),
            np.concatenate([1 - uv.sum(1, keepdims=True), uv], 1),
            rays[..., :3][hit] + rays[..., 3:][hit] * t[hit][:, None],
            np.where(away, -normals, normals),
        )

    def sees(
        self, points_m: Float[np.ndarray, "n 3"], target_m: Float[np.ndarray, " 3"]
    ) -> Bool[np.ndarray, " n"]:
        """Tell for each point whether nothing stands between it and the target."""
        rays = np.concatenate([points_m, target_m - points_m], 1).astype(np.float32)
        blocked = self._scene.test_occlusions(self._tensor(rays), tnear=0.0, tfar=1.0, nthreads=self._threads)
        return ~blocked.numpy()


def render_mesh(
    mesh: Mesh,
    camera: Camera,
    T_world_cam: Pose,
    shading: float = 0.0,
    cull_back_faces: bool = False,
    oversample: int = 1,
) -> tuple[Image, DepthMap]:
    """Render a mesh with its vertex colours on white.

    Args:
        camera: undistorted.
        shading: 0 = plain colours, 1 = full shading by the angle between surface and viewing ray.
        cull_back_faces: leave out triangles that face away from the camera (ceilings seen from above).
        oversample: rays per pixel side; more than 1 smooths edges.
    Returns:
        the picture, and z-depth in metres (0 where nothing is hit).
    Raises:
        DataError: the mesh has no triangle (or none that faces the camera).
    """
    triangles = mesh.triangles
    if cull_back_faces:
        triangles = triangles[_facing(mesh, T_world_cam[:3, 3])]
    caster = RayCaster(mesh.vertices_m, triangles)
    fine = camera.resized(camera.width * oversample, camera.height * oversample)
    hits = caster.cast(fine, T_world_cam)
    colors = hits.interpolate(mesh.colors, triangles)
    if shading > 0:
        normals = hits.interpolate(mesh.normals, triangles)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        to_camera = T_world_cam[:3, 3] - hits.points_m
        to_camera /= np.linalg.norm(to_camera, axis=1, keepdims=True)
        facing = np.abs((normals * to_camera).sum(1, keepdims=True))
        colors = colors * (1 - shading * (1 - facing))
    picture = hits.fill(colors, np.ones(3))
    blocks = picture.reshape(camera.height, oversample, camera.width, oversample, 3)
    depth = hits.depth_m if oversample == 1 else caster.cast(camera, T_world_cam).depth_m
    return to_bytes(blocks.mean((1, 3))), depth


def overview_camera(mesh: Mesh, width: int = 960, height: int = 720) -> tuple[Camera, Pose]:
    """Place a camera outside and above the mesh so that (nearly) all of it fills the picture.

    "Above" is where floors and table tops face: the commonest normal within 45 degrees of the world's -y, as
    the world is the first camera. The view goes along with that camera, downwards and a little to the side.
    Render with `cull_back_faces` so that ceiling and near walls do not hide the inside.

    Raises:
        DataError: the mesh is empty.
    """
    if not len(mesh.vertices_m):
        raise DataError("the mesh has no vertices to look at")
    camera = Camera(width, height, 1.1 * width, 1.1 * width, (width - 1) / 2, (height - 1) / 2)
    up = _upward(mesh.normals)
    ahead = np.array([0.35, 0.0, 1.0]) - up * (np.array([0.35, 0.0, 1.0]) @ up)
    forward = _unit(_unit(ahead) - 0.8 * up)
    right = _unit(np.cross(forward, up))
    R_world_cam = np.stack([right, np.cross(forward, right), forward], 1)
    local = mesh.vertices_m @ R_world_cam
    low, high = np.percentile(local, [1, 99], axis=0)
    centre = (low + high) / 2
    # The least distance at which 99 of 100 vertices fall inside the picture, with a small margin.
    tangent = 0.95 * np.array([width / 2 / camera.fx, height / 2 / camera.fy])
    needed = (np.abs(local[:, :2] - centre[:2]) / tangent).max(1) - (local[:, 2] - centre[2])
    T_world_cam = np.eye(4)
    T_world_cam[:3, :3] = R_world_cam
    T_world_cam[:3, 3] = R_world_cam @ (centre - [0, 0, np.percentile(needed, 99)])
    return camera, T_world_cam


def to_bytes(rgb: Float[np.ndarray, "*b 3"]) -> UInt8[np.ndarray, "*b 3"]:
    """Round colours from 0..1 to 0..255."""
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def _facing(mesh: Mesh, eye: Float[np.ndarray, " 3"]) -> Bool[np.ndarray, " t"]:
    """Which triangles turn their front (counter-clockwise side) to a point."""
    a, b, c = (mesh.vertices_m[mesh.triangles[:, k]] for k in range(3))
    return (np.cross(b - a, c - a) * (eye - a)).sum(1) > 0


def _upward(normals: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, " 3"]:
    up = np.array([0.0, -1.0, 0.0])
    for angle_deg in (45, 25, 10):
        near = normals[normals @ up > np.cos(np.deg2rad(angle_deg))]
        if len(near):
            up = _unit(near.mean(0).astype(np.float64))
    return up


def _unit(v: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 3"]:
    return v / np.linalg.norm(v)
