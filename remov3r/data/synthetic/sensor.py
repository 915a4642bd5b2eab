"""What a cheap camera does to a picture: exposure, vignetting, defocus, motion blur, noise, tone curve, JPEG."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from remov3r.config import Config


class SensorConfig(Config):
    """How bad the camera may be; each range is drawn from once per clip.

    Attributes:
        exposure_stops: spread of the exposure around "right", in factors of two.
        noise: standard deviation at mid grey, of 1.
        blur_px: defocus, standard deviation at 256 pixels of width.
        motion_blur: greatest part of a frame's image motion that smears it.
        jpeg_quality: 100 = no compression.
    """

    exposure_stops: float = 0.6
    noise: tuple[float, float] = (0.003, 0.03)
    blur_px: tuple[float, float] = (0.35, 0.9)
    motion_blur: float = 0.6
    jpeg_quality: tuple[int, int] = (60, 97)
    vignetting: float = 0.35


CLEAN = SensorConfig(
    exposure_stops=0.0,
    noise=(0.0, 0.0),
    blur_px=(0.0, 0.0),
    motion_blur=0.0,
    jpeg_quality=(100, 100),
    vignetting=0.0,
)


class Sensor:
    """One camera with its settings; call it on the frames of a clip in order."""

    def __init__(self, config: SensorConfig, seed: int, width: int, height: int) -> None:
        """Draw the settings.

        Args:
            width: of the frames, pixels.
        """
        rng = np.random.default_rng(seed)
        self._rng, self._config = rng, config
        self._noise, self._quality = (
            rng.uniform(*config.noise),
            int(rng.integers(*config.jpeg_quality, endpoint=True)),
        )
        self._blur_px = rng.uniform(*config.blur_px) * width / 256
        self._shutter = rng.uniform(0, config.motion_blur)
        self._stops = rng.normal(0, config.exposure_stops)
        contrast = rng.uniform(0.85, 1.2) if config.exposure_stops else 1.0
        white = rng.uniform(0.9, 1.1, 3) if config.exposure_stops else np.ones(3)
        self._gain = (white / white.mean()).astype(np.float32)
        self._contrast = contrast
        self._tone = (255 * (np.arange(256) / 255) ** contrast + 0.5).astype(np.uint8)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        radius = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / (width**2 + height**2) * 4
        self._vignette = (1 - rng.uniform(0, config.vignetting) * radius)[..., None]
        self._bank = _noise_bank(height, width) if self._noise else None
        self._most_smear_px = 14 * width / 256
        self._level: float | None = None

    def __call__(
        self, image: Float[np.ndarray, "h w 3"], motion_px: tuple[float, float] = (0.0, 0.0)
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Expose one frame.

        Args:
            image: display values at exposure 1.
            motion_px: mean image motion since the frame before; smears the picture.
        """
        out = image * (self._exposure(image) * self._gain) * self._vignette
        if self._blur_px > 0.2:
            out = cv2.GaussianBlur(out, (0, 0), self._blur_px)
        smear = min(float(np.hypot(*motion_px)) * self._shutter, self._most_smear_px)
        if smear > 1:
            out = cv2.filter2D(out, -1, streak_kernel(smear, float(np.arctan2(motion_px[1], motion_px[0]))))
        out = out / (1 + 0.15 * np.maximum(out - 0.6, 0))  # soft shoulder before clipping
        if self._bank is not None:
            h, w = out.shape[:2]
            i, j = self._rng.integers(0, h), self._rng.integers(0, w)
            out = out + self._bank[i : i + h, j : j + w] * (self._noise * np.sqrt(np.clip(out, 0.05, 1) * 2))
        rgb = np.clip(out * 255 + 0.5, 0, 255).astype(np.uint8)
        if self._contrast != 1.0:
            rgb = np.asarray(cv2.LUT(rgb, self._tone), np.uint8)
        return rgb if self._quality >= 100 else _through_jpeg(rgb, self._quality)

    def reset_exposure(self) -> None:
        """Forget the brightness of earlier frames: the next one is of another place."""
        self._level = None

    def _exposure(self, image: np.ndarray) -> float:
        """Follow the scene's brightness with a lag, as auto-exposure does."""
        if not self._config.exposure_stops:
            return 1.0
        wanted = 0.42 / max(float(image[::4, ::4].mean()), 0.02)
        self._level = wanted if self._level is None else self._level + 0.15 * (wanted - self._level)
        return float(np.clip(self._level, 0.3, 4.0) * 2 ** (self._stops / 2))


@lru_cache(maxsize=2)
def _noise_bank(height: int, width: int) -> Float[np.ndarray, "h2 w2 3"]:
    """Noise to cut frames from at random places: fresh noise would cost more than the ray caster."""
    return np.random.default_rng(0).standard_normal((2 * height, 2 * width, 3), np.float32)


def streak_kernel(length_px: float, angle_rad: float) -> np.ndarray:
    """Return the kernel that averages over a straight way, as an exposure does while the camera turns."""
    half = int(np.ceil(length_px / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    dx, dy = np.cos(angle_rad) * length_px / 2, np.sin(angle_rad) * length_px / 2
    for s in np.linspace(-1, 1, 2 * half + 1):
        kernel[round(half + dy * s), round(half + dx * s)] += 1
    return kernel / kernel.sum()


def _through_jpeg(rgb: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    _, code = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])
