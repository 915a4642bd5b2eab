"""Fits of predicted depth to the truth: of one frame, or one for a whole sequence as video depth is judged."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Pixels = Float[np.ndarray, " n"]

SEQUENCE_PIXELS = 2_000_000


def as_predicted(predicted_m: Pixels, truth_m: Pixels, least_m: float) -> Pixels:
    """Return the prediction as it is."""
    return predicted_m


def median_scaled(predicted_m: Pixels, truth_m: Pixels, least_m: float) -> Pixels:
    """Scale by the ratio of the medians."""
    return predicted_m * (np.median(truth_m) / np.median(predicted_m))


def scaled(predicted_m: Pixels, truth_m: Pixels, least_m: float) -> Pixels:
    """Scale by least squares."""
    return predicted_m * float((predicted_m @ truth_m) / (predicted_m @ predicted_m))


def scale_shifted(predicted_m: Pixels, truth_m: Pixels, least_m: float) -> Pixels:
    """Scale and shift by least squares; what falls below `least_m` is lifted to it, so that ratios exist."""
    A = np.stack([predicted_m, np.ones_like(predicted_m)], 1)
    scale, shift = np.linalg.lstsq(A, truth_m, rcond=None)[0]
    return np.maximum(scale * predicted_m + shift, least_m)


def least_deviation_scale(predicted_m: Pixels, truth_m: Pixels) -> float:
    """Find s that makes the sum of abs(s · prediction - truth) least: the weighted median of the ratios."""
    ratio = truth_m / predicted_m
    order = np.argsort(ratio)
    weight = np.cumsum(predicted_m[order])
    return float(ratio[order[np.searchsorted(weight, weight[-1] / 2)]])


def least_deviation_line(predicted_m: Pixels, truth_m: Pixels) -> tuple[float, float]:
    """Find s ≥ 0 and b that make the sum of abs(s · prediction + b - truth) least.

    For each s the best b is a median; what is left is convex in s, so its slope is bisected.
    """

    def slope(scale: float) -> float:
        rest = truth_m - scale * predicted_m
        return -float(np.sign(rest - np.median(rest)) @ predicted_m)

    low, high = 0.0, 2 * least_deviation_scale(predicted_m, truth_m)
    for _ in range(30):
        if slope(high) >= 0:
            break
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    scale = (low + high) / 2
    return scale, float(np.median(truth_m - scale * predicted_m))


class SequencePixels:
    """Pixels of all frames of a sequence; of long ones every third, ninth …, so that memory stays small."""

    def __init__(self, limit: int = SEQUENCE_PIXELS) -> None:
        """Prepare to hold at most `limit` pixels."""
        self._limit, self._step, self._count = limit, 1, 0
        self._parts: list[Float[np.ndarray, "2 n"]] = []

    def add(self, predicted_m: Pixels, truth_m: Pixels) -> None:
        """Take a frame's pixels."""
        self._parts.append(np.stack([predicted_m, truth_m])[:, :: self._step].astype(np.float32))
        self._count += self._parts[-1].shape[1]
        while self._count > self._limit:
            self._step *= 3
            self._parts = [part[:, ::3].copy() for part in self._parts]
            self._count = sum(part.shape[1] for part in self._parts)

    def pixels(self) -> tuple[Pixels, Pixels]:
        """Return predictions and truths."""
        predicted, truth = np.concatenate(self._parts, axis=1).astype(np.float64)
        return predicted, truth
