"""Alignment of a keyframe's dense depth to its landmarks: one scale, or a smooth field of scales."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field, PositiveFloat, PositiveInt

from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.errors import ShapeError
from remov3r.types import DensePrediction

logger = logging.getLogger(__name__)


class AlignmentConfig(Config):
    """When and how stiffly depth follows the landmarks (scales are natural logarithms).

    Attributes:
        min_landmarks: with fewer the depth stays as it is.
        min_field_landmarks: with fewer, or bunched ones, a single scale is estimated.
        min_field_cells: of the field's cells, how many must hold a landmark for a field.
        columns, rows: nodes of the bilinear field.
        node_sigma: how far a node may lie from the median scale.
        step_sigma: how far neighbouring nodes may differ.
        slope_sigma: how far the scale may depend on depth, per factor e of depth.
        landmark_sigma: relative error of a landmark's depth.
    """

    min_landmarks: PositiveInt = 5
    min_field_landmarks: int = 30
    min_field_cells: int = 4
    columns: int = Field(4, ge=2)
    rows: int = Field(3, ge=2)
    node_sigma: PositiveFloat = 0.3
    step_sigma: PositiveFloat = 0.1
    slope_sigma: PositiveFloat = 0.15
    landmark_sigma: PositiveFloat = 0.02
    iterations: PositiveInt = 10


@dataclass(frozen=True)
class Samples:
    """The dense depth where landmarks were seen.

    Attributes:
        uv: position in the image, 0..1 in both directions.
        depth_m: dense depth there.
        log_ratio: logarithm of landmark depth over dense depth.
        sigma: relative standard deviation expected of the ratio.
    """

    uv: Float[np.ndarray, "n 2"]
    depth_m: Float[np.ndarray, " n"]
    log_ratio: Float[np.ndarray, " n"]
    sigma: Float[np.ndarray, " n"]


def align_depth(
    dense: DensePrediction,
    pixels: Float[np.ndarray, "n 2"],
    depth_m: Float[np.ndarray, " m"],
    frame_camera: Camera,
    config: AlignmentConfig | None = None,
) -> DensePrediction:
    """Fit the dense depth to landmarks of known depth, robustly.

    Many landmarks spread over the image give a smooth field of scales that may also depend on depth, a few
    give one scale, too few leave the prediction untouched (the same object is returned). Sigma is multiplied
    by the same scale, and by how much larger or smaller the residuals are than it said.

    Args:
        pixels: landmarks in pixels of `frame_camera`; those outside the image are ignored.
        depth_m: their z-depth in metres; values that are not finite and positive are ignored.
        frame_camera: undistorted, with the same field of view as `dense.camera`.
    Raises:
        ShapeError: there are not as many depths as pixels.
    """
    config = config or AlignmentConfig()
    if pixels.shape != (len(depth_m), 2):
        raise ShapeError(f"landmark pixels {pixels.shape} and depths {depth_m.shape} do not belong together")
    samples = sample_at_landmarks(dense, pixels, depth_m, frame_camera, config)
    n = len(samples.depth_m)
    if n < config.min_landmarks:
        logger.debug("depth not aligned: %d of %d landmarks usable", n, len(depth_m))
        return dense
    scale = float(np.median(samples.log_ratio))
    field = np.full(dense.depth_m.shape, scale)
    if n >= config.min_field_landmarks and _occupied_cells(samples, config) >= config.min_field_cells:
        solution = fit_field(samples, scale, config)
        field = evaluate_field(solution, _pixel_grid(dense), dense.depth_m, samples, config)
        residuals = samples.log_ratio - evaluate_field(solution, samples.uv, samples.depth_m, samples, config)
    else:
        residuals = samples.log_ratio - scale
    return _rescaled(dense, np.exp(field), _sigma_factor(residuals / samples.sigma))


def sample_at_landmarks(
    dense: DensePrediction,
    pixels: Float[np.ndarray, "n 2"],
    depth_m: Float[np.ndarray, " n"],
    frame_camera: Camera,
    config: AlignmentConfig,
) -> Samples:
    """Read dense depth and its sigma at landmarks; those without valid depth on all four sides drop out."""
    camera = dense.camera
    to_dense = np.array([camera.fx / frame_camera.fx, camera.fy / frame_camera.fy])
    uv = (pixels - [frame_camera.cx, frame_camera.cy]) * to_dense + [camera.cx, camera.cy]
    with np.errstate(invalid="ignore"):
        inside = (uv >= 0).all(1) & (uv <= [camera.width - 1, camera.height - 1]).all(1)
        keep = inside & np.isfinite(depth_m) & (depth_m > 0)
    uv, target = uv[keep], depth_m[keep].astype(np.float64)
    x0 = np.minimum(np.floor(uv[:, 0]).astype(np.int64), camera.width - 2)
    y0 = np.minimum(np.floor(uv[:, 1]).astype(np.int64), camera.height - 2)
    fx, fy = uv[:, 0] - x0, uv[:, 1] - y0
    rows, columns = np.stack([y0, y0, y0 + 1, y0 + 1]), np.stack([x0, x0 + 1, x0, x0 + 1])
    share = np.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy])
    around = dense.depth_m[rows, columns].astype(np.float64)
    sigma = dense.sigma_m[rows, columns].astype(np.float64)
    valid = (around > 0).all(0) & np.isfinite(sigma).all(0)
    uv, target, around, sigma, share = (
        uv[valid],
        target[valid],
        around[:, valid],
        sigma[:, valid],
        share[:, valid],
    )
    depth = (around * share).sum(0)
    # Corners are tracked on silhouettes too, where the depth between the four pixels means little.
    jump = (around.max(0) - around.min(0)) / 2
    relative = np.sqrt((sigma * share).sum(0) ** 2 + jump**2) / depth
    return Samples(
        uv / [max(camera.width - 1, 1), max(camera.height - 1, 1)],
        depth,
        np.log(target / depth),
        np.hypot(relative, config.landmark_sigma),
    )


def fit_field(samples: Samples, scale: float, config: AlignmentConfig) -> Float[np.ndarray, " k"]:
    """Fit the nodes of the field and its slope in depth by iteratively reweighted least squares (Cauchy).

    Args:
        scale: logarithm of the median scale, from which outliers are told at the start.
    """
    A = _design(samples.uv, samples.depth_m, samples, config)
    prior, target = _regulariser(scale, config)
    # Sigma may be off by a constant factor: the spread of the residuals decides how strong the data are.
    solution = np.r_[np.full(config.rows * config.columns, scale), 0.0]
    for _ in range(config.iterations):
        residual = (A @ solution - samples.log_ratio) / samples.sigma
        spread = max(1.4826 * float(np.median(np.abs(residual))), 0.05)
        weight = 1 / (1 + (residual / (2 * spread)) ** 2) / (samples.sigma * spread) ** 2
        H = (A.T * weight) @ A + prior.T @ prior
        solution = np.linalg.solve(H, (A.T * weight) @ samples.log_ratio + prior.T @ target)
    return solution


def evaluate_field(
    solution: Float[np.ndarray, " k"],
    uv: Float[np.ndarray, "*b 2"],
    depth_m: Float[np.ndarray, "*b"],
    samples: Samples,
    config: AlignmentConfig,
) -> Float[np.ndarray, "*b"]:
    """Evaluate the fitted logarithm of scale at image positions 0..1 with the given dense depth."""
    rows = _design(uv.reshape(-1, 2), depth_m.reshape(-1), samples, config)
    return (rows @ solution).reshape(depth_m.shape)


def _design(
    uv: Float[np.ndarray, "n 2"], depth_m: Float[np.ndarray, " n"], samples: Samples, config: AlignmentConfig
) -> Float[np.ndarray, "n k"]:
    """Bilinear weights of the nodes, and the logarithm of depth about its median (not beyond the samples)."""
    horizontal = _hat(uv[:, 0], config.columns)
    vertical = _hat(uv[:, 1], config.rows)
    nodes = (vertical[:, :, None] * horizontal[:, None, :]).reshape(len(uv), -1)
    low, middle, high = np.percentile(samples.depth_m, [2, 50, 98])
    slope = np.log(np.clip(depth_m, low, high) / middle)
    return np.concatenate([nodes, slope[:, None]], 1)


def _hat(x: Float[np.ndarray, " n"], nodes: int) -> Float[np.ndarray, "n k"]:
    """Piecewise linear basis on 0..1."""
    return np.maximum(0, 1 - np.abs(x[:, None] * (nodes - 1) - np.arange(nodes)))


def _regulariser(
    scale: float, config: AlignmentConfig
) -> tuple[Float[np.ndarray, "r k"], Float[np.ndarray, " r"]]:
    """Rows that hold nodes near the median, neighbours together and the slope small."""
    n = config.rows * config.columns
    index = np.arange(n).reshape(config.rows, config.columns)
    pairs = np.concatenate(
        [
            np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()], 1),
            np.stack([index[:-1].ravel(), index[1:].ravel()], 1),
        ]
    )
    eye = np.eye(n + 1)
    prior = np.concatenate(
        [
            eye[:n] / config.node_sigma,
            (eye[pairs[:, 0]] - eye[pairs[:, 1]]) / config.step_sigma,
            eye[n:] / config.slope_sigma,
        ]
    )
    return prior, np.r_[np.full(n, scale / config.node_sigma), np.zeros(len(pairs) + 1)]


def _occupied_cells(samples: Samples, config: AlignmentConfig) -> int:
    """How many cells of the field hold a landmark."""
    cells = np.array([config.columns - 1, config.rows - 1])
    cell = np.minimum((samples.uv * cells).astype(np.int64), cells - 1)
    return len(np.unique(cell[:, 1] * cells[0] + cell[:, 0]))


def _pixel_grid(dense: DensePrediction) -> Float[np.ndarray, "h w 2"]:
    x, y = np.meshgrid(np.linspace(0, 1, dense.camera.width), np.linspace(0, 1, dense.camera.height))
    return np.stack([x, y], -1)


def _sigma_factor(normalised: Float[np.ndarray, " n"]) -> float:
    """How much larger the residuals are than sigma said; the prior that it is right weighs 30 landmarks."""
    spread = 1.4826 * float(np.median(np.abs(normalised)))
    n, known = len(normalised), 30
    return float(np.clip(np.sqrt((n * spread**2 + known) / (n + known)), 0.5, 3.0))


def _rescaled(
    dense: DensePrediction, scale: Float[np.ndarray, "h w"], sigma_factor: float
) -> DensePrediction:
    valid: Bool[np.ndarray, "h w"] = dense.depth_m > 0
    factor = np.where(valid, scale, 1.0).astype(dense.depth_m.dtype)
    return replace(
        dense,
        depth_m=dense.depth_m * factor,
        points_cam=dense.points_cam * factor[..., None],
        sigma_m=(dense.sigma_m * factor * sigma_factor).astype(dense.sigma_m.dtype),
    )
