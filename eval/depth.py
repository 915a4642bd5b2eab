"""Depth errors over the pixels that have ground truth: AbsRel and δ < 1.25 of each frame, then their mean.

Variants: metric (as predicted), median-scaled (× median truth / median prediction, per frame),
scale-and-shift (s · prediction + t, least squares in depth, per frame) and aligned (after alignment to the
landmarks, before any look at the ground truth).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float
from pydantic import PositiveFloat

from remov3r.config import Config
from remov3r.errors import DataError

Map = Float[np.ndarray, "h w"]
Pixels = Float[np.ndarray, " n"]


class DepthEvalConfig(Config):
    """Settings of the depth errors.

    Attributes:
        min_m, max_m: ground truth outside this range is left out.
    """

    min_m: PositiveFloat = 0.1
    max_m: PositiveFloat = 10.0


DEFAULT = DepthEvalConfig()


@dataclass(frozen=True)
class DepthPair:
    """Depth of one frame; all maps show the same field of view, the truth at its own size; 0 = missing.

    Attributes:
        aligned_m: the prediction after alignment to the landmarks; None where there is none.
    """

    predicted_m: Float[np.ndarray, "h w"]
    truth_m: Float[np.ndarray, "th tw"]
    aligned_m: Float[np.ndarray, "h w"] | None = None


@dataclass(frozen=True)
class DepthErrors:
    """Mean of |prediction − truth| / truth, and share of pixels whose ratio to the truth is within 1.25."""

    abs_rel: float
    delta_1_25: float


@dataclass(frozen=True)
class DepthMetrics:
    """Errors of all variants; `aligned` is None where no frame has it. `frames` had a pixel to compare."""

    metric: DepthErrors
    median: DepthErrors
    scale_shift: DepthErrors
    aligned: DepthErrors | None
    frames: int


def depth_metrics(pairs: Iterable[DepthPair], config: DepthEvalConfig = DEFAULT) -> DepthMetrics | None:
    """Compare predictions with ground truth, one frame at a time.

    Args:
        pairs: consumed lazily; frames without a pixel to compare are passed over.
    Returns:
        None when no frame had a pixel to compare.
    """
    rows, aligned = [], []
    for pair in pairs:
        predicted, truth = _comparable(pair.predicted_m, pair.truth_m, config)
        if truth.size == 0:
            continue
        variants = (predicted, _median_scaled(predicted, truth), _scale_shifted(predicted, truth, config))
        rows.append([depth_errors(variant, truth) for variant in variants])
        if pair.aligned_m is not None:
            aligned_pixels, truth = _comparable(pair.aligned_m, pair.truth_m, config)
            aligned += [depth_errors(aligned_pixels, truth)] if truth.size else []
    if not rows:
        return None
    metric, median, scale_shift = (_mean(errors) for errors in zip(*rows))
    return DepthMetrics(metric, median, scale_shift, _mean(aligned) if aligned else None, len(rows))


def depth_errors(predicted_m: Pixels, truth_m: Pixels) -> DepthErrors:
    """Compare pixels one by one; both positive.

    Raises:
        DataError: no pixels.
    """
    if truth_m.size == 0:
        raise DataError("no pixel has both a prediction and ground truth in range")
    ratio = np.maximum(predicted_m / truth_m, truth_m / predicted_m)
    return DepthErrors(float(np.mean(np.abs(predicted_m - truth_m) / truth_m)), float(np.mean(ratio < 1.25)))


def resized_depth(depth_m: Map, width: int, height: int) -> Float[np.ndarray, "th tw"]:
    """Resize depth bilinearly in its logarithm; near missing pixels the nearest one is taken instead.

    Args:
        depth_m: 0 = missing.
        width, height: the size wanted, of the same field of view.
    """
    if depth_m.shape == (height, width):
        return depth_m
    known = (depth_m > 0) & np.isfinite(depth_m)
    log_depth = np.log(np.where(known, depth_m, 1)).astype(np.float32)
    smooth = np.exp(cv2.resize(log_depth, (width, height), interpolation=cv2.INTER_LINEAR))
    share = cv2.resize(known.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    nearest = cv2.resize(
        np.where(known, depth_m, 0).astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return np.where(share > 0.999, smooth, nearest)


def _comparable(
    predicted_m: Map, truth_m: Float[np.ndarray, "th tw"], config: DepthEvalConfig
) -> tuple[Pixels, Pixels]:
    """Pixels with a prediction and ground truth in range, at the ground truth's size."""
    predicted = resized_depth(predicted_m, truth_m.shape[1], truth_m.shape[0])
    use = (truth_m >= config.min_m) & (truth_m <= config.max_m) & (predicted > 0) & np.isfinite(predicted)
    return predicted[use].astype(np.float64), truth_m[use].astype(np.float64)


def _median_scaled(predicted: Pixels, truth: Pixels) -> Pixels:
    return predicted * (np.median(truth) / np.median(predicted))


def _scale_shifted(predicted: Pixels, truth: Pixels, config: DepthEvalConfig) -> Pixels:
    """Least-squares fit; what it puts below the range is lifted to its lower end, so that ratios exist."""
    A = np.stack([predicted, np.ones_like(predicted)], 1)
    scale, shift = np.linalg.lstsq(A, truth, rcond=None)[0]
    return np.maximum(scale * predicted + shift, config.min_m)


def _mean(errors: Iterable[DepthErrors]) -> DepthErrors:
    table = np.array([(e.abs_rel, e.delta_1_25) for e in errors]).mean(0)
    return DepthErrors(float(table[0]), float(table[1]))
