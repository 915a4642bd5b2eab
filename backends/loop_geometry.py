"""What loop closure keeps of a keyframe, and the transform between two such views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from remov3r.backends.depth_sampling import median_relative_sigma, sample_depth
from remov3r.backends.features import (
    Describer,
    Descriptors,
    FeatureConfig,
    Gray,
    detect_corners,
    match_descriptors,
)
from remov3r.backends.pose_solver import (
    PoseSolverConfig,
    ransac_pose,
    refine_pose,
    reproject,
    reprojection_error,
)
from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.types import Covariance, DensePrediction, Pose

Pixels = Float[np.ndarray, "n 2"]


class VerificationConfig(Config):
    """When the geometry of two views is believed; pixel figures are for a 640 pixel wide image.

    Attributes:
        min_inliers: matches that agree with the transform, before more are sought with its help.
        min_spread: least standard deviation of the inliers in any direction, as a share of the width.
        guided_px: how far from where it is expected a further match may lie.
        min_scale_sigma: of the logarithm of a keyframe's depth scale, however sure its front end is.
        covariance_factor: neighbouring features err alike, so that the solver's covariance is too small.
    """

    descriptor_distance: float = Field(300.0, gt=0)
    guided_distance: float = Field(250.0, gt=0)
    guided_px: float = Field(10.0, gt=0)
    min_inliers: int = Field(20, ge=6)
    inlier_px: float = Field(4.0, gt=0)
    ransac_iterations: int = Field(400, ge=10)
    min_spread: float = Field(0.05, ge=0)
    min_scale_sigma: float = Field(0.01, gt=0)
    covariance_factor: float = Field(4.0, ge=1)
    pose: PoseSolverConfig = PoseSolverConfig(sigma_px=1.0)


@dataclass(frozen=True)
class LoopView:
    """What is kept of a keyframe: its features and how far away they are.

    Attributes:
        depth_m: z-depth at the features; NaN where missing.
        sigma_m: its standard deviation; infinite where missing.
        scale_sigma: standard deviation of the logarithm of the scale of all its depths together.
    """

    pixels: Float[np.ndarray, "n 2"]
    descriptors: Descriptors
    depth_m: Float[np.ndarray, " n"]
    sigma_m: Float[np.ndarray, " n"]
    scale_sigma: float


@dataclass(frozen=True)
class ViewTransform:
    """A measured transform between two views; the covariance is in the new view's frame, rotation first."""

    T_old_new: Pose
    covariance: Covariance
    inliers: int


def view_features(gray: Gray, features: FeatureConfig, describer: Describer) -> tuple[Pixels, Descriptors]:
    """Find and describe the corners of an image."""
    pixels = detect_corners(gray, np.empty((0, 2)), features)
    return pixels.astype(np.float32), describer.describe(gray, pixels)


def view_with_depth(
    pixels: Pixels, descriptors: Descriptors, dense: DensePrediction, camera: Camera
) -> LoopView:
    """Look up the depth of features of a keyframe."""
    depth_m, sigma_m = sample_depth(dense, pixels.astype(np.float64), camera)
    return LoopView(
        pixels,
        descriptors,
        depth_m.astype(np.float32),
        sigma_m.astype(np.float32),
        median_relative_sigma(dense),
    )


def measure_transform(
    old: LoopView, pixels: Pixels, descriptors: Descriptors, camera: Camera, config: VerificationConfig
) -> ViewTransform | None:
    """Find where the camera that saw some features stood as seen from an older view, by matches and its depth.

    Returns:
        None where too few matches agree, or where they lie too close to each other or to a line.
    """
    there = np.isfinite(old.depth_m)
    z = old.depth_m[there].astype(np.float64)
    seen_old, seen_new = old.pixels[there].astype(np.float64), pixels.astype(np.float64)
    rays = np.stack(
        [(seen_old[:, 0] - camera.cx) / camera.fx, (seen_old[:, 1] - camera.cy) / camera.fy, np.ones(len(z))],
        1,
    )
    points, spread = rays * z[:, None], rays * old.sigma_m[there, None].astype(np.float64)
    described = old.descriptors[there]
    limit = config.inlier_px * max(camera.width / 640, 0.5)
    a, b = match_descriptors(described, descriptors, None, config.descriptor_distance)
    if len(a) < config.min_inliers:
        return None
    T = ransac_pose(points[a], seen_new[b], camera, 1.5 * limit, config.ransac_iterations)
    if T is None:
        return None
    T, _ = _refined(T, points[a], spread[a], seen_new[b], camera, 2 * limit, config)
    agree = reprojection_error(T, points[a], seen_new[b], camera) < limit
    if not _enough(agree, seen_old[a], seen_new[b], camera, config):
        return None
    expected, _ = reproject(T, points, camera)
    radius = config.guided_px * max(camera.width / 640, 0.5)
    near = np.linalg.norm(expected[:, None] - seen_new[None], axis=2) < radius
    a, b = match_descriptors(described, descriptors, near, config.guided_distance)
    T, covariance = _refined(T, points[a], spread[a], seen_new[b], camera, limit, config)
    agree = reprojection_error(T, points[a], seen_new[b], camera) < limit
    if not _enough(agree, seen_old[a], seen_new[b], camera, config):
        return None
    return ViewTransform(T, _with_scale(covariance, T, old.scale_sigma, config), int(agree.sum()))


def _refined(
    T: Pose, points: np.ndarray, spread: np.ndarray, pixels: Pixels, camera: Camera, limit: float,
    config: VerificationConfig,
) -> tuple[Pose, Covariance]:  # fmt: skip
    """Refine a pose on the points that agree with it."""
    agree = reprojection_error(T, points, pixels, camera) < limit
    return refine_pose(T, points[agree], spread[agree], pixels[agree], camera, config.pose)


def _enough(
    agree: Bool[np.ndarray, " n"], old: Pixels, new: Pixels, camera: Camera, config: VerificationConfig
) -> bool:
    """Whether enough matches agree, and cover an area of both images rather than a spot or a line."""
    if agree.sum() < config.min_inliers:
        return False
    narrowest = min(float(np.linalg.eigvalsh(np.cov(p[agree].T))[0]) for p in (old, new))
    return narrowest > (config.min_spread * camera.width) ** 2


def _with_scale(
    covariance: Covariance, T: Pose, scale_sigma: float, config: VerificationConfig
) -> Covariance:
    """Add that a common error of the old view's depth stretches the translation."""
    along = T[:3, :3].T @ T[:3, 3] * max(scale_sigma, config.min_scale_sigma)
    out = covariance * config.covariance_factor
    out[3:, 3:] += np.outer(along, along)
    return out
