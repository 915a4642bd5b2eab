"""Frames as training takes them: cut to a shape, reduced, depth in millimetres at half the image's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8, UInt16

from remov3r.errors import ConfigError
from remov3r.training.shards import Clips
from remov3r.types import Frame

_FARTHEST_M = 65.0  # what fits into 16 bits of millimetres


@dataclass(frozen=True)
class Framing:
    """What becomes of an image.

    Attributes:
        width, height: the largest centred cut of this shape is resized to this size; both are even.
        largest_depth_m: farther depth counts as missing.
    Raises:
        ConfigError: a size is odd or not positive, or the depth does not fit into 16 bits.
    """

    width: int = 320
    height: int = 240
    largest_depth_m: float = 20.0

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 2 or self.width % 2 or self.height % 2:
            raise ConfigError(f"size {self.width}x{self.height}: both must be even and at least 2")
        if not 0 < self.largest_depth_m <= _FARTHEST_M:
            raise ConfigError(
                f"largest depth {self.largest_depth_m} m: must be above 0 and at most {_FARTHEST_M}"
            )


@dataclass(frozen=True)
class TrainingFrame:
    """One frame of a clip.

    Attributes:
        depth_mm: z-depth at half the size of rgb, 0 = missing.
        K: of rgb.
        T_world_cam: None where unknown.
    """

    index: int
    timestamp_s: float
    rgb: UInt8[np.ndarray, "h w 3"]
    depth_mm: UInt16[np.ndarray, "hd wd"]
    K: Float[np.ndarray, "3 3"]
    T_world_cam: Float[np.ndarray, "4 4"] | None


def framed(frame: Frame, framing: Framing) -> TrainingFrame:
    """Cut and resize one frame; each half-size depth is that of the nearest source pixel, none is mixed."""
    camera, (width, height) = frame.camera, (framing.width, framing.height)
    scale = min(camera.width / width, camera.height / height)
    w, h = round(width * scale), round(height * scale)
    left, top = (camera.width - w) // 2, (camera.height - h) // 2
    cut = np.ascontiguousarray(frame.rgb[top : top + h, left : left + w])
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    rgb = (
        cut
        if (w, h) == (width, height)
        else np.asarray(cv2.resize(cut, (width, height), interpolation=method))
    )
    rows, columns = top + _nearest(height // 2, h), left + _nearest(width // 2, w)
    depth_mm = np.zeros((height // 2, width // 2), np.uint16)
    if frame.depth_m is not None:
        near = frame.depth_m[rows[:, None], columns]
        near = np.where((near > 0) & (near <= framing.largest_depth_m), near, 0)
        depth_mm = np.round(near.astype(np.float64) * 1000).astype(np.uint16)
    K = camera.cropped(left, top, w, h).resized(width, height).K
    return TrainingFrame(frame.index, frame.timestamp_s, rgb, depth_mm, K, frame.T_world_cam)


def clip_of(frames: Sequence[TrainingFrame]) -> Clips:
    """Stack frames of one size into one clip (c = 1); unknown poses are NaN."""
    unknown = np.full((4, 4), np.nan)
    poses = [unknown if f.T_world_cam is None else f.T_world_cam for f in frames]
    return Clips(
        np.stack([f.rgb for f in frames])[None],
        np.stack([f.depth_mm for f in frames])[None],
        np.stack([f.K for f in frames])[None].astype(np.float32),
        np.stack(poses)[None].astype(np.float32),
    )


def _nearest(count: int, size: int) -> np.ndarray:
    """Source pixel at the centre of each of `count` equal parts of `size` pixels."""
    return np.ceil((np.arange(count) + 0.5) * (size / count) - 1).astype(np.int64)
