"""Read numpy files that others wrote; every failure is one line that names the file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from remov3r.errors import DataError

Shape = tuple[int | None, ...]


def load_array(path: Path, shape: Shape, mapped: bool = True) -> np.ndarray:
    """Read an .npy file without copying it to memory.

    Args:
        shape: expected sizes; None for any.
        mapped: leave the numbers on disk until they are looked at.
    Raises:
        DataError: missing, cut off, not an array of numbers, or of another shape.
    """
    try:
        array = np.load(path, mmap_mode="r" if mapped else None)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: not a complete .npy file") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: not an .npy file")
    return with_shape(array, shape, str(path))


def load_archive(
    path: Path, required: Sequence[str] = (), optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Read some of the arrays of an .npz file.

    Raises:
        DataError: missing or cut off, or a required array is not there.
    """
    try:
        with np.load(path) as archive:
            missing = sorted(set(required) - set(archive.files))
            if missing:
                raise DataError(f"{path}: has no {', '.join(missing)} (it has {', '.join(archive.files)})")
            return {name: archive[name] for name in (*required, *optional) if name in archive.files}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a complete .npz file") from error


def with_shape(array: np.ndarray, shape: Shape, where: str) -> np.ndarray:
    """Return an array of numbers as it is, if it has the expected shape.

    Raises:
        DataError: it has another one, or holds no numbers.
    """
    fits = len(shape) == array.ndim and all(n is None or n == m for n, m in zip(shape, array.shape))
    if not fits or array.dtype.kind not in "biuf":
        expected = "x".join("N" if n is None else str(n) for n in shape)
        raise DataError(f"{where}: need an array of {expected} numbers, got {array.dtype} {array.shape}")
    return array


def same_length(arrays: dict[str, np.ndarray], where: Path) -> int:
    """Return the common length of arrays that hold one entry a frame.

    Raises:
        DataError: they differ.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"{where}: {', '.join(f'{k} has {v}' for k, v in lengths.items())} frames")
    return next(iter(lengths.values()))


def number_in(name: str, where: Path) -> float:
    """Return the first number in a file's name, such as 12 of frame-000012.png.

    Raises:
        DataError: there is none.
    """
    found = re.search(r"\d+(?:\.\d+)?", name)
    if found is None:
        raise DataError(f"{where}: no number in the image name {name!r}")
    return float(found.group())


def intrinsic_matrix(values: np.ndarray, where: str) -> Float[np.ndarray, "3 3"]:
    """Return intrinsics in double precision.

    Raises:
        DataError: not finite, or a focal length is not positive.
    """
    K = with_shape(values, (3, 3), where).astype(np.float64)
    if not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
        raise DataError(
            f"{where}: not intrinsics: fx {K[0, 0]:.6g}, fy {K[1, 1]:.6g}, need finite values > 0"
        )
    return K
