"""From recorded maps to a `DensePrediction` that lies rightly in the source's image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.errors import DataError
from remov3r.frontends.recorded.recording import Framing, RecordedDense
from remov3r.geometry import unproject
from remov3r.types import DensePrediction, DepthMap

MOST_UNLIKE = 5.0  # sigma of a pixel differs from the typical one by at most this factor
MOST_PADDING = 4.0  # times the recorded size


@dataclass(frozen=True)
class _Margins:
    left: int
    top: int
    right: int
    bottom: int

    def pad(self, values: Float[np.ndarray, "h w *c"], fill: float) -> Float[np.ndarray, "h2 w2 *c"]:
        """Add missing pixels around a map."""
        if not any((self.left, self.top, self.right, self.bottom)):
            return values
        width = [(self.top, self.bottom), (self.left, self.right), (0, 0)][: values.ndim]
        return np.pad(values, width, constant_values=fill)


def to_prediction(
    recorded: RecordedDense,
    frame_camera: Camera,
    framing: Framing,
    edge_px: int,
    relative_sigma: float,
    where: str,
) -> DensePrediction:
    """Place recorded maps in the image of the frame; what they do not show is missing.

    Args:
        relative_sigma: standard deviation of the depth, as a share of it, at the median confidence; used where the
            recording has no sigma. That of other pixels is inversely proportional to their confidence.
        where: the file, for messages.
    Raises:
        DataError: the maps differ in size, or the intrinsics do not fit the camera.
    """
    height, width = recorded.depth_m.shape
    _check_sizes(recorded, where)
    if framing is Framing.CENTRE:
        camera = _centred(frame_camera, width, height, edge_px)
    else:
        camera = _own_camera(recorded, where)
    margins, camera = _cover(camera, frame_camera, where)
    there = np.isfinite(recorded.depth_m) & (recorded.depth_m > 0)
    confidence = np.ones_like(recorded.depth_m) if recorded.confidence is None else recorded.confidence
    there = there & np.isfinite(confidence) & (confidence > 0)
    depth_m = margins.pad(np.where(there, recorded.depth_m, 0), 0)
    confidence = margins.pad(np.where(there, confidence, 0), 0)
    if recorded.sigma_m is None:
        sigma_m = sigma_from_confidence(depth_m, confidence, relative_sigma)
    else:
        sigma_m = margins.pad(np.where(there, recorded.sigma_m, np.inf), np.inf)
    points, points_confidence = unproject(depth_m, camera), confidence
    if recorded.points_cam is not None and framing is Framing.INTRINSICS:
        points = margins.pad(np.where(there[..., None], recorded.points_cam, 0), 0)
        if recorded.points_confidence is not None:
            points_confidence = margins.pad(np.where(there, recorded.points_confidence, 0), 0)
    return DensePrediction(camera, depth_m, confidence, points, points_confidence, sigma_m)


def sigma_from_confidence(depth_m: DepthMap, confidence: DepthMap, relative_sigma: float) -> DepthMap:
    """Return σ = relative_sigma · depth · median(c) / c, the quotient within 1/5 .. 5; infinite where missing."""
    there = confidence > 0
    typical = np.median(confidence[there]) if there.any() else 1.0
    unlike = typical / np.where(there, confidence, typical)
    sigma = relative_sigma * depth_m * np.clip(unlike, 1 / MOST_UNLIKE, MOST_UNLIKE)
    return np.where(there, sigma, np.inf).astype(depth_m.dtype)


def blind_prediction(frame_camera: Camera) -> DensePrediction:
    """Return a small prediction in which everything is missing."""
    camera = frame_camera.resized(max(frame_camera.width // 4, 1), max(frame_camera.height // 4, 1))
    size = (camera.height, camera.width)
    none, points = np.zeros(size, np.float32), np.zeros((*size, 3), np.float32)
    return DensePrediction(camera, none, none, points, none, np.full(size, np.inf, np.float32))


def _check_sizes(recorded: RecordedDense, where: str) -> None:
    size = recorded.depth_m.shape
    others = {
        "confidence": recorded.confidence,
        "points": recorded.points_cam,
        "points' confidence": recorded.points_confidence,
        "sigma": recorded.sigma_m,
    }
    for name, values in others.items():
        if values is not None and values.shape[:2] != size:
            raise DataError(f"{where}: the depth is {size}, the {name} {values.shape[:2]}")


def _own_camera(recorded: RecordedDense, where: str) -> Camera:
    K, (height, width) = recorded.K, recorded.depth_m.shape
    if K is None:
        raise DataError(f"{where}: there is depth but no intrinsics K that say which pixels it belongs to")
    return Camera(width, height, float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))


def _centred(frame: Camera, width: int, height: int, edge_px: int) -> Camera:
    """The source's camera cut by an edge, resized to cover width x height, and cut around the centre."""
    inner_width, inner_height = frame.width - 2 * edge_px, frame.height - 2 * edge_px
    scale = max(width / inner_width, height / inner_height)
    left, top = (scale * inner_width - width) / 2, (scale * inner_height - height) / 2
    cx = (frame.cx - edge_px + 0.5) * scale - 0.5 - left
    cy = (frame.cy - edge_px + 0.5) * scale - 0.5 - top
    return Camera(width, height, frame.fx * scale, frame.fy * scale, cx, cy)


def _cover(camera: Camera, frame: Camera, where: str) -> tuple[_Margins, Camera]:
    """How many pixels must be added around a camera's image until it shows all that the frame shows."""
    left = camera.cx - (frame.cx + 0.5) / frame.fx * camera.fx
    top = camera.cy - (frame.cy + 0.5) / frame.fy * camera.fy
    right = camera.cx + (frame.width - 0.5 - frame.cx) / frame.fx * camera.fx
    bottom = camera.cy + (frame.height - 0.5 - frame.cy) / frame.fy * camera.fy
    missing = [-0.5 - left, -0.5 - top, right - camera.width + 0.5, bottom - camera.height + 0.5]
    margins = _Margins(*(max(round(m), 0) for m in missing))
    width = camera.width + margins.left + margins.right
    height = camera.height + margins.top + margins.bottom
    if width > MOST_PADDING * camera.width or height > MOST_PADDING * camera.height:
        raise DataError(
            f"{where}: the recorded intrinsics (fx {camera.fx:.1f} at {camera.width}x{camera.height}) do not fit "
            f"the source's camera (fx {frame.fx:.1f} at {frame.width}x{frame.height})"
        )
    placed = replace(
        camera, width=width, height=height, cx=camera.cx + margins.left, cy=camera.cy + margins.top
    )
    return margins, placed
