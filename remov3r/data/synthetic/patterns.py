"""Procedural texture images: each function draws one square picture, float32 RGB in 0..1."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float

Picture = Float[np.ndarray, "s s 3"]
Pattern = Callable[[np.random.Generator, int], Picture]


def colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> np.ndarray:
    """Draw a random colour with bounded saturation and brightness; hues lean to warm ones, as indoors."""
    hue = rng.uniform(0.02, 0.16) if rng.random() < 0.6 else rng.random()
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(*saturation), rng.uniform(*value)), np.float32)


def noise(rng: np.random.Generator, size: int, coarsest: int, octaves: int, stretch: int = 1) -> np.ndarray:
    """Sum octaves of smooth noise, about −1..1; `stretch` makes it longer along columns."""
    out = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells = min(coarsest << octave, size)
        grid = rng.uniform(-1, 1, (max(cells // stretch, 2), cells)).astype(np.float32)
        out += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) / 2**octave
    return out


def plain(rng: np.random.Generator, size: int) -> Picture:
    """Paint or plaster: one light colour with faint unevenness."""
    base = colour(rng, (0.0, 0.18), (0.6, 0.98))
    uneven = noise(rng, size, 4, 6) * rng.uniform(0.005, 0.04)
    return base + uneven[..., None]


def plastic(rng: np.random.Generator, size: int) -> Picture:
    """One colour of any brightness."""
    base = (
        colour(rng, (0.0, 0.85), (0.04, 0.95)) if rng.random() < 0.6 else np.full(3, rng.uniform(0.03, 0.9))
    )
    return base + noise(rng, size, 4, 4)[..., None] * rng.uniform(0.0, 0.03)


def wood(rng: np.random.Generator, size: int) -> Picture:
    """Grain: stripes along the columns, bent by noise."""
    base = np.array([0.62, 0.42, 0.24], np.float32) * rng.uniform(0.4, 1.45) + rng.uniform(-0.05, 0.05, 3)
    x = np.linspace(0, rng.uniform(4, 14), size, dtype=np.float32)[None]
    rings = np.sin(2 * np.pi * (x + 0.6 * noise(rng, size, 3, 3, stretch=2)))
    fibres = noise(rng, size, 32, 3, stretch=16)
    grain = 0.5 * rings + 0.5 * fibres
    return base * (1 + rng.uniform(0.06, 0.25) * grain[..., None])


def planks(rng: np.random.Generator, size: int) -> Picture:
    """Wooden floor boards with joints."""
    image, rows = wood(rng, size), int(rng.integers(3, 8))
    step = size // rows
    for r in range(rows):
        part = image[:, r * step : (r + 1) * step]
        part *= rng.uniform(0.8, 1.15)
        part[int(rng.integers(size))] *= 0.5
        part[:, 0] *= 0.5
    return image


def tiles(rng: np.random.Generator, size: int) -> Picture:
    """Square tiles or, with an offset in every second row, bricks; joints of another colour."""
    rows = int(rng.integers(2, 7))
    brick = rng.random() < 0.4
    columns = max(rows // 2, 1) if brick else rows
    base = colour(rng, (0.0, 0.6), (0.3, 0.95))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    v = y * rows
    u = x * columns + (0.5 * (v.astype(int) % 2) if brick else 0)
    shade = rng.uniform(1 - rng.uniform(0, 0.3), 1.1, (rows + 1, columns + 2)).astype(np.float32)
    image = base * shade[v.astype(int), u.astype(int)][..., None]
    image += noise(rng, size, 8, 4)[..., None] * rng.uniform(0, 0.06)
    width = rng.uniform(0.015, 0.05) * rows
    joint = ((v % 1) < width) | ((u % 1) < width * columns / rows)
    image[joint] = colour(rng, (0, 0.1), (0.2, 0.9))
    return image


def checks(rng: np.random.Generator, size: int) -> Picture:
    """A two-colour checkerboard."""
    n = int(rng.integers(2, 9))
    y, x = np.mgrid[0:size, 0:size] * n // size
    a, b = colour(rng, (0, 0.5), (0.1, 0.5)), colour(rng, (0, 0.4), (0.5, 1.0))
    return np.where(((x + y) % 2 == 0)[..., None], a, b) + noise(rng, size, 8, 3)[..., None] * 0.02


def stripes(rng: np.random.Generator, size: int) -> Picture:
    """Stripes of random widths in few colours."""
    palette = np.stack([colour(rng, (0, 0.6), (0.2, 0.95)) for _ in range(3)])
    edges = np.sort(rng.integers(0, size, int(rng.integers(4, 24))))
    band = np.searchsorted(edges, np.arange(size))
    return (
        np.broadcast_to(palette[band % 3][None], (size, size, 3)) + noise(rng, size, 8, 3)[..., None] * 0.03
    )


def speckle(rng: np.random.Generator, size: int) -> Picture:
    """Carpet, cork, terrazzo, granite: fine grains of varying contrast."""
    base = colour(rng, (0.0, 0.6), (0.12, 0.8))
    fine = cv2.GaussianBlur(
        rng.normal(0, 1, (size, size, 3)).astype(np.float32), (0, 0), rng.uniform(0.4, 1.6)
    )
    return base + fine * rng.uniform(0.03, 0.2) + noise(rng, size, 3, 4)[..., None] * rng.uniform(0, 0.08)


def metal(rng: np.random.Generator, size: int) -> Picture:
    """Brushed grey."""
    base = rng.uniform(0.15, 0.8) * np.array([1, 1, rng.uniform(0.95, 1.05)], np.float32)
    brushed = noise(rng, size, 64, 2, stretch=32) * 0.04 + noise(rng, size, 2, 3) * 0.08
    return base + brushed[..., None]


def weave(rng: np.random.Generator, size: int) -> Picture:
    """Fabric: two threads crossing, and large soft folds."""
    a, b = colour(rng, (0.0, 0.7), (0.1, 0.9)), colour(rng, (0.0, 0.7), (0.1, 0.9))
    n = int(rng.integers(16, size // 2))
    phase = np.arange(size) * n * np.pi / size
    mix = (0.5 + 0.25 * np.sin(phase)[None] + 0.25 * np.sin(phase)[:, None])[..., None]
    mix = 0.5 + (mix - 0.5) * rng.uniform(0.1, 1.0)
    return a * mix + b * (1 - mix) + noise(rng, size, 3, 4)[..., None] * rng.uniform(0.02, 0.1)


def gradient(rng: np.random.Generator, size: int) -> Picture:
    """A soft change between two colours."""
    a, b = colour(rng, (0, 0.6), (0.2, 1)), colour(rng, (0, 0.6), (0.2, 1))
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    s = np.clip(0.5 + x * np.cos(angle) + y * np.sin(angle), 0, 1)[..., None]
    return (a * s + b * (1 - s)).astype(np.float32)


def _lettering(image: np.ndarray, rng: np.random.Generator, lines: int, scale: float) -> None:
    size = len(image)
    y = int(rng.uniform(0.05, 0.3) * size)
    ink = colour(rng, (0, 1), (0, 0.4)) if image.mean() > 0.45 else colour(rng, (0, 0.5), (0.6, 1))
    mask = np.zeros((size, size), np.uint8)  # OpenCV writes text on 8-bit images only
    for _ in range(lines):
        text = "".join(chr(int(c)) for c in rng.integers(48, 122, int(rng.integers(3, 14))))
        place = (int(rng.uniform(0.02, 0.4) * size), y)
        height = scale * size / 256 * rng.uniform(0.5, 1.2)
        cv2.putText(mask, text, place, int(rng.integers(0, 5)), height, 255, 1, cv2.LINE_AA)
        y += int(28 * height) + 2
    image += (ink - image) * (mask[..., None] / np.float32(255))


def poster(rng: np.random.Generator, size: int) -> Picture:
    """A picture or label: random shapes and lettering on a gradient."""
    image = np.ascontiguousarray(
        gradient(rng, size) if rng.random() < 0.6 else plastic(rng, size), np.float32
    )
    for _ in range(int(rng.integers(2, 16))):
        p, q = (tuple(int(i) for i in rng.integers(0, size, 2)) for _ in range(2))
        ink, fill = colour(rng, (0, 0.9), (0.05, 1)).tolist(), -1 if rng.random() < 0.7 else 2
        kind = rng.integers(3)
        if kind == 0:
            cv2.rectangle(image, p, q, ink, fill)
        elif kind == 1:
            cv2.circle(image, p, int(rng.uniform(0.03, 0.25) * size), ink, fill, cv2.LINE_AA)
        else:
            cv2.line(image, p, q, ink, int(rng.integers(1, 6)), cv2.LINE_AA)
    _lettering(image, rng, int(rng.integers(0, 6)), 1.2)
    return image


def page(rng: np.random.Generator, size: int) -> Picture:
    """A screen or a sheet: many short lines of text and some panels."""
    dark = rng.random() < 0.4
    image = np.full((size, size, 3), rng.uniform(0.03, 0.15) if dark else rng.uniform(0.8, 1.0), np.float32)
    for _ in range(int(rng.integers(0, 4))):
        p, q = (tuple(int(i) for i in rng.integers(0, size, 2)) for _ in range(2))
        cv2.rectangle(image, p, q, colour(rng, (0, 0.8), (0.1, 1)).tolist(), -1)
    for y in range(int(rng.integers(4, 14)), size, max(size // int(rng.integers(12, 30)), 3)):
        x = int(rng.integers(4, 20))
        while x < size * rng.uniform(0.3, 1.0):
            run = int(rng.integers(2, 14))
            cv2.line(
                image, (x, y), (x + run, y), colour(rng, (0, 0.8), (0.5, 1) if dark else (0, 0.4)).tolist(), 1
            )
            x += run + int(rng.integers(2, 6))
    return image


def panel(rng: np.random.Generator, size: int) -> Picture:
    """The front of a cupboard, drawer or appliance: a frame, a handle, perhaps a dark window or knobs."""
    source = [wood, plastic, plain, metal][int(rng.integers(4))]
    image = np.ascontiguousarray(source(rng, size), np.float32)
    inset = int(rng.uniform(0.03, 0.15) * size)
    cv2.rectangle(image, (0, 0), (size - 1, size - 1), (image.mean((0, 1)) * 0.4).tolist(), 2)
    cv2.rectangle(
        image, (inset, inset), (size - inset, size - inset), (image.mean((0, 1)) * 0.75).tolist(), 2
    )
    handle = colour(rng, (0, 0.2), (0.1, 0.9)).tolist()
    if rng.random() < 0.5:
        cv2.rectangle(image, (size // 3, inset // 2), (2 * size // 3, inset // 2 + 4), handle, -1)
    else:
        cv2.circle(image, (size - inset - 4, size // 2), max(size // 40, 2), handle, -1)
    if rng.random() < 0.25:
        cv2.rectangle(image, (size // 5, size // 3), (4 * size // 5, 3 * size // 4), (0.05, 0.05, 0.06), -1)
    return image


def outdoors(rng: np.random.Generator, size: int) -> Picture:
    """What a window shows: sky, a horizon, blurred greenery or buildings, and glazing bars."""
    y = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    sky = np.array([0.75, 0.85, 1.0], np.float32) * (1 - 0.2 * y) + np.zeros((size, size, 3), np.float32)
    ground = colour(rng, (0.1, 0.5), (0.3, 0.7)) + noise(rng, size, 6, 4)[..., None] * 0.15
    horizon = rng.uniform(0.3, 1.1) + 0.08 * noise(rng, size, 4, 3)[:1].T[None, :, 0, None]
    image = np.where(y > horizon, ground, sky).astype(np.float32)
    image = cv2.GaussianBlur(image, (0, 0), size / 64)
    bars = max(size // 40, 2)
    for k in range(int(rng.integers(1, 4)) + 1):
        x = min(k * size // max(int(rng.integers(1, 4)), 1), size - bars)
        image[:, x : x + bars] = 0.85
    image[: bars * 2], image[-bars * 2 :] = 0.85, 0.85
    return image
