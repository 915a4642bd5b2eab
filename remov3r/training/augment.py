"""Augmentation of clips: zoomed crops, mirroring and roll with K and poses to match, photometric changes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8, UInt16

from remov3r.config import Config
from remov3r.data.synthetic.sensor import streak_kernel
from remov3r.training.shards import Clips


class AugmentConfig(Config):
    """Ranges of the random changes; a clip's frames share them, noise apart.

    Attributes:
        zoom: largest enlargement; the smallest shows all that fits the aspect ratio.
        flip: probability of mirroring left and right.
        reverse: probability of playing the clip backwards.
        roll_deg: largest turn about the optical axis.
        brightness: largest shift, as a fraction of white.
        contrast, saturation: largest relative change.
        gamma: largest exponent, its inverse the smallest.
        white_balance: largest relative change of a channel.
        noise: largest standard deviation, as a fraction of white.
        blur_px: largest standard deviation of the blur, which hits a third of the clips.
        motion_blur: longest streak of a moving camera, as a fraction of the width; it hits a quarter of the frames.
        jpeg: probability of compression at quality 25 to 80.
        erase: probability that one rectangle per frame (up to 1/5 of each side) is filled with grey.
    """

    zoom: float = 1.5
    flip: float = 0.5
    reverse: float = 0.5
    roll_deg: float = 4.0
    brightness: float = 0.15
    contrast: float = 0.25
    saturation: float = 0.4
    gamma: float = 1.4
    white_balance: float = 0.12
    noise: float = 0.02
    blur_px: float = 1.2
    motion_blur: float = 0.1
    jpeg: float = 0.15
    erase: float = 0.1


PLAIN = AugmentConfig(
    zoom=1.0, flip=0, reverse=0, roll_deg=0, brightness=0, contrast=0, saturation=0, gamma=1, white_balance=0, noise=0,
    blur_px=0, motion_blur=0, jpeg=0, erase=0,
)  # fmt: skip


@dataclass(frozen=True)
class View:
    """A new camera at the old one's place: the target image's K and the turn of the camera's axes.

    Attributes:
        K: of the target image.
        G: maps camera coordinates to the new camera's; orthogonal, keeps the z axis; mirrors when flipping.
    """

    K: Float[np.ndarray, "3 3"]
    G: Float[np.ndarray, "3 3"]


def either_way(clip: Clips, probability: float, rng: np.random.Generator) -> Clips:
    """Play a clip backwards with a probability."""
    if rng.random() >= probability:
        return clip
    return Clips(clip.rgb[:, ::-1], clip.depth_mm[:, ::-1], clip.K[:, ::-1], clip.T_world_cam[:, ::-1])


def augment(clip: Clips, width: int, height: int, config: AugmentConfig, rng: np.random.Generator) -> Clips:
    """Cut, resize and recolour one clip (c = 1) to width×height; depth comes out at half that size."""
    clip = either_way(clip, config.reverse, rng)
    size = (clip.rgb.shape[3], clip.rgb.shape[2])
    cut = _Cut(size, (width, height), config, rng)
    views = [cut.view(K.astype(np.float64)) for K in clip.K[0]]
    rgb = np.stack([warp_rgb(i, K, v, width, height) for i, K, v in zip(clip.rgb[0], clip.K[0], views)])
    depth = [
        warp_depth(d, K, v, size, (width, height), (width // 2, height // 2))
        for d, K, v in zip(clip.depth_mm[0], clip.K[0], views)
    ]
    G = np.eye(4)
    G[:3, :3] = views[0].G
    poses = (G @ clip.T_world_cam[0].astype(np.float64) @ G.T).astype(np.float32)
    K = np.stack([v.K for v in views]).astype(np.float32)
    return Clips(recolour(rgb, config, rng)[None], np.stack(depth)[None], K[None], poses[None])


class _Cut:
    """The same random cut, mirroring and roll for every frame of a clip."""

    def __init__(
        self,
        source: tuple[int, int],
        target: tuple[int, int],
        config: AugmentConfig,
        rng: np.random.Generator,
    ) -> None:
        largest = min(source[0] / target[0], source[1] / target[1])  # source pixels in one of the target's
        self._pixel = largest / rng.uniform(1, max(config.zoom, 1))
        room = np.array(source) - np.array(target) * self._pixel
        self._corner = room * (rng.uniform(size=2) if config.zoom > 1 else 0.5)
        self._flip = rng.random() < config.flip
        self._roll_rad = np.radians(rng.uniform(-config.roll_deg, config.roll_deg))
        self._width = target[0]

    def view(self, K: Float[np.ndarray, "3 3"]) -> View:
        """Return the view for a frame of intrinsics K."""
        new = K.copy()
        new[:2] /= self._pixel
        new[:2, 2] = (
            K[:2, 2] + 0.5 - self._corner
        ) / self._pixel - 0.5  # pixel areas, not centres, are scaled
        c, s = np.cos(self._roll_rad), np.sin(self._roll_rad)
        G = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
        if self._flip:
            new[0, 2] = self._width - 1 - new[0, 2]
            G = np.diag([-1.0, 1, 1]) @ G
        return View(new, G)


def scaled_intrinsics(
    K: Float[np.ndarray, "3 3"], size: tuple[int, int], target: tuple[int, int]
) -> Float[np.ndarray, "3 3"]:
    """Return K of the image resized from `size` to `target` (width, height), pixel areas kept."""
    scale = np.array([target[0] / size[0], target[1] / size[1]])
    out = K.astype(np.float64)
    out[:2] *= scale[:, None]
    out[:2, 2] = (K[:2, 2] + 0.5) * scale - 0.5
    return out


def warp_rgb(
    rgb: UInt8[np.ndarray, "h w 3"], K: Float[np.ndarray, "3 3"], view: View, width: int, height: int
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Resample an image into a view, linearly; the border is repeated outwards."""
    A = view.K @ view.G @ np.linalg.inv(K.astype(np.float64))
    return np.asarray(
        cv2.warpAffine(rgb, A[:2], (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def warp_depth(
    depth_mm: UInt16[np.ndarray, "h w"], K: Float[np.ndarray, "3 3"], view: View, rgb_size: tuple[int, int],
    view_size: tuple[int, int], size: tuple[int, int],
) -> UInt16[np.ndarray, "h2 w2"]:  # fmt: skip
    """Resample z-depth into a view, nearest neighbour; 0 outside.

    Args:
        K: of the rgb image, whose size is `rgb_size` (all sizes are width, height).
        view_size: size of the image that `view.K` belongs to.
        size: of the depth to return.
    """
    K_from = scaled_intrinsics(K, rgb_size, (depth_mm.shape[1], depth_mm.shape[0]))
    K_to = scaled_intrinsics(view.K, view_size, size)
    A = K_to @ view.G @ np.linalg.inv(K_from)
    back = np.linalg.inv(A)[:2]
    # warpAffine rounds nearest neighbours through fixed point; an explicit look-up has no such drift
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    u = np.rint(back[0, 0] * x + back[0, 1] * y + back[0, 2]).astype(np.int64)
    v = np.rint(back[1, 0] * x + back[1, 1] * y + back[1, 2]).astype(np.int64)
    inside = (u >= 0) & (u < depth_mm.shape[1]) & (v >= 0) & (v < depth_mm.shape[0])
    values = depth_mm[np.clip(v, 0, depth_mm.shape[0] - 1), np.clip(u, 0, depth_mm.shape[1] - 1)]
    return np.where(inside, values, 0).astype(np.uint16)


def recolour(
    rgb: UInt8[np.ndarray, "t h w 3"], config: AugmentConfig, rng: np.random.Generator
) -> UInt8[np.ndarray, "t h w 3"]:
    """Change exposure, colour, sharpness and noise of a clip."""
    tables = _exposure_tables(config, rng)
    saturation = 1 + rng.uniform(-config.saturation, config.saturation)
    grey = np.full((3, 3), 1 / 3)
    mix = (saturation * np.eye(3) + (1 - saturation) * grey).astype(np.float32)
    blur_px = rng.uniform(0.4, config.blur_px) if config.blur_px > 0 and rng.random() < 1 / 3 else 0.0
    noise = rng.uniform(0, config.noise) * 255
    quality = int(rng.integers(25, 81)) if rng.random() < config.jpeg else None
    out = np.empty_like(rgb)
    for i, image in enumerate(rgb):
        if config.saturation > 0:
            image = cv2.transform(image, mix)
        image = cv2.LUT(image, tables)
        if blur_px:
            image = cv2.GaussianBlur(image, (0, 0), blur_px)
        if config.motion_blur > 0 and rng.random() < 1 / 4:
            kernel = streak_kernel(rng.uniform(0, config.motion_blur) * image.shape[1], rng.uniform(0, np.pi))
            image = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        if noise > 0.5:
            grain = (rng.standard_normal(image.shape, dtype=np.float32) * noise).round().astype(np.int16)
            image = cv2.add(image, grain, dtype=cv2.CV_8U)
        if quality is not None:
            code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            image = cv2.imdecode(code, cv2.IMREAD_COLOR)
        out[i] = _erase(image, rng) if rng.random() < config.erase else image
    return out


def _exposure_tables(config: AugmentConfig, rng: np.random.Generator) -> UInt8[np.ndarray, "1 256 3"]:
    """Look-up tables for gamma, contrast, brightness and white balance, one per channel."""
    x = np.arange(256) / 255
    gamma = config.gamma ** rng.uniform(-1, 1)
    contrast = 1 + rng.uniform(-config.contrast, config.contrast)
    brightness = rng.uniform(-config.brightness, config.brightness)
    balance = 1 + rng.uniform(-config.white_balance, config.white_balance, 3)
    table = ((x**gamma - 0.5) * contrast + 0.5 + brightness)[:, None] * balance
    return (table.clip(0, 1) * 255).round().astype(np.uint8)[None]


def _erase(image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Fill a random rectangle with a random grey."""
    h, w = image.shape[:2]
    eh, ew = int(rng.integers(4, max(h // 5, 5))), int(rng.integers(4, max(w // 5, 5)))
    top, left = int(rng.integers(h - eh)), int(rng.integers(w - ew))
    out = image.copy()
    out[top : top + eh, left : left + ew] = rng.integers(256)
    return out
