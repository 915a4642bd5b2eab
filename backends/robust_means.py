"""Where the middle of readings lies when some of them are wrong."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_TUNING = 1.345  # standard deviations; beyond, a reading pulls no harder: 95 % as sharp as the mean
STEPS = 20  # of reweighting


def weighted_median(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> float:
    """Return the value at which half of the weight is reached."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def huber_mean(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> float:
    """Return Huber's weighted mean, the spread taken from the median deviation (Huber 1964).

    Where readings scatter evenly it moves by a fifth less than the median from one draw of them to the next.
    """
    middle = weighted_median(values, weights)
    spread = spread_of(np.abs(values - middle), weights)
    for _ in range(STEPS if spread > 0 else 0):
        shares = weights * huber_shares(np.abs(values - middle), spread)
        middle = float((shares * values).sum() / shares.sum())
    return middle


def spread_of(deviations: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> float:
    """Return the standard deviation of normal noise with this weighted median of absolute deviations."""
    return 1.4826 * weighted_median(deviations, weights)


def huber_shares(deviations: Float[np.ndarray, " n"], spread: float) -> Float[np.ndarray, " n"]:
    """Return by how much Huber's loss lowers the weight of readings that are so far off, in absolute value."""
    return np.asarray(np.minimum(1, _TUNING * spread / np.maximum(deviations, 1e-12)))
