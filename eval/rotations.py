"""Ground-truth rotations that are not quite rotations: how far they are, and what that does to the RRE.

Readers project rotations to SO(3). Published figures were often measured on the matrices as stored, with the
transpose taken for the inverse: 7-Scenes' determinant of 0.9997 then adds about 1.5 degrees to each RRE.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from remov3r.data.pose_files import read_lines
from remov3r.errors import DataError
from remov3r.geometry import project_to_se3

Rotations = Float[np.ndarray, "n 3 3"]

# Where data sets keep poses of 16 numbers: posed folders, Replica, ScanNet, a sequence or a scene of 7-Scenes.
_POSE_FILES = ("poses.txt", "traj.txt", "pose/*.txt", "frame-*.pose.txt", "seq-*/frame-*.pose.txt")


@dataclass(frozen=True)
class RotationQuality:
    """How far stored rotations are from SO(3).

    Attributes:
        determinant: mean of their determinants; 1 for rotations.
        off_so3: largest difference of an entry from that of the nearest rotation.
    """

    determinant: float
    off_so3: float


def stored_rotations(path: Path) -> Rotations | None:
    """Read the rotations of a data set's known poses as its files hold them, in the order of the frames.

    Returns:
        None where the poses are not matrices of 16 numbers.
    Raises:
        DataError: a file cannot be read or does not hold such matrices.
    """
    found = (sorted(path.glob(pattern), key=_numbers) for pattern in _POSE_FILES)
    files = next((files for files in found if files), [])
    words = [word for file in files for _, line in read_lines(file) for word in line.split()]
    try:
        numbers = np.array(words, np.float64)
        T = numbers.reshape(-1, 4, 4)
    except ValueError as error:
        raise DataError(f"{path}: poses that are not 16 numbers each: {error}") from error
    known = np.isfinite(T).all((1, 2))
    return T[known, :3, :3] if known.any() else None


def rotation_quality(stored: Rotations) -> RotationQuality:
    """Measure stored rotations."""
    off = np.abs(stored - nearest_rotations(stored)).max()
    return RotationQuality(float(np.linalg.det(stored).mean()), float(off))


def nearest_rotations(stored: Rotations) -> Rotations:
    """Project to SO(3)."""
    T = np.tile(np.eye(4), (len(stored), 1, 1))
    T[:, :3, :3] = stored
    return project_to_se3(T)[:, :3, :3]


def naive_rre_rmse_deg(estimate: Rotations, reference: Rotations, stored: Rotations) -> float:
    """Return the RRE over consecutive poses as those measure it who do not project the ground truth.

    The transpose stands for the inverse and the angle is arccos((trace - 1) / 2).

    Args:
        reference: the projected rotations of the compared camera.
        stored: the matrices they come from; another camera of the same rig will do.
    """
    bent = stored @ np.swapaxes(nearest_rotations(stored), 1, 2) @ reference
    error = np.swapaxes(_steps(bent), 1, 2) @ _steps(estimate)
    cosine = (np.trace(error, axis1=1, axis2=2) - 1) / 2
    angles = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return float(np.sqrt((angles**2).mean()))


def _steps(R: Rotations) -> Float[np.ndarray, "m 3 3"]:
    return np.swapaxes(R[:-1], 1, 2) @ R[1:]


def _numbers(file: Path) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", file.name))
