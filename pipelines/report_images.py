"""Pictures of the report: depth and sigma in colour, images as data inside the page."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from remov3r.types import DepthMap, Image

WIDTH = 352  # twice the shown width, for dense screens


def embedded(rgb: Image, width: int = WIDTH, quality: int = 82) -> str:
    """Return an image as a JPEG data URL, `width` pixels wide."""
    height = max(1, round(rgb.shape[0] * width / rgb.shape[1]))
    way = cv2.INTER_AREA if width < rgb.shape[1] else cv2.INTER_LINEAR
    resized = cv2.resize(rgb, (width, height), interpolation=way)
    _, jpeg = cv2.imencode(".jpg", resized[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()


def colored(values: DepthMap, low: float, high: float, color_map: int) -> Image:
    """Colour a map between two limits; what is missing (0, infinite) is grey."""
    known = np.isfinite(values) & (values > 0)
    scaled = np.clip((np.where(known, values, low) - low) / max(high - low, 1e-9), 0, 1)
    picture = cv2.applyColorMap(np.rint(scaled * 255).astype(np.uint8), color_map)[..., ::-1].copy()
    picture[~known] = 128
    return picture


def ramp_css(color_map: int) -> str:
    """Return a colour map as a CSS gradient, for the legend."""
    steps = cv2.applyColorMap(np.linspace(0, 255, 9).astype(np.uint8)[None], color_map)[0, :, ::-1]
    return f"linear-gradient(90deg,{','.join('#' + bytes(step.tolist()).hex() for step in steps)})"


def limits(maps: list[DepthMap]) -> tuple[float, float]:
    """Return limits between which nearly all known values of several maps lie."""
    known = [m[np.isfinite(m) & (m > 0)][::7] for m in maps]
    joined = np.concatenate(known) if known else np.zeros(0)
    if not len(joined):
        return 0.0, 1.0
    low, high = np.percentile(joined, [2, 98])
    return float(low), float(max(high, low + 1e-3))
