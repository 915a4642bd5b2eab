"""Depth measured by one camera, seen from another: lift, transform, project with a z-buffer."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.geometry import pixel_rays


class DepthRegistration:
    """Resample depth images of one camera into the image plane of another, fixed to it.

    Args:
        source: the camera that measured, without distortion.
        target: the camera whose pixels are wanted, without distortion.
        T_target_source: pose of the source in the target's frame, metres.
    Attributes:
        target: as given.
    """

    def __init__(self, source: Camera, target: Camera, T_target_source: Float[np.ndarray, "4 4"]) -> None:
        self.target = target
        rays = pixel_rays(source).reshape(-1, 3) @ T_target_source[:3, :3].T
        self._rays = np.ascontiguousarray(rays.T, dtype=np.float32)
        self._t = T_target_source[:3, 3].astype(np.float32)

    def __call__(self, depth_m: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h2 w2"]:
        """Return z-depth in the target camera, 0 = missing; of several points the nearest stays."""
        camera = self.target
        valid = np.flatnonzero(depth_m > 0)
        depth = depth_m.reshape(-1)[valid].astype(np.float32)
        x, y, z = (self._rays[i, valid] * depth + self._t[i] for i in range(3))
        front = z > 1e-3
        z = np.where(front, z, 1)
        u = np.rint(np.float32(camera.fx) * x / z + np.float32(camera.cx))
        v = np.rint(np.float32(camera.fy) * y / z + np.float32(camera.cy))
        keep = front & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
        pixel = v[keep].astype(np.int64) * camera.width + u[keep].astype(np.int64)
        nearest = np.full(camera.height * camera.width, np.inf, dtype=np.float32)
        np.minimum.at(nearest, pixel, z[keep])
        nearest[np.isinf(nearest)] = 0
        return nearest.reshape(camera.height, camera.width)
