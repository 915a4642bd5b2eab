"""Decode one image or depth file; every failure names the file."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from remov3r.data.faults import DamagedFile, MissingFile
from remov3r.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})


def read_rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image as 8-bit RGB.

    Raises:
        DataError: missing, empty or not an image.
    """
    return cv2.cvtColor(_decode(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_depth_m(path: Path, units_per_m: float) -> Float[np.ndarray, "h w"]:
    """Read a 16-bit depth image in metres, 0 = missing (as stored: 0 or 65535).

    Args:
        units_per_m: how many of the file's units make a metre, such as 1000 for millimetres.
    Raises:
        DataError: missing, empty, not an image, or not one channel of 16 bits.
    """
    raw = _decode(path, cv2.IMREAD_UNCHANGED)
    if raw.dtype != np.uint16 or raw.ndim != 2:
        raise DamagedFile(f"{path}: depth must be a 16-bit image of one channel, got {raw.dtype} {raw.shape}")
    raw[raw == 65535] = 0
    return raw.astype(np.float32) / np.float32(units_per_m)


def image_files(folder: Path) -> list[Path]:
    """List the images of a folder in natural order (frame2 before frame10).

    Raises:
        DataError: no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    files = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    return sorted(files, key=lambda p: natural_key(p.name))


def natural_key(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Sort key in which runs of digits compare as numbers."""
    return tuple((p.isdigit(), int(p) if p.isdigit() else 0, p) for p in re.split(r"(\d+)", name) if p)


def _decode(path: Path, flag: int) -> np.ndarray:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MissingFile(f"{path}: cannot be read: {error.strerror}") from error
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    if image is None:
        raise DamagedFile(f"{path}: not a readable image ({len(data)} bytes)")
    return np.asarray(image)
