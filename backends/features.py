"""Image features: corners, KLT tracks checked forward and backward, upright SIFT descriptors."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field

from remov3r.config import Config

Gray = UInt8[np.ndarray, "h w"]
Pixels = Float[np.ndarray, "n 2"]
FoundPixels = Float[np.ndarray, "m 2"]
Descriptors = UInt8[np.ndarray, "n 128"]
_CONTRAST, _CONTRAST_FLOOR = 60.0, 20.0  # standard deviations in grey levels


class FeatureConfig(Config):
    """Corners and tracks.

    Pixel distances are for images 640 wide and scale with the width; the descriptor's size is for 320.
    """

    corners: int = Field(400, ge=20)
    spacing_px: float = Field(10.0, gt=0)
    corner_quality: float = Field(0.0005, gt=0, lt=1)
    local_quality: float = Field(0.005, gt=0, lt=1)
    corner_floor: float = Field(1.5e-5, gt=0)
    klt_window_px: int = Field(21, ge=5)
    klt_levels: int = Field(4, ge=0)
    forward_backward_px: float = Field(0.7, gt=0)
    min_similarity: float = Field(0.6, ge=-1, le=1)
    descriptor_size_px: float = Field(6.0, gt=0)


def to_gray(rgb: UInt8[np.ndarray, "h w 3"]) -> Gray:
    """Convert an RGB image to grey levels."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def even_contrast(gray: Gray) -> Gray:
    """Give every part of an image the same brightness and contrast.

    A lens darkens the edges, and an exposure follows the light. Points that are followed through that shade seem to
    lag at the edges and to hurry in the middle, by hundredths of a pixel: enough for a turn to look like a step.
    """
    h, w = gray.shape
    size = (max(w // 4, 1), max(h // 4, 1))
    small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    box = (2 * (w // 128) + 1,) * 2
    mean = cv2.blur(small, box)
    variance = np.maximum(cv2.blur(small * small, box) - mean * mean, 0)
    gain = _CONTRAST / np.sqrt(variance + _CONTRAST_FLOOR**2)
    gains, offsets = (cv2.resize(m, (w, h)) for m in (gain, 128 - mean * gain))
    evened = cv2.add(cv2.multiply(gray, gains, dtype=cv2.CV_32F), offsets, dtype=cv2.CV_8U)
    return np.asarray(evened, dtype=np.uint8)


def contrast(gray: Gray) -> float:
    """Return the standard deviation of an image's grey levels."""
    return float(cv2.meanStdDev(gray)[1][0, 0])


def detect_corners(gray: Gray, taken: Pixels, config: FeatureConfig) -> FoundPixels:
    """Find corners that keep their distance from each other and from the points already tracked.

    Strength counts relative to the strongest corner of its part of the image, so that a bright screen does not
    take all of them.

    Args:
        taken: points that are tracked already; the answer fills `config.corners` up from their number.
    """
    wanted = config.corners - len(taken)
    if wanted <= 0:
        return np.empty((0, 2))
    h, w = gray.shape
    strength = cv2.cornerMinEigenVal(gray, 5)
    peak = strength == cv2.dilate(strength, np.ones((3, 3), np.uint8))
    cells = (max(w // 80, 1), max(h // 80, 1)) if w >= 320 else (4, 3)
    local = cv2.resize(_cell_maxima(strength, cells), (w, h), interpolation=cv2.INTER_LINEAR)
    local = np.maximum(local, config.corner_quality * float(strength.max()))
    good = peak & (strength > config.local_quality * local) & (strength > config.corner_floor)
    border = 4
    good[:border], good[-border:], good[:, :border], good[:, -border:] = False, False, False, False
    rows, columns = np.nonzero(good)
    order = np.argsort(-(strength / np.maximum(local, 1e-12))[rows, columns], kind="stable")
    spacing = max(4.0, config.spacing_px * w / 640)
    return _spaced(np.stack([columns, rows], 1)[order], taken, (h, w), spacing, wanted)


def _cell_maxima(values: Float[np.ndarray, "h w"], cells: tuple[int, int]) -> Float[np.ndarray, "r c"]:
    """Maximum over each cell of a grid of (columns, rows)."""
    xs = np.linspace(0, values.shape[1], cells[0] + 1).astype(int)[:-1]
    ys = np.linspace(0, values.shape[0], cells[1] + 1).astype(int)[:-1]
    return np.maximum.reduceat(np.maximum.reduceat(values, ys, 0), xs, 1)


def _spaced(
    candidates: Int[np.ndarray, "c 2"], taken: Pixels, size: tuple[int, int], spacing: float, wanted: int
) -> FoundPixels:
    """Take candidates in order, none nearer than the spacing to one taken before."""
    free = np.ones(size, np.uint8)
    radius = int(spacing)
    for x, y in np.rint(taken).astype(int).tolist():
        cv2.circle(free, (x, y), radius, 0, -1)
    chosen = []
    for x, y in candidates.tolist():
        if free[y, x]:
            chosen.append((x, y))
            if len(chosen) == wanted:
                break
            cv2.circle(free, (x, y), radius, 0, -1)
    return np.array(chosen, dtype=np.float64).reshape(-1, 2)


def klt_window(config: FeatureConfig, width: int) -> int:
    """Side of the window for images of a width: it shrinks with its root, for small images are noisier."""
    return max(9, 2 * round((config.klt_window_px * np.sqrt(min(width, 640) / 640) - 1) / 2) + 1)


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
    side = klt_window(config, w)
    size, levels = (side, side), max(0, min(config.klt_levels, int(np.log2(min(h, w) / (2 * side)))))
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.01)

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
    ok = ok & ok_back & returned & inside
    # Started near the answer that is hoped for, the search stays near it even in noise: look at the patches.
    rows = np.flatnonzero(ok)
    alike = _similarity(previous, gray, points[rows], pixels[rows], side)
    ok[rows[alike < config.min_similarity]] = False
    return pixels, ok


def _similarity(a: Gray, b: Gray, pixels_a: Pixels, pixels_b: Pixels, side: int) -> Float[np.ndarray, " n"]:
    """Normalised cross-correlation of the patches around points, on a 7x7 grid over the window."""
    steps = np.linspace(-side / 2, side / 2, 7)
    dx, dy = (d.ravel() for d in np.meshgrid(steps, steps))

    def patches(image: Gray, pixels: Pixels) -> np.ndarray:
        x, y = (pixels[:, :1] + dx).astype(np.float32), (pixels[:, 1:] + dy).astype(np.float32)
        # OpenCV's remap refuses more than 32767 rows; a few hundred points never come near.
        values = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        values -= values.mean(1, keepdims=True)
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-3)

    if len(pixels_a) == 0:
        return np.empty(0)
    return (patches(a, pixels_a) * patches(b, pixels_b)).sum(1).astype(np.float64)


def _column(points: Pixels) -> np.ndarray:
    return np.ascontiguousarray(points, dtype=np.float32).reshape(-1, 1, 2)


class Describer:
    """Upright SIFT descriptors at given pixels (video is not turned upside down, so no orientation is wanted)."""

    def __init__(self, config: FeatureConfig) -> None:
        self._sift = cv2.SIFT.create()
        self._size_px = config.descriptor_size_px

    def __getstate__(self) -> float:
        """Return what a pickle keeps: OpenCV's object cannot be saved, and holds no state."""
        return self._size_px

    def __setstate__(self, size_px: float) -> None:
        """Take what `__getstate__` returned."""
        self._sift, self._size_px = cv2.SIFT.create(), size_px

    def describe(self, gray: Gray, pixels: Pixels) -> Descriptors:
        """Return one descriptor for each pixel, in order."""
        if len(pixels) == 0:
            return np.empty((0, 128), np.uint8)
        # A descriptor spans tens of pixels, so half the resolution serves as well at a quarter of the time.
        factor = min(1.0, 320 / gray.shape[1])
        small = cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        centres = (pixels + 0.5) * factor - 0.5
        points = [
            cv2.KeyPoint(float(x), float(y), self._size_px, 0.0, 0.0, 0, i)
            for i, (x, y) in enumerate(centres)
        ]
        kept, values = self._sift.compute(small, points)
        out = np.zeros((len(pixels), 128), np.uint8)  # a zero descriptor is near nothing
        if len(kept):
            out[[point.class_id for point in kept]] = values
        return out


def match_descriptors(
    a: Descriptors,
    b: UInt8[np.ndarray, "m 128"],
    allowed: Bool[np.ndarray, "n m"] | None,
    largest_distance: float,
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
