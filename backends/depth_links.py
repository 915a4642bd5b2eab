"""Align the depth of neighbouring keyframes where a sensor measured it: it tells what few or flat landmarks do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from remov3r.backends.bundle_terms import link_error
from remov3r.backends.landmark_map import KeyframeLink
from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.geometry import project_to_se3, se3_exp, transform, unproject
from remov3r.types import DensePrediction


class DepthLinkConfig(Config):
    """Point-to-plane alignment of two depth maps.

    Attributes:
        width_px: of the maps that are compared.
        sigma_share: noise of a distance to a plane, as a share of the depth.
        edge_share: neighbouring depths that differ by more lie on different surfaces.
        gate_share: points farther from the plane they fall on are not of it.
        independent: what the maps tell counts as that of so many points at most: neighbours share their errors.
        least_overlap: share of the points that must fall on a surface of the other map.
    """

    width_px: int = Field(80, ge=16)
    sigma_share: float = Field(0.01, gt=0)
    edge_share: float = Field(0.05, gt=0)
    gate_share: float = Field(0.05, gt=0)
    independent: int = Field(300, ge=10)
    least_overlap: float = Field(0.3, gt=0, lt=1)
    iterations: int = Field(8, ge=1)


@dataclass(frozen=True)
class Surface:
    """What a keyframe's depth map shows, in its own frame; `there` says where."""

    camera: Camera
    points: Float[np.ndarray, "h w 3"]
    normals: Float[np.ndarray, "h w 3"]
    there: Bool[np.ndarray, "h w"]


def surface_of(dense: DensePrediction, config: DepthLinkConfig) -> Surface:
    """Thin a depth map out and find the normals of its smooth parts."""
    step = max(1, round(dense.camera.width / config.width_px))
    c = dense.camera
    depth = dense.depth_m[::step, ::step].astype(np.float64)
    h, w = depth.shape
    camera = Camera(w, h, c.fx / step, c.fy / step, c.cx / step, c.cy / step)
    points = unproject(depth, camera)
    normals, there = np.zeros_like(points), np.zeros((h, w), bool)
    inner = depth[1:-1, 1:-1]
    across = np.cross(points[2:, 1:-1] - points[:-2, 1:-1], points[1:-1, 2:] - points[1:-1, :-2])
    length = np.linalg.norm(across, axis=-1)
    normals[1:-1, 1:-1] = across / np.maximum(length, 1e-12)[..., None]
    around = np.stack([depth[2:, 1:-1], depth[:-2, 1:-1], depth[1:-1, 2:], depth[1:-1, :-2]])
    smooth = (np.abs(around - inner) < config.edge_share * inner).all(0)
    there[1:-1, 1:-1] = smooth & (inner > 0) & (around > 0).all(0) & (length > 1e-12)
    return Surface(camera, points, normals, there)


def depth_link(before: Surface, this: Surface, link: KeyframeLink, config: DepthLinkConfig) -> KeyframeLink:
    """Add to a tracked motion what the two depth maps say of it; return it unchanged where they overlap too little."""
    T = T_tracked = link.T_before_this
    tracked = np.linalg.inv(link.covariance)
    points = this.points[this.there]
    H = tracked
    for _ in range(config.iterations):
        found = _terms(before, points, T, config)
        if found is None:
            return link
        r, J = found
        share = min(1.0, config.independent / len(r))
        weight = share * np.minimum(1.0, 1.5 / np.maximum(np.abs(r), 1e-12))
        off = link_error(T[None], T_tracked[None])[0]
        H = tracked + (J * weight[:, None]).T @ J
        b = tracked @ off + (J * weight[:, None]).T @ r
        step = -np.linalg.solve(H, b)
        T = project_to_se3(T @ se3_exp(np.concatenate([step[3:], step[:3]])))
        if np.abs(step).max() < 1e-5:
            break
    return KeyframeLink(T, np.linalg.inv(H)) if np.isfinite(T).all() else link


def _terms(
    before: Surface, points: Float[np.ndarray, "n 3"], T: Float[np.ndarray, "4 4"], config: DepthLinkConfig
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, "m 6"]] | None:
    """Distances of points to the planes they fall on, and Jacobians by a motion (rotation, translation), whitened."""
    P, c = transform(T, points), before.camera
    z = np.maximum(P[:, 2], 1e-3)
    x = np.rint(c.fx * P[:, 0] / z + c.cx).astype(int)
    y = np.rint(c.fy * P[:, 1] / z + c.cy).astype(int)
    inside = (P[:, 2] > 1e-3) & (x >= 0) & (x < c.width) & (y >= 0) & (y < c.height)
    rows = np.flatnonzero(inside)
    x, y = x[rows], y[rows]
    normal = before.normals[y, x]
    distance = ((P[rows] - before.points[y, x]) * normal).sum(1)
    near = before.there[y, x] & (np.abs(distance) < config.gate_share * z[rows])
    near &= np.abs(P[rows, 2] - before.points[y, x, 2]) < 2 * config.gate_share * z[rows]
    if near.sum() < max(50, config.least_overlap * len(points)):
        return None
    rows, own = rows[near], normal[near] @ T[:3, :3]
    sigma = config.sigma_share * z[rows]
    J = np.concatenate([np.cross(points[rows], own), own], 1) / sigma[:, None]
    return distance[near] / sigma, J
