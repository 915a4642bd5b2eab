"""Read dense predictions at pixels of the frame they belong to."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from remov3r.camera import Camera
from remov3r.types import DensePrediction, DepthMap


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
    depth, half_step = _read(dense.depth_m, x, y)
    sigma = np.asarray(dense.sigma_m[y, x], dtype=np.float64)
    there = (depth > 0) & np.isfinite(depth) & np.isfinite(sigma)
    return np.where(there, depth, np.nan), np.where(there, np.hypot(sigma, half_step), np.inf)


def sample_sensor(
    depth_m: DepthMap, pixels: Float[np.ndarray, "n 2"], sigma_share: float
) -> Float[np.ndarray, "n 2"]:
    """Return a sensor's z-depth and its standard deviation at pixels of its frame, NaN where depth is missing.

    Args:
        sigma_share: of the depth; half the step to the neighbours is added as in `sample_depth`.
    """
    height, width = depth_m.shape
    x = np.clip(np.rint(pixels[:, 0]).astype(int), 0, width - 1)
    y = np.clip(np.rint(pixels[:, 1]).astype(int), 0, height - 1)
    depth, half_step = _read(depth_m, x, y)
    depth = np.where((depth > 0) & np.isfinite(depth), depth, np.nan)
    return np.stack([depth, np.hypot(sigma_share * depth, half_step)], 1)


def _read(
    depth_m: DepthMap, x: Int[np.ndarray, " n"], y: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return depth at pixels, and half the range of what lies around each; 0 where nothing does."""
    height, width = depth_m.shape
    steps = np.array([-1, 0, 1])
    xs = np.clip(x[:, None, None] + steps[None, None, :], 0, width - 1)
    ys = np.clip(y[:, None, None] + steps[None, :, None], 0, height - 1)
    around = np.asarray(depth_m[ys, xs], dtype=np.float64).reshape(len(x), 9)
    valid = around > 0
    low = np.where(valid, around, np.inf).min(1, initial=np.inf)
    high = np.where(valid, around, 0.0).max(1, initial=0.0)
    return np.asarray(depth_m[y, x], dtype=np.float64), np.maximum(high - low, 0.0) / 2


def median_relative_sigma(dense: DensePrediction) -> float:
    """Return the typical standard deviation of the logarithm of depth; 1 where there is no depth at all."""
    valid = (dense.depth_m > 0) & np.isfinite(dense.sigma_m)
    if not valid.any():
        return 1.0
    return float(np.median(dense.sigma_m[valid] / dense.depth_m[valid]))
