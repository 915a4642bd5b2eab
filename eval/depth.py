"""Depth errors over the pixels that have ground truth, each frame by itself or all pixels together.

Variants: metric (as predicted), median-scaled (× median truth / median prediction), scaled (least squares in
depth), scale-and-shift (s · prediction + t, the same), all fitted to each frame; aligned (after alignment to the
landmarks, before any look at the ground truth); and `sequence`, one fit for all frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import cv2
import numpy as np
from jaxtyping import Bool, Float
from pydantic import PositiveFloat, model_validator

from remov3r.config import Config
from remov3r.errors import DataError, ShapeError
from remov3r.eval.depth_fits import (
    Pixels,
    SequencePixels,
    as_predicted,
    least_deviation_line,
    least_deviation_scale,
    median_scaled,
    scale_shifted,
    scaled,
)

Map = Float[np.ndarray, "h w"]


class DepthEvalConfig(Config):
    """Settings of the depth errors.

    Attributes:
        min_m, max_m: ground truth outside this range is left out.
        ranges_m: depth as predicted is also judged within each of these ranges of the ground truth.
    """

    min_m: PositiveFloat = 0.1
    max_m: PositiveFloat = 10.0
    ranges_m: tuple[tuple[float, float], ...] = ((0.1, 2.0), (2.0, 5.0), (5.0, 10.0))

    @model_validator(mode="after")
    def _ordered(self) -> DepthEvalConfig:
        if any(low >= high for low, high in ((self.min_m, self.max_m), *self.ranges_m)):
            raise ValueError("each range needs its smaller end first")
        return self


DEFAULT = DepthEvalConfig()


@dataclass(frozen=True)
class DepthPair:
    """Depth of one frame; all maps show the same field of view, the truth at its own size; 0 = missing.

    Attributes:
        aligned_m: the prediction after alignment to the landmarks; None where there is none.
        mask: pixels of the truth that count; None for all.
    """

    predicted_m: Float[np.ndarray, "h w"]
    truth_m: Float[np.ndarray, "th tw"]
    aligned_m: Float[np.ndarray, "h w"] | None = None
    mask: Bool[np.ndarray, "mh mw"] | None = None


@dataclass(frozen=True)
class DepthErrors:
    """Errors over pixels, prediction p and truth t.

    Attributes:
        abs_rel: mean of abs(p - t) / t.
        delta_1_25: share of pixels with max(p / t, t / p) < 1.25; the others below 1.25² and 1.25³.
        sq_rel_m: mean of (p - t)² / t.
        rmse_m: root mean square of p - t.
        rmse_log: root mean square of ln p - ln t.
    """

    abs_rel: float
    delta_1_25: float
    sq_rel_m: float
    rmse_m: float
    rmse_log: float
    delta_1_25_2: float
    delta_1_25_3: float


@dataclass(frozen=True)
class RangeErrors:
    """Errors of the depth as predicted, all pixels together whose ground truth lies in a range."""

    min_m: float
    max_m: float
    errors: DepthErrors
    pixels: int


@dataclass(frozen=True)
class PooledErrors:
    """Errors over all pixels of all frames, so that frames with more of them count more."""

    metric: DepthErrors
    median: DepthErrors
    scale: DepthErrors
    scale_shift: DepthErrors
    aligned: DepthErrors | None
    pixels: int


@dataclass(frozen=True)
class SequenceErrors:
    """Errors over all pixels together after one fit for the whole sequence, by least absolute deviations.

    Of more than 2 million pixels, evenly spaced ones are taken.

    Attributes:
        scale: after × `fitted_scale` (CUT3R's per-sequence scale).
        scale_shift: after × `line_scale` + `line_shift_m` (MonST3R's and CUT3R's per-sequence scale and shift).
    References: Zhang et al. 2025 (MonST3R) and Wang et al. 2025 (CUT3R), video depth.
    """

    scale: DepthErrors
    scale_shift: DepthErrors
    fitted_scale: float
    line_scale: float
    line_shift_m: float


@dataclass(frozen=True)
class DepthMetrics:
    """Errors of all variants, each the mean over frames; `aligned` is None where no frame has it.

    Attributes:
        frames: how many had a pixel to compare.
        pooled: the same over all pixels together.
        sequence: over all pixels together, after one fit for all frames.
        ranges: by distance; ranges without a pixel are left out.
    """

    metric: DepthErrors
    median: DepthErrors
    scale_shift: DepthErrors
    aligned: DepthErrors | None
    frames: int
    scale: DepthErrors
    pooled: PooledErrors
    sequence: SequenceErrors
    ranges: tuple[RangeErrors, ...]


def depth_metrics(pairs: Iterable[DepthPair], config: DepthEvalConfig = DEFAULT) -> DepthMetrics | None:
    """Compare predictions with ground truth, one frame at a time.

    Args:
        pairs: consumed lazily; frames without a pixel to compare are passed over.
    Returns:
        None when no frame had a pixel to compare.
    Raises:
        ShapeError: a mask is not of the truth's size.
    """
    sums: dict[str, _Sums] = {name: _Sums() for name in (*_VARIANTS, "aligned")}
    ranges, everything = [_Sums() for _ in config.ranges_m], SequencePixels()
    for pair in pairs:
        predicted, truth = _comparable(pair, pair.predicted_m, config)
        if truth.size == 0:
            continue
        everything.add(predicted, truth)
        for name, fitted in _VARIANTS.items():
            sums[name].add(fitted(predicted, truth, config.min_m), truth)
        for within, (low, high) in zip(ranges, config.ranges_m):
            use = (truth >= low) & (truth < high)
            within.add(predicted[use], truth[use])
        if pair.aligned_m is not None:
            sums["aligned"].add(*_comparable(pair, pair.aligned_m, config))
    if sums["metric"].frames == 0:
        return None
    last = sums.pop("aligned")
    mean, pooled = ({name: s.errors(pool) for name, s in sums.items()} for pool in (False, True))
    by_range = zip(config.ranges_m, ranges)
    return DepthMetrics(
        **mean,
        aligned=last.errors(False) if last.frames else None,
        frames=sums["metric"].frames,
        pooled=PooledErrors(
            **pooled,
            aligned=last.errors(True) if last.frames else None,
            pixels=sums["metric"].pixels,
        ),
        sequence=sequence_errors(*everything.pixels(), config.min_m),
        ranges=tuple(RangeErrors(*r, s.errors(True), s.pixels) for r, s in by_range if s.frames),
    )


def sequence_errors(predicted_m: Pixels, truth_m: Pixels, least_m: float) -> SequenceErrors:
    """Fit all pixels of a sequence at once and compare them; there are some, all positive.

    Args:
        least_m: depth that the shift puts below is lifted to it.
    """
    scale = least_deviation_scale(predicted_m, truth_m)
    line_scale, shift_m = least_deviation_line(predicted_m, truth_m)
    shifted = np.maximum(line_scale * predicted_m + shift_m, least_m)
    return SequenceErrors(
        depth_errors(scale * predicted_m, truth_m),
        depth_errors(shifted, truth_m),
        scale,
        line_scale,
        shift_m,
    )


def depth_errors(predicted_m: Pixels, truth_m: Pixels) -> DepthErrors:
    """Compare pixels one by one; both positive.

    Raises:
        DataError: no pixels.
    """
    if truth_m.size == 0:
        raise DataError("no pixel has both a prediction and ground truth in range")
    off, log_ratio = predicted_m - truth_m, np.abs(np.log(predicted_m / truth_m))
    within = [float(np.mean(log_ratio < power * np.log(1.25))) for power in (1, 2, 3)]
    return DepthErrors(
        float(np.mean(np.abs(off) / truth_m)),
        within[0],
        float(np.mean(off**2 / truth_m)),
        float(np.sqrt(np.mean(off**2))),
        float(np.sqrt(np.mean(log_ratio**2))),
        within[1],
        within[2],
    )


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


class _Sums:
    """Errors of frames, to be averaged over frames or over their pixels."""

    def __init__(self) -> None:
        self._rows: list[list[float]] = []
        self._counts: list[int] = []

    @property
    def frames(self) -> int:
        return len(self._rows)

    @property
    def pixels(self) -> int:
        return sum(self._counts)

    def add(self, predicted: Pixels, truth: Pixels) -> None:
        """Add a frame; without pixels it does not count."""
        if truth.size:
            errors = depth_errors(predicted, truth)
            self._rows.append([getattr(errors, name) for name in _ERRORS])
            self._counts.append(truth.size)

    def errors(self, pooled: bool) -> DepthErrors:
        """Average over the frames, of which there is one; pooled: over all pixels, with roots taken last."""
        table = np.array(self._rows)
        if not pooled:
            return DepthErrors(*table.mean(0).tolist())
        power = np.where([name.startswith("rmse") for name in _ERRORS], 2.0, 1.0)
        return DepthErrors(*(np.average(table**power, 0, self._counts) ** (1 / power)).tolist())


def _comparable(pair: DepthPair, predicted_m: Map, config: DepthEvalConfig) -> tuple[Pixels, Pixels]:
    """Pixels with a prediction and ground truth in range, at the ground truth's size."""
    truth = pair.truth_m
    if pair.mask is not None and pair.mask.shape != truth.shape:
        raise ShapeError(f"the mask {pair.mask.shape} is not of the size of the ground truth {truth.shape}")
    predicted = resized_depth(predicted_m, truth.shape[1], truth.shape[0])
    use = (truth >= config.min_m) & (truth <= config.max_m) & (predicted > 0) & np.isfinite(predicted)
    use &= True if pair.mask is None else pair.mask
    return predicted[use].astype(np.float64), truth[use].astype(np.float64)


_ERRORS = [field.name for field in fields(DepthErrors)]
_VARIANTS = {
    "metric": as_predicted,
    "median": median_scaled,
    "scale": scaled,
    "scale_shift": scale_shifted,
}
