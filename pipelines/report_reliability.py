"""Whether the standard deviations that come with depth are true: the errors that were met against them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from remov3r.data.stream import StreamedSource
from remov3r.types import DensePrediction, DepthMap, Keyframe

BINS = 12
MAX_KEYFRAMES = 40
EVERY_PIXEL = 5
MIN_M, MAX_M = 0.1, 10.0
TrueDepth = Float[np.ndarray, "ht wt"]  # of a size of its own


@dataclass(frozen=True)
class Reliability:
    """Errors by the deviation that was given for them.

    Attributes:
        sigma_m: median deviation of each of the bins, which hold equally many pixels.
        error_m: 68.3 % of the errors in the bin are smaller; equal to `sigma_m` where the deviations are true
            and the errors Gaussian.
        within_1, within_2: share of all pixels whose error is below one and two deviations (0.683, 0.954).
        pixels: how many were compared.
    """

    sigma_m: Float[np.ndarray, " b"]
    error_m: Float[np.ndarray, " b"]
    within_1: float
    within_2: float
    pixels: int


def reliability(
    triples: Iterable[tuple[DepthMap, DepthMap, TrueDepth]], bins: int = BINS
) -> Reliability | None:
    """Compare depth and its deviation with ground truth.

    Args:
        triples: depth, its standard deviation, and the true depth (at its own size, the same field of view), all
            in metres; 0 = missing, an infinite deviation = not known.
    Returns:
        None where there are too few pixels to fill the bins.
    """
    sigmas, errors = [np.zeros(0)], [np.zeros(0)]
    for depth, sigma, truth in triples:
        true = cv2.resize(truth.astype(np.float32), depth.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        use = (depth > 0) & (true >= MIN_M) & (true <= MAX_M) & np.isfinite(sigma) & (sigma > 0)
        sigmas.append(sigma[use][::EVERY_PIXEL].astype(np.float64))
        errors.append(np.abs(depth - true)[use][::EVERY_PIXEL].astype(np.float64))
    sigma, error = np.concatenate(sigmas), np.concatenate(errors)
    if len(sigma) < 10 * bins:
        return None
    parts = np.array_split(np.argsort(sigma, kind="stable"), bins)
    return Reliability(
        np.array([np.median(sigma[part]) for part in parts]),
        np.array([np.quantile(error[part], 0.683) for part in parts]),
        float(np.mean(error < sigma)),
        float(np.mean(error < 2 * sigma)),
        len(sigma),
    )


def keyframe_reliability(
    keyframes: Sequence[Keyframe], truth: StreamedSource
) -> tuple[Reliability | None, Reliability | None]:
    """Compare keyframes, as predicted and as aligned; of more than 40 an even choice.

    Args:
        truth: the same input with its depth.
    Raises:
        DataError: the source cannot be read.
    """
    step = max(1, -(-len(keyframes) // MAX_KEYFRAMES))
    chosen = {k.frame_index: k for k in keyframes[::step]}
    depths = {f.index: f.depth_m for f in truth.frames(sorted(chosen)) if f.depth_m is not None}

    def triple(dense: DensePrediction, index: int) -> tuple[DepthMap, DepthMap, TrueDepth]:
        return dense.depth_m, dense.sigma_m, depths[index]

    predicted = reliability(triple(chosen[i].dense, i) for i in depths)
    return predicted, reliability(triple(chosen[i].aligned, i) for i in depths)
