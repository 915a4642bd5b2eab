"""The pose of one camera from pixels of landmarks whose depth is known only so well."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.geometry import inverse
from remov3r.types import Covariance, Pose

Points = Float[np.ndarray, "n 3"]
Pixels = Float[np.ndarray, "n 2"]


class PoseSolverConfig(Config):
    """Robust pose estimation; pixel figures are for a 640 pixel wide image and scale with the width."""

    sigma_px: float = Field(0.5, gt=0)
    huber: float = Field(1.5, gt=0)
    inlier_px: float = Field(3.0, gt=0)
    iterations: int = Field(12, ge=1)
    ransac_iterations: int = Field(200, ge=10)
    trusted_inlier_ratio: float = Field(0.7, gt=0, le=1)


@dataclass(frozen=True)
class PoseSolution:
    """A measured pose.

    Attributes:
        covariance: rotation first, then translation, in the camera frame.
        inliers: of the points that were given.
    """

    T_world_cam: Pose
    covariance: Covariance
    inliers: Bool[np.ndarray, " n"]


def rotation_exp(w: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """Rotation matrix of a rotation vector."""
    return np.asarray(cv2.Rodrigues(np.ascontiguousarray(w, dtype=np.float64))[0])


def reprojection(
    T_world_cam: Pose, points: Points, pixels: Pixels, camera: Camera
) -> tuple[Float[np.ndarray, "n 2"], Points]:
    """Return projected minus seen pixels (large behind the camera), and the points in the camera frame."""
    P = (points - T_world_cam[:3, 3]) @ T_world_cam[:3, :3]
    z = np.where(P[:, 2] > 1e-3, P[:, 2], 1e-3)
    u = camera.fx * P[:, 0] / z + camera.cx
    v = camera.fy * P[:, 1] / z + camera.cy
    error = np.stack([u, v], 1) - pixels
    return np.where(P[:, 2:] > 1e-3, error, 1e4), P


def projection_jacobian(P: Points, camera: Camera) -> Float[np.ndarray, "n 2 3"]:
    """Derivative of the pixel by the point in the camera frame."""
    z = np.maximum(P[:, 2], 1e-3)
    J = np.zeros((len(P), 2, 3))
    J[:, 0, 0], J[:, 0, 2] = camera.fx / z, -camera.fx * P[:, 0] / z**2
    J[:, 1, 1], J[:, 1, 2] = camera.fy / z, -camera.fy * P[:, 1] / z**2
    return J


def refine_pose(
    T_world_cam: Pose,
    points: Points,
    spread: Points,
    pixels: Pixels,
    camera: Camera,
    config: PoseSolverConfig,
    prior_information: Float[np.ndarray, "6 6"] | None = None,
) -> tuple[Pose, Covariance]:
    """Minimise the robust reprojection error of one camera by damped Gauss-Newton.

    A landmark whose depth is doubtful counts across its line of sight from where it was first seen, and
    little along it: its residual's covariance is sigma² I plus what its spread projects to.

    Args:
        spread: one standard deviation of each point, as a vector in the world frame.
        prior_information: ties the pose to the start (rotation first, camera frame).
    Returns:
        the pose, and its covariance (rotation first, then translation, in the camera frame).
    """
    T_start, T = T_world_cam, T_world_cam.copy()
    variance = (config.sigma_px * max(camera.width / 640, 0.4)) ** 2
    damping, cost, H_kept = 1e-6, np.inf, np.eye(6) * 1e-12
    step_back = T
    for _ in range(config.iterations):
        error, P = reprojection(T, points, pixels, camera)
        J_point = projection_jacobian(P, camera)
        g = np.einsum("nij,nj->ni", J_point, spread @ T[:3, :3])
        shrink = 1 / (variance + (g**2).sum(1))
        W_error = (error - g * ((g * error).sum(1) * shrink)[:, None]) / variance
        squared = (W_error * error).sum(1)
        norm = np.sqrt(np.maximum(squared, 0))
        weight = np.minimum(1.0, config.huber / np.maximum(norm, 1e-12))
        new_cost = float(np.where(norm < config.huber, 0.5 * squared, config.huber * (norm - 0.5 * config.huber)).sum())
        J = np.concatenate([_cross_right(J_point, P), -J_point], 2)
        W_J = (J - g[:, :, None] * (np.einsum("ni,nij->nj", g, J) * shrink[:, None])[:, None]) / variance
        H = np.einsum("nij,nik,n->jk", J, W_J, weight)
        b = np.einsum("nij,ni,n->j", J, W_error, weight)
        if prior_information is not None:
            delta = _local(T_start, T)
            H, b = H + prior_information, b + prior_information @ delta
            new_cost += 0.5 * float(delta @ prior_information @ delta)
        if new_cost > cost * (1 + 1e-9):
            T, damping = step_back, damping * 100
            if damping > 1e4:
                break
            H, b = H_kept, b_kept
        else:
            if cost - new_cost < 1e-7 * cost:
                H_kept = H
                break
            step_back, cost, H_kept, b_kept, damping = T, new_cost, H, b, max(damping * 0.1, 1e-9)
        step = -np.linalg.solve(H + damping * np.diag(np.diag(H)) + 1e-9 * np.eye(6), b)
        T = _moved(T, step)
    if not np.isfinite(T).all():
        T = T_start
    return T, np.linalg.pinv(H_kept, hermitian=True)


def solve_pose(
    guesses: list[Pose],
    points: Points,
    spread: Points,
    pixels: Pixels,
    camera: Camera,
    config: PoseSolverConfig,
) -> PoseSolution | None:
    """Find the pose that most points agree with, starting from guesses and, where they fail, from RANSAC.

    Returns:
        None with fewer than six points or six inliers.
    """
    if len(points) < 6:
        return None
    limit = config.inlier_px * max(camera.width / 640, 0.5)
    best: PoseSolution | None = None
    for guess in guesses:
        best = _better(best, _settle(guess, points, spread, pixels, camera, config, limit))
        if best is not None and best.inliers.mean() >= config.trusted_inlier_ratio:
            return best
    T_ransac = ransac_pose(points, pixels, camera, limit * 1.5, config.ransac_iterations)
    if T_ransac is not None:
        best = _better(best, _settle(T_ransac, points, spread, pixels, camera, config, limit))
    return best


def ransac_pose(
    points: Points, pixels: Pixels, camera: Camera, limit_px: float, iterations: int
) -> Pose | None:
    """Find a pose by RANSAC over point triples, the same for the same input; None when there is none."""
    if len(points) < 6:
        return None
    cv2.setRNGSeed(0)
    try:
        ok, rvec, t, found = cv2.solvePnPRansac(
            np.ascontiguousarray(points), np.ascontiguousarray(pixels), camera.K, None,
            iterationsCount=iterations, reprojectionError=limit_px, confidence=0.999, flags=cv2.SOLVEPNP_AP3P,
        )  # fmt: skip
    except cv2.error:  # degenerate input, such as all points on one spot
        return None
    if not ok or found is None or len(found) < 6:
        return None
    T_cam_world = np.eye(4)
    T_cam_world[:3, :3], T_cam_world[:3, 3] = rotation_exp(rvec.ravel()), t.ravel()
    return inverse(T_cam_world) if np.isfinite(T_cam_world).all() else None


def _settle(
    guess: Pose,
    points: Points,
    spread: Points,
    pixels: Pixels,
    camera: Camera,
    config: PoseSolverConfig,
    limit: float,
) -> PoseSolution | None:
    """Refine on all points, then on the inliers, twice."""
    T, _ = refine_pose(guess, points, spread, pixels, camera, config)
    for _ in range(2):
        inliers = np.linalg.norm(reprojection(T, points, pixels, camera)[0], axis=1) < limit
        if inliers.sum() < 6:
            return None
        T, covariance = refine_pose(
            T, points[inliers], spread[inliers], pixels[inliers], camera, config
        )
    inliers = np.linalg.norm(reprojection(T, points, pixels, camera)[0], axis=1) < limit
    return PoseSolution(T, covariance, inliers) if inliers.sum() >= 6 else None


def _better(a: PoseSolution | None, b: PoseSolution | None) -> PoseSolution | None:
    if a is None or b is None:
        return b if a is None else a
    return b if b.inliers.sum() > a.inliers.sum() else a


def _cross_right(J: Float[np.ndarray, "n 2 3"], P: Points) -> Float[np.ndarray, "n 2 3"]:
    """J [P]x: the derivative by a rotation of the camera about its own axes."""
    return np.cross(J, P[:, None])


def _moved(T: Pose, step: Float[np.ndarray, " 6"]) -> Pose:
    """Apply a small motion (rotation, translation) in the camera's own frame."""
    out = T.copy()
    out[:3, :3] = T[:3, :3] @ rotation_exp(step[:3])
    out[:3, 3] = T[:3, 3] + T[:3, :3] @ step[3:]
    return out


def _local(T_from: Pose, T_to: Pose) -> Float[np.ndarray, " 6"]:
    """The small motion that leads from one pose to another, in the first one's frame."""
    R = T_from[:3, :3].T
    w = cv2.Rodrigues(R @ T_to[:3, :3])[0].ravel()
    return np.concatenate([w, R @ (T_to[:3, 3] - T_from[:3, 3])])
