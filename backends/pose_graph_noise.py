"""How far measurements may be off, and how that carries over from keyframes to frames.

All covariances: rotation first, then translation, in the camera's own frame (error = Log(T_est⁻¹ T_true)).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.spatial.transform import Rotation

from remov3r.config import Config
from remov3r.geometry import inverse
from remov3r.types import Covariance, Pose

Poses = Float[np.ndarray, "n 4 4"]
_CHI2_6_99 = 16.81  # 99 % of a chi-square of six degrees of freedom


class NoiseConfig(Config):
    """Standard deviations where a measurement does not bring its own, and least ones where it does.

    Attributes:
        sigma_rad, sigma_m, relative: of a front end's transform without covariance: these, and a share of its
            angle and length.
        least_rad, least_m: no measured transform is better.
        refined_factor: of the pose solver's standard deviations, which know only of noise in single pixels; the
            variances grow further by the share of a keyframe's points that is left.
        global_rad, global_m: of the front end's first place in the world; loose, and the n-th has n times the variance,
            for their errors are all alike.
        held_rad, held_m: of a pose that was held through frames without any measurement.
        scale_drift: of the logarithm of scale from keyframe to keyframe where depth does not tell.
        least_log_scale: no measured log scale is better.
    """

    sigma_rad: float = Field(0.005, gt=0)
    sigma_m: float = Field(0.01, gt=0)
    relative: float = Field(0.03, ge=0)
    least_rad: float = Field(0.0005, gt=0)
    least_m: float = Field(0.001, gt=0)
    refined_factor: float = Field(2.0, gt=0)
    global_rad: float = Field(0.3, gt=0)
    global_m: float = Field(1.0, gt=0)
    held_rad: float = Field(0.5, gt=0)
    held_m: float = Field(0.5, gt=0)
    scale_drift: float = Field(0.02, gt=0)
    least_log_scale: float = Field(0.01, gt=0)


def isotropic(sigma_rad: float, sigma_m: float) -> Covariance:
    """Return the covariance of equal noise in all directions."""
    return np.diag([sigma_rad**2] * 3 + [sigma_m**2] * 3)


def assumed_covariance(T: Pose, noise: NoiseConfig) -> Covariance:
    """Return the covariance of a transform that came without one: it grows with its angle and length."""
    angle = float(Rotation.from_matrix(T[:3, :3]).magnitude())
    length = float(np.linalg.norm(T[:3, 3]))
    return isotropic(noise.sigma_rad + noise.relative * angle, noise.sigma_m + noise.relative * length)


def floored(covariance: Covariance, noise: NoiseConfig) -> Covariance:
    """Add the least noise that any measurement has."""
    return np.asarray(covariance + isotropic(noise.least_rad, noise.least_m))


def with_scale_doubt(covariance: Covariance, T_key_cam: Pose, relative_sigma: float) -> Covariance:
    """Add that all depths of the keyframe may be off by one common factor, and with them the translation."""
    along = T_key_cam[:3, :3].T @ T_key_cam[:3, 3] * relative_sigma
    out = covariance.copy()
    out[3:, 3:] += np.outer(along, along)
    return out


def fused(
    T_a: Pose, covariance_a: Covariance, T_b: Pose, covariance_b: Covariance, a_doubtful: bool = False
) -> tuple[Pose, Covariance]:
    """Join two measurements of one transform by their information.

    Where they contradict each other `a` stands alone, or `b` if `a` is doubtful.
    """
    if contradict(T_a, covariance_a, T_b, covariance_b):
        return (T_b, covariance_b) if a_doubtful else (T_a, covariance_a)
    step = _difference(T_a, T_b)
    gain = covariance_a @ np.linalg.inv(covariance_a + covariance_b)
    step = gain @ step
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_rotvec(step[:3]).as_matrix(), step[3:]
    covariance = covariance_a - gain @ covariance_a
    return T_a @ T, np.asarray((covariance + covariance.T) / 2)


def contradict(T_a: Pose, covariance_a: Covariance, T_b: Pose, covariance_b: Covariance) -> bool:
    """Return whether two measurements of one transform differ by more than their noise explains (at 99 %)."""
    step = _difference(T_a, T_b)
    return bool(step @ np.linalg.solve(covariance_a + covariance_b, step) > _CHI2_6_99)


def _difference(T_a: Pose, T_b: Pose) -> Float[np.ndarray, "6"]:
    between = inverse(T_a) @ T_b
    return np.concatenate([Rotation.from_matrix(between[:3, :3]).as_rotvec(), between[:3, 3]])


def frame_covariances(
    keyframes: Float[np.ndarray, "n d d"],
    scales: Float[np.ndarray, " n"],
    T_key_cam: Poses,
    local: Float[np.ndarray, "n 6 6"],
) -> Float[np.ndarray, "n 6 6"]:
    """Return the covariance of T_world_cam of frames, in metres, from their keyframes' and their own.

    Args:
        keyframes: marginal covariance of each frame's keyframe; the seventh row, if any, is its log scale.
        scales: of the keyframes: what turns their lengths into metres.
        local: covariance of `T_key_cam`.
    """
    R_t = np.swapaxes(T_key_cam[:, :3, :3], 1, 2)
    t = T_key_cam[:, :3, 3]
    s = scales[:, None, None]
    J = np.zeros((len(t), 6, keyframes.shape[-1]))
    J[:, :3, :3] = R_t
    J[:, 3:, :3] = -s * R_t @ _cross(t)
    J[:, 3:, 3:6] = s * R_t
    if keyframes.shape[-1] == 7:
        J[:, 3:, 6:] = s * R_t @ t[:, :, None]
    unit = np.concatenate([np.ones((len(t), 3)), np.repeat(scales[:, None], 3, 1)], 1)
    out = J @ keyframes @ np.swapaxes(J, 1, 2) + local * unit[:, :, None] * unit[:, None, :]
    return np.asarray((out + np.swapaxes(out, 1, 2)) / 2)


def _cross(v: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3 3"]:
    out = np.zeros((len(v), 3, 3))
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = -v[:, 2], v[:, 1], -v[:, 0]
    return np.asarray(out - np.swapaxes(out, 1, 2))
