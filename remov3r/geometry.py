"""Rigid and similarity transforms, alignment, projection. Arrays in, new arrays out; torch is not imported.

SciPy serves the algebra here, pypose that of tensors (`remov3r.losses`, `remov3r.models`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import RigidTransform, Rotation

from remov3r.camera import Camera
from remov3r.errors import DataError, ShapeError

Matrix4 = Float[np.ndarray, "*b 4 4"]


def inverse(T: Matrix4) -> Matrix4:
    """Invert rigid transforms."""
    R_t = np.swapaxes(T[..., :3, :3], -1, -2)
    out = np.zeros_like(T)
    out[..., :3, :3] = R_t
    out[..., :3, 3] = -np.einsum("...ij,...j->...i", R_t, T[..., :3, 3])
    out[..., 3, 3] = 1
    return out


def transform(T: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3"]:
    """Map points by a rigid or similarity matrix; the points' precision is kept."""
    A = T.astype(points.dtype)
    return points @ A[:3, :3].T + A[:3, 3]


def se3_exp(xi: Float[np.ndarray, "*b 6"]) -> Matrix4:
    """Exponential map; the tangent is (translation, rotation) as in pypose."""
    flat = np.asarray(xi, np.float64).reshape(-1, 6)
    T = RigidTransform.from_exp_coords(np.concatenate([flat[:, 3:], flat[:, :3]], 1)).as_matrix()
    return T.reshape(*xi.shape[:-1], 4, 4)


def se3_log(T: Matrix4) -> Float[np.ndarray, "*b 6"]:
    """Logarithm, (translation, rotation), inverse of `se3_exp`."""
    flat = RigidTransform.from_matrix(project_to_se3(T).reshape(-1, 4, 4)).as_exp_coords()
    return np.concatenate([flat[:, 3:], flat[:, :3]], 1).reshape(*T.shape[:-2], 6)


def quaternion_xyzw(T: Matrix4) -> Float[np.ndarray, "*b 4"]:
    """Unit quaternions (x, y, z, w), w >= 0, of the rotations."""
    R = project_to_se3(T)[..., :3, :3].reshape(-1, 3, 3)
    return Rotation.from_matrix(R).as_quat(canonical=True).reshape(*T.shape[:-2], 4)


def from_quaternion_xyzw(t_m: Float[np.ndarray, "*b 3"], q_xyzw: Float[np.ndarray, "*b 4"]) -> Matrix4:
    """Build poses from translations and (not necessarily unit) quaternions.

    Raises:
        DataError: a quaternion is shorter than 0.5 or longer than 2, or not finite.
    """
    norm = np.linalg.norm(q_xyzw, axis=-1, keepdims=True)
    if not (np.isfinite(norm).all() and (norm > 0.5).all() and (norm < 2).all()):
        raise DataError(f"quaternion norms {norm.min():.3g}..{norm.max():.3g} are not near 1")
    out = np.zeros((*t_m.shape[:-1], 4, 4))
    out[..., :3, :3] = Rotation.from_quat(q_xyzw.reshape(-1, 4)).as_matrix().reshape(*t_m.shape[:-1], 3, 3)
    out[..., :3, 3] = t_m
    out[..., 3, 3] = 1
    return out


def project_to_se3(T: Matrix4) -> Matrix4:
    """Replace each rotation block by the nearest rotation (SVD); translations are kept."""
    U, _, Vt = np.linalg.svd(np.asarray(T, dtype=np.float64)[..., :3, :3])
    d = np.ones(U.shape[:-1])
    d[..., 2] = np.linalg.det(U @ Vt)
    out = np.zeros(T.shape)
    out[..., :3, :3] = (U * d[..., None, :]) @ Vt
    out[..., :3, 3] = T[..., :3, 3]
    out[..., 3, 3] = 1
    return out


def checked_pose(
    T: Float[np.ndarray, "..."], where: str, tolerance: float = 1e-2
) -> Float[np.ndarray, "4 4"]:
    """Return a data set's pose with its rotation projected to SO(3), or refuse it.

    Args:
        where: named in the message, such as the file and line.
        tolerance: largest allowed distance of R from the nearest rotation (7-Scenes: 2e-4).
    Raises:
        DataError: not finite, not a 4×4 pose, or not near a rotation.
    """
    if T.shape != (4, 4):
        raise DataError(f"{where}: pose has shape {T.shape}, need 4x4")
    if not np.isfinite(T).all():
        raise DataError(f"{where}: pose holds NaN or infinite values")
    nearest = project_to_se3(T)
    off = float(np.abs(nearest[:3, :3] - T[:3, :3]).max())
    if off > tolerance or np.abs(T[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise DataError(f"{where}: not a rigid pose (rotation off by {off:.3g}, allowed {tolerance:g})")
    return nearest


def rotation_angle_rad(T: Matrix4) -> Float[np.ndarray, "*b"]:
    """Rotation angle of each transform, 0..pi, exact near 0 (by the quaternion, not the trace)."""
    q = quaternion_xyzw(T)
    return np.asarray(2 * np.arctan2(np.linalg.norm(q[..., :3], axis=-1), np.abs(q[..., 3])))


@dataclass(frozen=True)
class Similarity:
    """x ↦ scale · R x + t."""

    scale: float
    R: Float[np.ndarray, "3 3"]
    t: Float[np.ndarray, " 3"]

    def matrix(self) -> Float[np.ndarray, "4 4"]:
        """The 4×4 matrix [[scale R, t], [0, 1]]."""
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = self.scale * self.R, self.t
        return out

    def apply(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Map points."""
        return self.scale * points @ self.R.T + self.t

    def apply_to_poses(self, T_world_cam: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n 4 4"]:
        """Map camera poses; they stay rigid."""
        out = T_world_cam.copy()
        out[:, :3, :3] = self.R @ T_world_cam[:, :3, :3]
        out[:, :3, 3] = self.apply(T_world_cam[:, :3, 3])
        return out


def umeyama(
    source: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "m 3"], with_scale: bool
) -> Similarity | None:
    """Find the similarity (or rigid transform) that maps source onto target in the least-squares sense.

    Returns:
        None when the points do not fix a rotation (fewer than three, all on one line, or all in one place).

    References: Umeyama 1991.
    """
    if source.shape != target.shape:
        raise ShapeError(f"source {source.shape} and target {target.shape} differ")
    if len(source) < 3:
        return None
    mu_s, mu_t = source.mean(0), target.mean(0)
    S, D = source - mu_s, target - mu_t
    U, sing, Vt = np.linalg.svd(D.T @ S / len(source))
    if sing[1] <= 1e-9 * max(sing[0], 1e-300) or sing[0] <= 1e-18:
        return None
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))])
    R = (U * sign) @ Vt
    scale = float((sing * sign).sum() / (S**2).sum(1).mean()) if with_scale else 1.0
    return Similarity(scale, R, mu_t - scale * R @ mu_s)


def pixel_rays(camera: Camera) -> Float[np.ndarray, "h w 3"]:
    """Directions with z = 1 through each pixel centre of an undistorted camera."""
    u = (np.arange(camera.width) - camera.cx) / camera.fx
    v = (np.arange(camera.height) - camera.cy) / camera.fy
    x, y = np.meshgrid(u, v)
    return np.stack([x, y, np.ones_like(x)], -1)


def unproject(depth_m: Float[np.ndarray, "h w"], camera: Camera) -> Float[np.ndarray, "h w 3"]:
    """Lift z-depth to a pointmap in the camera frame; missing depth (0) gives (0, 0, 0).

    Raises:
        ShapeError: the depth is not of the camera's size.
    """
    if depth_m.shape != (camera.height, camera.width):
        raise ShapeError(f"depth {depth_m.shape} does not fit the camera {camera.height}x{camera.width}")
    return (pixel_rays(camera) * depth_m[..., None]).astype(depth_m.dtype)


def project(
    points_cam: Float[np.ndarray, "n 3"], camera: Camera
) -> tuple[Float[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
    """Project points in the camera frame to pixels of an undistorted camera.

    Returns:
        pixels (NaN behind the camera), and which of them lie in front of the camera and inside the image.
    """
    z = points_cam[:, 2]
    front = z > 1e-6
    zz = np.where(front, z, np.nan)
    uv = np.stack(
        [camera.fx * points_cam[:, 0] / zz + camera.cx, camera.fy * points_cam[:, 1] / zz + camera.cy], 1
    )
    with np.errstate(invalid="ignore"):
        inside = (uv > -0.5).all(1) & (uv < [camera.width - 0.5, camera.height - 0.5]).all(1)
    return uv, front & inside
