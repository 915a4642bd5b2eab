"""Read dense predictions at pixels of the frame they belong to."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.types import DensePrediction


def sample_depth(
    dense: DensePrediction, pixels: Float[np.ndarray, "n 2"], frame_camera: Camera
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return z-depth and its standard deviation, in metres, at pixels of the frame.

    At a depth edge, where the neighbours differ by more than the prediction's own noise, half that difference
    is added: a corner on a silhouette may belong to either side.

    Returns:
        NaN depth and infinite sigma where depth is missing.
    """
    c = dense.camera
    u = (pixels[:, 0] - frame_camera.cx) / frame_camera.fx * c.fx + c.cx
    v = (pixels[:, 1] - frame_camera.cy) / frame_camera.fy * c.fy + c.cy
    x = np.clip(np.rint(u).astype(int), 0, c.width - 1)
    y = np.clip(np.rint(v).astype(int), 0, c.height - 1)
    steps = np.array([-1, 0, 1])
    xs = np.clip(x[:, None, None] + steps[None, None, :], 0, c.width - 1)
    ys = np.clip(y[:, None, None] + steps[None, :, None], 0, c.height - 1)
    around = np.asarray(dense.depth_m[ys, xs], dtype=np.float64).reshape(len(pixels), 9)
    valid = around > 0
    low = np.where(valid, around, np.inf).min(1, initial=np.inf)
    high = np.where(valid, around, 0.0).max(1, initial=0.0)
    depth = np.asarray(dense.depth_m[y, x], dtype=np.float64)
    sigma = np.asarray(dense.sigma_m[y, x], dtype=np.float64)
    there = (depth > 0) & np.isfinite(depth) & np.isfinite(sigma)
    spread = np.where(there, np.maximum(high - low, 0.0) / 2, 0.0)
    return np.where(there, depth, np.nan), np.where(there, np.hypot(sigma, spread), np.inf)


def median_relative_sigma(dense: DensePrediction) -> float:
    """Return the typical standard deviation of the logarithm of depth; 1 where there is no depth at all."""
    valid = (dense.depth_m > 0) & np.isfinite(dense.sigma_m)
    if not valid.any():
        return 1.0
    return float(np.median(dense.sigma_m[valid] / dense.depth_m[valid]))
