"""The pose of one camera from pixels of landmarks whose depth is known only so well."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from remov3r.backends.pose_kernels import minimised_pose
from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.geometry import inverse
from remov3r.types import Covariance, Pose

UNKNOWN_VARIANCE = 1e6  # of rotation (rad²) and translation (m²), where the points say nothing
SAME_SHARE = 0.02  # inliers that may differ where two sets of them count as the same
Points = Float[np.ndarray, "n 3"]
Pixels = Float[np.ndarray, "n 2"]
Depths = Float[np.ndarray, "n 2"]  # z-depth and its standard deviation, metres; NaN where there is none


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


def reproject(T_world_cam: Pose, points: Points, camera: Camera) -> tuple[Pixels, Points]:
    """Return the pixels of points in the world (far outside for those behind), and the points in the camera frame."""
    P = (points - T_world_cam[:3, 3]) @ T_world_cam[:3, :3]
    z = np.maximum(P[:, 2], 1e-3)
    pixels = np.stack([camera.fx * P[:, 0] / z + camera.cx, camera.fy * P[:, 1] / z + camera.cy], 1)
    return np.where(P[:, 2:] > 1e-3, pixels, 1e4), P


def reprojection_error(
    T_world_cam: Pose, points: Points, pixels: Pixels, camera: Camera
) -> Float[np.ndarray, " n"]:
    """Return how many pixels lie between where points are seen and where they should be."""
    return np.linalg.norm(reproject(T_world_cam, points, camera)[0] - pixels, axis=1)


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
    tolerance: float = 1e-5,
    depths: Depths | None = None,
) -> tuple[Pose, Covariance]:
    """Minimise the robust reprojection error of one camera by damped Gauss-Newton.

    A landmark whose depth is doubtful counts across its line of sight from where it was first seen, and
    little along it: its residual's covariance is sigma² I plus what its spread projects to.

    Args:
        spread: one standard deviation of each point, as a vector in the world frame.
        tolerance: relative decrease of the cost at which to stop.
        depths: measured in this very frame; what no pixel tells, where all points lie on a plane.
    Returns:
        the pose, and its covariance (rotation first, then translation, in the camera frame).
    """
    variance = (config.sigma_px * max(camera.width / 640, 0.4)) ** 2
    T, covariance = minimised_pose(
        np.ascontiguousarray(T_world_cam, float),
        np.ascontiguousarray(points, float),
        np.ascontiguousarray(spread, float),
        np.ascontiguousarray(pixels, float),
        np.empty((0, 2)) if depths is None else np.ascontiguousarray(depths, float),
        camera.pinhole,
        variance,
        config.huber,
        config.iterations,
        tolerance,
    )
    if not (np.isfinite(T).all() and np.isfinite(covariance).all()):
        return T_world_cam, np.full((6, 6), UNKNOWN_VARIANCE) * np.eye(6)
    return T, covariance


def solve_pose(
    guesses: list[Pose],
    points: Points,
    spread: Points,
    pixels: Pixels,
    camera: Camera,
    config: PoseSolverConfig,
    depths: Depths | None = None,
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
        best = _better(best, _settle(guess, points, spread, pixels, camera, config, limit, depths))
        if best is not None and best.inliers.mean() >= config.trusted_inlier_ratio:
            return best
    T_ransac = ransac_pose(points, pixels, camera, limit * 1.5, config.ransac_iterations)
    if T_ransac is not None:
        best = _better(best, _settle(T_ransac, points, spread, pixels, camera, config, limit, depths))
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
    depths: Depths | None,
) -> PoseSolution | None:
    """Refine on all points, then on the inliers; once more where that changes what they are."""
    T, _ = refine_pose(guess, points, spread, pixels, camera, config, 1e-2, depths)
    inliers = reprojection_error(T, points, pixels, camera) < limit
    for _ in range(2):
        if inliers.sum() < 6:
            return None
        z = None if depths is None else depths[inliers]
        T, covariance = refine_pose(
            T, points[inliers], spread[inliers], pixels[inliers], camera, config, depths=z
        )
        before, inliers = inliers, reprojection_error(T, points, pixels, camera) < limit
        if np.count_nonzero(inliers != before) <= SAME_SHARE * len(inliers):
            break
    return PoseSolution(T, covariance, inliers) if inliers.sum() >= 6 else None


def _better(a: PoseSolution | None, b: PoseSolution | None) -> PoseSolution | None:
    if a is None or b is None:
        return b if a is None else a
    return b if b.inliers.sum() > a.inliers.sum() else a
