"""Image features: corners, KLT tracks checked forward and backward, upright SIFT descriptors."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from pydantic import Field

from remov3r.config import Config

Gray = UInt8[np.ndarray, "h w"]
Pixels = Float[np.ndarray, "n 2"]
Descriptors = UInt8[np.ndarray, "n 128"]


class FeatureConfig(Config):
    """Corners and tracks; pixel distances are for a 640 pixel wide image and scale with the width."""

    corners: int = Field(400, ge=20)
    spacing_px: float = Field(10.0, gt=0)
    corner_quality: float = Field(0.003, gt=0, lt=1)
    klt_window_px: int = Field(21, ge=5)
    klt_levels: int = Field(4, ge=0)
    forward_backward_px: float = Field(0.7, gt=0)
    descriptor_size_px: float = Field(12.0, gt=0)


def to_gray(rgb: UInt8[np.ndarray, "h w 3"]) -> Gray:
    """Convert an RGB image to grey levels."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def detect_corners(gray: Gray, taken: Pixels, config: FeatureConfig) -> Pixels:
    """Find corners that keep their distance from each other and from the points already tracked.

    Args:
        taken: points that are tracked already; the answer fills `config.corners` up from their number.
    """
    wanted = config.corners - len(taken)
    if wanted <= 0:
        return np.empty((0, 2))
    spacing = max(4.0, config.spacing_px * gray.shape[1] / 640)
    mask = np.full(gray.shape, 255, np.uint8)
    border = 4
    mask[:border], mask[-border:], mask[:, :border], mask[:, -border:] = 0, 0, 0, 0
    for x, y in np.rint(taken).astype(int).tolist():
        cv2.circle(mask, (x, y), int(spacing), 0, -1)
    found = cv2.goodFeaturesToTrack(gray, wanted, config.corner_quality, spacing, mask=mask, blockSize=5)
    if found is None:
        return np.empty((0, 2))
    return np.asarray(found, dtype=np.float64).reshape(-1, 2)


def track_points(
    previous: Gray, gray: Gray, points: Pixels, guess: Pixels, config: FeatureConfig
) -> tuple[Pixels, Bool[np.ndarray, " n"]]:
    """Follow points from one image into the next (pyramidal Lucas-Kanade, forward and backward).

    Args:
        points: pixels in `previous`.
        guess: where they are expected in `gray`.
    Returns:
        pixels in `gray`, and which of them came back to where they started and lie inside the image.
    """
    if len(points) == 0:
        return np.empty((0, 2)), np.zeros(0, bool)
    h, w = gray.shape
    size = (config.klt_window_px, config.klt_window_px)
    levels = max(0, min(config.klt_levels, int(np.log2(min(h, w) / (2 * config.klt_window_px)))))
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 0.005)

    def flow(a: Gray, b: Gray, points: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found, status, _ = cv2.calcOpticalFlowPyrLK(
            a, b, points, start.copy(), winSize=size, maxLevel=levels, criteria=criteria,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )  # fmt: skip
        return found, status[:, 0] == 1

    start, expected = _column(points), _column(guess)
    there, ok = flow(previous, gray, start, expected)
    # The way back undoes the guess, not the result: started from the known answer it would confirm anything.
    back, ok_back = flow(gray, previous, there, there + start - expected)
    pixels = there[:, 0].astype(np.float64)
    inside = (pixels >= 2).all(1) & (pixels <= [w - 3, h - 3]).all(1)
    limit = config.forward_backward_px
    returned = np.abs(back[:, 0] - start[:, 0]).max(1) < limit
    return pixels, ok & ok_back & returned & inside


def _column(points: Pixels) -> np.ndarray:
    return np.ascontiguousarray(points, dtype=np.float32)[:, None]


class Describer:
    """Upright SIFT descriptors at given pixels (video is not turned upside down, so no orientation is wanted)."""

    def __init__(self, config: FeatureConfig) -> None:
        self._sift = cv2.SIFT.create()
        self._size_px = config.descriptor_size_px

    def describe(self, gray: Gray, pixels: Pixels) -> Descriptors:
        """Return one descriptor for each pixel, in order."""
        if len(pixels) == 0:
            return np.empty((0, 128), np.uint8)
        size = self._size_px * max(gray.shape[1] / 640, 0.5)
        points = [cv2.KeyPoint(float(x), float(y), size, 0.0, 0.0, 0, i) for i, (x, y) in enumerate(pixels)]
        kept, values = self._sift.compute(gray, points)
        out = np.zeros((len(pixels), 128), np.uint8)  # a zero descriptor is near nothing
        if len(kept):
            out[[point.class_id for point in kept]] = values
        return out


def match_descriptors(
    a: Descriptors, b: Descriptors, allowed: Bool[np.ndarray, "n m"] | None, largest_distance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pair descriptors that are each other's nearest.

    Args:
        allowed: pairs that may be matched; all when None.
        largest_distance: of a pair, in descriptor units (norm about 512).
    Returns:
        indices into a and into b, sorted by a.
    """
    if len(a) == 0 or len(b) == 0:
        return np.empty(0, int), np.empty(0, int)
    A, B = a.astype(np.float32), b.astype(np.float32)
    squared = (A**2).sum(1)[:, None] + (B**2).sum(1)[None] - 2 * A @ B.T
    if allowed is not None:
        squared = np.where(allowed, squared, np.inf)
    best_b, best_a = squared.argmin(1), squared.argmin(0)
    i = np.flatnonzero(best_a[best_b] == np.arange(len(a)))
    i = i[squared[i, best_b[i]] < largest_distance**2]
    return i, best_b[i]
