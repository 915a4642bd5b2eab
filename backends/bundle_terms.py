"""What a bundle adjustment adds up: residuals of pixels, ranges and links, their Jacobians and robust weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field

from remov3r.backends.bundle_kernels import bundle_cost, bundle_normal
from remov3r.backends.pose_kernels import NEAREST_M
from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.geometry import inverse


class BundleSolverConfig(Config):
    """One bundle adjustment; pixel figures are for a 640 pixel wide image and scale with the width."""

    sigma_px: float = Field(1.0, gt=0)
    huber: float = Field(1.5, gt=0)
    depth_huber: float = Field(1.5, gt=0)
    link_huber: float = Field(3.0, gt=0)
    iterations: int = Field(5, ge=1)
    relative_tolerance: float = Field(1e-3, gt=0)


@dataclass(frozen=True)
class Links:
    """Measured transforms between pairs of cameras.

    Attributes:
        first, second: the cameras of each.
        T_first_second: what was measured.
        information: 6x6, rotation first, then translation, in the second camera's frame.
    """

    first: Int[np.ndarray, " n"]
    second: Int[np.ndarray, " n"]
    T_first_second: Float[np.ndarray, "n 4 4"]
    information: Float[np.ndarray, "n 6 6"]


@dataclass(frozen=True)
class BundleProblem:
    """Cameras, points and what ties them.

    Attributes:
        held: cameras that stay where they are; there is at least one.
        obs_camera, obs_point: which camera saw which point, at `obs_pixel`.
        obs_range_m: measured distance from camera to point; NaN where there is none.
        obs_range_sigma_m: its standard deviation.
        links: measured transforms between cameras.
    """

    camera: Camera
    T_world_cam: Float[np.ndarray, "k 4 4"]
    held: Bool[np.ndarray, " k"]
    points: Float[np.ndarray, "l 3"]
    obs_camera: Int[np.ndarray, " m"]
    obs_point: Int[np.ndarray, " m"]
    obs_pixel: Float[np.ndarray, "m 2"]
    obs_range_m: Float[np.ndarray, " m"]
    obs_range_sigma_m: Float[np.ndarray, " m"]
    links: Links | None = None


@dataclass(frozen=True)
class LinkTerms:
    """Normal equations of the links: blocks between two cameras (both ways), and right-hand sides of single ones."""

    row: Int[np.ndarray, " b"]
    column: Int[np.ndarray, " b"]
    block: Float[np.ndarray, "b 6 6"]
    camera: Int[np.ndarray, " c"]
    b: Float[np.ndarray, "c 6"]


@dataclass(frozen=True)
class Normal:
    """Normal equations of cameras (C), points (D) and between them (W, one block per observation)."""

    C: Float[np.ndarray, "k 6 6"]
    D: Float[np.ndarray, "l 3 3"]
    W: Float[np.ndarray, "m 6 3"]
    b_camera: Float[np.ndarray, "k 6"]
    b_point: Float[np.ndarray, "l 3"]
    links: LinkTerms | None


def residuals(
    problem: BundleProblem, config: BundleSolverConfig
) -> tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, "m 3"], Float[np.ndarray, "m 3 3"]]:
    """Return (u, v, range) errors over their sigmas, the points in their cameras, and the cameras' rotations.

    Where there is no range, or the point is behind the camera, its errors are 0.
    """
    T = problem.T_world_cam[problem.obs_camera]
    R = T[:, :3, :3]
    P = np.einsum("mji,mj->mi", R, problem.points[problem.obs_point] - T[:, :3, 3])
    c, z = problem.camera, np.maximum(P[:, 2], NEAREST_M)
    sigma = config.sigma_px * max(c.width / 640, 0.4)
    r = np.empty((len(P), 3))
    r[:, 0] = (c.fx * P[:, 0] / z + c.cx - problem.obs_pixel[:, 0]) / sigma
    r[:, 1] = (c.fy * P[:, 1] / z + c.cy - problem.obs_pixel[:, 1]) / sigma
    r[:, 2] = (np.linalg.norm(P, axis=1) - problem.obs_range_m) / problem.obs_range_sigma_m
    r[~(np.isfinite(problem.obs_range_m) & np.isfinite(problem.obs_range_sigma_m)), 2] = 0
    return r, P, R


def total_cost(problem: BundleProblem, config: BundleSolverConfig) -> float:
    """Robust cost; a point behind its camera costs as much as one ten image widths off."""
    behind = 10.0 * problem.camera.width
    cost = bundle_cost(behind, *_observations(problem, config))
    if problem.links is not None:
        cost += _huber(_link_norm(problem, problem.links)[1], config.link_huber).sum()
    return float(cost)


def linearised(problem: BundleProblem, config: BundleSolverConfig) -> Normal:
    """Build the normal equations around where cameras and points are now."""
    links = None if problem.links is None else _link_terms(problem, problem.links, config)
    return Normal(*bundle_normal(*_observations(problem, config)), links)


def _observations(problem: BundleProblem, config: BundleSolverConfig) -> tuple[Any, ...]:
    """Return what the compiled loops take."""
    return (
        np.ascontiguousarray(problem.T_world_cam, float),
        np.ascontiguousarray(problem.points, float),
        np.ascontiguousarray(problem.obs_camera, np.int64),
        np.ascontiguousarray(problem.obs_point, np.int64),
        np.ascontiguousarray(problem.obs_pixel, float),
        np.stack([problem.obs_range_m, problem.obs_range_sigma_m], 1),
        problem.camera.pinhole,
        config.sigma_px * max(problem.camera.width / 640, 0.4),
        config.huber,
        config.depth_huber,
    )


def _link_terms(problem: BundleProblem, links: Links, config: BundleSolverConfig) -> LinkTerms:
    error, norm = _link_norm(problem, links)
    H = links.information * _weight(norm, config.link_huber)[:, None, None]
    i, j = links.first, links.second
    # A small motion of the first camera shows in the second one's frame, the other way round.
    A = -adjoint(inverse(problem.T_world_cam[j]) @ problem.T_world_cam[i])
    A_T = A.transpose(0, 2, 1)
    pull = (H @ error[:, :, None])[:, :, 0]
    return LinkTerms(
        np.concatenate([i, j, i, j]),
        np.concatenate([i, j, j, i]),
        np.concatenate([A_T @ H @ A, H, A_T @ H, H @ A]),
        np.concatenate([i, j]),
        -np.concatenate([(A_T @ pull[:, :, None])[:, :, 0], pull]),
    )


def link_error(
    T_first_second: Float[np.ndarray, "n 4 4"], measured: Float[np.ndarray, "n 4 4"]
) -> Float[np.ndarray, "n 6"]:
    """Return what is left of transforms after the measured ones: rotation vector, then translation."""
    E = inverse(measured) @ T_first_second
    R = E[:, :3, :3]
    axis = np.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], 1) / 2
    sine = np.linalg.norm(axis, axis=1)
    angle = np.arctan2(sine, (np.trace(R, axis1=1, axis2=2) - 1) / 2)
    factor = np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 1.0)
    return np.concatenate([axis * factor[:, None], E[:, :3, 3]], 1)


def _link_norm(
    problem: BundleProblem, links: Links
) -> tuple[Float[np.ndarray, "n 6"], Float[np.ndarray, " n"]]:
    T = problem.T_world_cam
    error = link_error(inverse(T[links.first]) @ T[links.second], links.T_first_second)
    squared = np.einsum("ni,nij,nj->n", error, links.information, error)
    return error, np.sqrt(np.maximum(squared, 0))


def adjoint(T: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b 6 6"]:
    """Return the matrix that carries a small motion (rotation, translation) over to another frame."""
    R, (x, y, z) = T[..., :3, :3], np.moveaxis(T[..., :3, 3], -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*T.shape[:-2], 3, 3)
    out = np.zeros((*T.shape[:-2], 6, 6))
    out[..., :3, :3] = out[..., 3:, 3:] = R
    out[..., 3:, :3] = cross @ R
    return out


def _huber(norm: Float[np.ndarray, " m"], limit: float) -> Float[np.ndarray, " m"]:
    return np.where(norm < limit, 0.5 * norm**2, limit * (norm - 0.5 * limit))


def _weight(norm: Float[np.ndarray, " m"], limit: float) -> Float[np.ndarray, " m"]:
    return np.minimum(1.0, limit / np.maximum(norm, 1e-12))
