"""Find focal length and pose of a camera from a pointmap, where a recording holds neither."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize_scalar

from remov3r.geometry import inverse
from remov3r.types import Pose

_POINTS = 1500
_SEARCH_POINTS = 250  # of each frame, while the focal length is sought
_FOCALS = 16  # tried between half and three times the width
Points = Float[np.ndarray, "n 3"]
Pixels = Float[np.ndarray, "n 2"]


def centred_intrinsics(focal_px: float, height: int, width: int) -> Float[np.ndarray, "3 3"]:
    """Return the intrinsics of a camera whose axis meets the middle of the image."""
    return np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])


def focal_of_points(points_cam: Float[np.ndarray, "h w 3"], valid: Bool[np.ndarray, "h w"]) -> float | None:
    """Return the focal length in pixels of a pointmap in its own camera's frame; None where it has too few points.

    The median over pixels of (distance from the middle) · z / (distance from the axis).
    """
    height, width = valid.shape
    v, u = np.nonzero(valid & (points_cam[..., 2] > 0))
    x, y, z = points_cam[v, u].astype(np.float64).T
    radius = np.hypot(x, y)
    pixels = np.hypot(u - (width - 1) / 2, v - (height - 1) / 2)
    far = (radius > 1e-9) & (pixels > width / 8)
    return float(np.median(pixels[far] * z[far] / radius[far])) if far.sum() >= 20 else None


def sampled(
    points: Float[np.ndarray, "h w 3"], weight: Float[np.ndarray, "h w"]
) -> tuple[Points, Pixels] | None:
    """Choose pixels evenly among the more certain half of a pointmap; None where fewer than 20 are there."""
    there = np.isfinite(points).all(-1) & np.isfinite(weight) & (weight > 0)
    if there.sum() < 20:
        return None
    v, u = np.nonzero(there & (weight >= np.median(weight[there])))
    step = max(len(u) // _POINTS, 1)
    u, v = u[::step], v[::step]
    return np.asarray(points[v, u], np.float64), np.stack([u, v], 1).astype(np.float64)


def camera_pose(points: Points, pixels: Pixels, K: Float[np.ndarray, "3 3"]) -> tuple[Pose, float] | None:
    """Return T_world_cam of a camera and its median reprojection error in pixels; None where it cannot be found.

    Points farther off than twice the median are left out of the final refinement.
    """
    points, pixels = np.ascontiguousarray(points), np.ascontiguousarray(pixels)
    try:
        found, r, t = cv2.solvePnP(points, pixels, K, None, flags=cv2.SOLVEPNP_SQPNP)
        if not found:
            return None
        for _ in range(2):
            error = _errors(points, pixels, K, r, t)
            near = error <= 2 * np.median(error) + 1e-9
            r, t = cv2.solvePnPRefineLM(points[near], pixels[near], K, None, r, t)
    except cv2.error:
        return None
    T_cam_world = np.eye(4)
    T_cam_world[:3, :3], T_cam_world[:3, 3] = cv2.Rodrigues(r)[0], t.ravel()
    if not np.isfinite(T_cam_world).all():
        return None
    return inverse(T_cam_world), float(np.median(_errors(points, pixels, K, r, t)))


def shared_focal(samples: list[tuple[Points, Pixels]], height: int, width: int) -> float:
    """Return the focal length in pixels with which the poses of some frames fit their points best."""
    steps = [max(len(points) // _SEARCH_POINTS, 1) for points, _ in samples]
    thinned = [(points[::n], pixels[::n]) for n, (points, pixels) in zip(steps, samples)]

    def error(log_focal: float) -> float:
        K = centred_intrinsics(float(np.exp(log_focal)), height, width)
        poses = (camera_pose(points, pixels, K) for points, pixels in thinned)
        return float(np.mean([width if pose is None else pose[1] for pose in poses]))

    tried = np.log(np.geomspace(0.5 * width, 3 * width, _FOCALS))
    best = int(np.argmin([error(f) for f in tried]))
    around = tried[max(best - 1, 0)], tried[min(best + 1, _FOCALS - 1)]
    return float(np.exp(minimize_scalar(error, bounds=around, method="bounded", options={"xatol": 1e-7}).x))


def _errors(
    points: Points, pixels: Pixels, K: Float[np.ndarray, "3 3"], r: np.ndarray, t: np.ndarray
) -> Float[np.ndarray, " n"]:
    seen, _ = cv2.projectPoints(points, r, t, K, None)
    return np.linalg.norm(seen.reshape(-1, 2) - pixels, axis=1)
