"""What a confidence means: the factor in σ = factor · unit / confidence, and how far the result can be trusted.

The unit is what the loss divided errors by: the pixel's predicted depth, or the mean distance of the frame's
predicted points. Suffixes: p pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from jaxtyping import Float

from remov3r.config import Config

SigmaUnit = Literal["pixel", "scene"]

LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # nominal coverages of the reliability curve
_QUANTILES = np.array([NormalDist().inv_cdf((1 + level) / 2) for level in LEVELS])
_GAUSSIAN_MEDIAN = NormalDist().inv_cdf(0.75)  # median |x| of a normal distribution of σ = 1


@dataclass(frozen=True)
class Pixels:
    """Sampled pixels that have ground truth.

    Attributes:
        error: |depth − truth| in units of σ's unit.
        confidence: what the network said of them, above 0.
    """

    error: Float[np.ndarray, " p"]
    confidence: Float[np.ndarray, " p"]


class Calibration(Config):
    """How well σ = sigma_factor · unit / confidence describes the errors of a set of pixels.

    Attributes:
        sigma_factor: the one that was judged.
        own_factor: fitted on these pixels alone (`median_factor`).
        likelihood_factor: the same by maximum likelihood, and the calibration error it would give.
        error: expected calibration error under sigma_factor, see `calibration_error`; 0 is best, 0.5 worst.
        coverage: share of the pixels within the central interval of each of `LEVELS`, see `coverage`.
        within_1_sigma, within_2_sigma: share of the pixels (0.683 and 0.954 for a normal distribution).
        abs_rel_by_confidence: mean error in the unit, of the four quarters of the pixels, the least confident
            first; it falls where confidence is informative.
    """

    pixels: int
    sigma_factor: float
    own_factor: float
    likelihood_factor: float
    error: float
    likelihood_error: float
    coverage: tuple[float, ...]
    within_1_sigma: float
    within_2_sigma: float
    abs_rel_by_confidence: tuple[float, float, float, float]


def median_factor(pixels: Pixels) -> float:
    """Fit the factor so that half of the errors are smaller than 0.6745 σ, as for a normal distribution.

    Chosen over `likelihood_factor` because depth errors have heavy tails: the square of one gross error (a
    window, an edge, a wrong scale) counts as much as thousands of usual ones, so the likelihood's σ describes the
    outliers. Those are the business of robust kernels; σ weighs what is left.
    """
    return float(np.median(pixels.error * pixels.confidence) / _GAUSSIAN_MEDIAN)


def likelihood_factor(pixels: Pixels) -> float:
    """Fit the factor by maximum likelihood of normal errors: the root mean square of error · confidence."""
    return float(np.sqrt(np.mean(np.square(pixels.error * pixels.confidence))))


def coverage(in_sigmas: Float[np.ndarray, " p"]) -> Float[np.ndarray, " l"]:
    """Return the share of |errors| / σ within the central interval of a normal distribution at each of `LEVELS`."""
    return np.searchsorted(np.sort(in_sigmas), _QUANTILES) / max(len(in_sigmas), 1)


def calibration_error(coverages: Sequence[float] | Float[np.ndarray, " l"]) -> float:
    """Return the expected calibration error: mean |empirical − nominal| coverage over the levels 0.05 … 0.95.

    References: Kuleshov, Fenner & Ermon 2018 (their calibration error has squared differences); Chung et al. 2021
    (Uncertainty Toolbox: mean absolute calibration error).
    """
    return float(np.abs(np.asarray(coverages) - LEVELS).mean())


def pooled(parts: Sequence[Pixels]) -> Pixels:
    """Put samples together."""
    return Pixels(np.concatenate([p.error for p in parts]), np.concatenate([p.confidence for p in parts]))


def calibrate(pixels: Pixels, factor: float | None = None) -> Calibration:
    """Judge a factor on pixels, or fit one on them.

    Args:
        pixels: at least four.
        factor: None to fit by `median_factor`.
    """
    own, likelihood = median_factor(pixels), likelihood_factor(pixels)
    factor = own if factor is None else factor
    normalised = pixels.error * pixels.confidence
    in_sigmas = normalised / max(factor, 1e-9)
    coverages = coverage(in_sigmas)
    quarters = np.array_split(np.argsort(pixels.confidence, kind="stable"), 4)
    worst, worse, better, best = (float(pixels.error[q].mean()) for q in quarters)
    return Calibration(
        pixels=len(normalised),
        sigma_factor=factor,
        own_factor=own,
        likelihood_factor=likelihood,
        error=calibration_error(coverages),
        likelihood_error=calibration_error(coverage(normalised / max(likelihood, 1e-9))),
        coverage=tuple(float(c) for c in coverages),
        within_1_sigma=float((in_sigmas < 1).mean()),
        within_2_sigma=float((in_sigmas < 2).mean()),
        abs_rel_by_confidence=(worst, worse, better, best),
    )
