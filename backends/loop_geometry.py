"""What loop closure keeps of a keyframe, and the transform between two such views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
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
    projection_jacobian,
    ransac_pose,
    refine_pose,
    reproject,
)
from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.types import Covariance, DensePrediction, Pose

Pixels = Float[np.ndarray, "n 2"]
Rows = Int[np.ndarray, " k"]


class VerificationConfig(Config):
    """When the geometry of two views is believed; pixel figures are for a 640 pixel wide image.

    Attributes:
        min_inliers: matches that agree with the transform, before more are sought with its help.
        min_spread: least standard deviation of the inliers in any direction, as a share of the width.
        guided_px: how far from where it is expected a further match may lie.
        min_scale_sigma: of the logarithm of depth that a keyframe's pixels share, however sure its front end is.
        covariance_factor: neighbouring features err alike, so that the solver's covariance is too small.
    """

    descriptor_distance: float = Field(300.0, gt=0)
    guided_distance: float = Field(250.0, gt=0)
    guided_px: float = Field(10.0, gt=0)
    min_inliers: int = Field(25, ge=6)
    inlier_px: float = Field(4.0, gt=0)
    ransac_iterations: int = Field(200, ge=10)
    min_spread: float = Field(0.08, ge=0)
    min_scale_sigma: float = Field(0.01, gt=0)
    covariance_factor: float = Field(10.0, ge=1)
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
    found = _Matches(old, there, pixels.astype(np.float64), camera, config)
    described = old.descriptors[there]
    a, b = match_descriptors(described, descriptors, None, config.descriptor_distance)
    if len(a) < config.min_inliers:
        return None
    T = ransac_pose(found.points[a], found.new[b], camera, 1.5 * found.limit, config.ransac_iterations)
    if T is None:
        return None
    T, _ = found.refined(T, a, b, 2.0)
    if not found.enough(T, a, b):
        return None
    distance = np.square(reproject(T, found.points, camera)[0][:, None] - found.new[None]).sum(2)
    near = distance < (config.guided_px / config.inlier_px * found.limit) ** 2
    a, b = match_descriptors(described, descriptors, near, config.guided_distance)
    T, covariance = found.refined(T, a, b, 1.0)
    if not found.enough(T, a, b):
        return None
    agree = int(found.agree(T, a, b).sum())
    sigma = max(old.scale_sigma, config.min_scale_sigma)
    covariance = config.covariance_factor * covariance + found.common_covariance(T, a, b, sigma)
    return ViewTransform(T, covariance, agree)


class _Matches:
    """The features of an older view with depth, and those of a new one; pairs are rows of both."""

    def __init__(
        self,
        old: LoopView,
        there: Bool[np.ndarray, " n"],
        new: Float[np.ndarray, "m 2"],
        camera: Camera,
        config: VerificationConfig,
    ) -> None:
        self.old, self.new = old.pixels[there].astype(np.float64), new
        x, y = (self.old - [camera.cx, camera.cy]).T / [[camera.fx], [camera.fy]]
        rays = np.stack([x, y, np.ones(len(x))], 1)
        self.points = rays * old.depth_m[there, None].astype(np.float64)
        self.spread = rays * old.sigma_m[there, None].astype(np.float64)
        self.limit = config.inlier_px * max(camera.width / 640, 0.5)
        self._camera, self._config = camera, config

    def agree(self, T: Pose, a: Rows, b: Rows, factor: float = 1.0) -> Bool[np.ndarray, " n"]:
        """Which pairs fit a pose; an error that doubtful depth explains counts less."""
        expected, P = reproject(T, self.points[a], self._camera)
        error = expected - self.new[b]
        g = np.einsum("nij,nj->ni", projection_jacobian(P, self._camera), self.spread[a] @ T[:3, :3])
        along = (g * error).sum(1) ** 2 / (self.limit**2 + (g**2).sum(1))
        return (error**2).sum(1) - along < (factor * self.limit) ** 2

    def refined(self, T: Pose, a: Rows, b: Rows, factor: float) -> tuple[Pose, Covariance]:
        """Refine a pose on the pairs that fit it."""
        good = self.agree(T, a, b, factor)
        points, spread, pixels = self.points[a[good]], self.spread[a[good]], self.new[b[good]]
        return refine_pose(T, points, spread, pixels, self._camera, self._config.pose)

    def common_covariance(self, T: Pose, a: Rows, b: Rows, sigma: float) -> Covariance:
        """What depth errors common to the whole view do to a pose: too long, or tilted along x or y.

        Args:
            sigma: standard deviation of the logarithm of depth, for each of the three.
        """
        good = self.agree(T, a, b)
        points, seen = self.points[a[good]], self.old[a[good]]
        _, P = reproject(T, points, self._camera)
        J_point = projection_jacobian(P, self._camera)
        g = np.einsum("nij,nj->ni", J_point, self.spread[a[good]] @ T[:3, :3])
        variance = (self.limit / 3) ** 2
        W = np.eye(2) - g[:, :, None] * g[:, None] / (variance + (g**2).sum(1))[:, None, None]
        cross = np.cross(
            np.eye(3), P[:, None]
        )  # rows: e_k x P, the motion of P when the camera turns is -that
        J = np.concatenate([-np.einsum("nij,nkj->nik", J_point, cross), -J_point], 2)
        size = [self._camera.width / 2, self._camera.height / 2]
        shape = np.concatenate([np.ones((len(points), 1)), (seen - size) / size], 1) * sigma
        moved = np.einsum("nij,nj->ni", J_point, points @ T[:3, :3])
        JtW = np.einsum("nij,nik->njk", J, W)
        H = np.einsum("nij,njk->ik", JtW, J) + 1e-9 * np.eye(6)
        shift = np.linalg.solve(H, np.einsum("nij,nj,nm->im", JtW, moved, shape))
        return shift @ shift.T

    def enough(self, T: Pose, a: Rows, b: Rows) -> bool:
        """Whether enough pairs fit, and cover an area of both images rather than a spot or a line."""
        good = self.agree(T, a, b)
        if good.sum() < self._config.min_inliers:
            return False
        sides = self.old[a[good]], self.new[b[good]]
        narrowest = min(float(np.linalg.eigvalsh(np.cov(p.T))[0]) for p in sides)
        return narrowest > (self._config.min_spread * self._camera.width) ** 2
