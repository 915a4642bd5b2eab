"""What VGGT-SLAM's main.py --log_results writes: NAME.txt with poses and NAME_logs/FRAME.npz (pointcloud, mask)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from remov3r.errors import DataError
from remov3r.frontends.recorded.arrays import load_archive, with_shape
from remov3r.frontends.recorded.pose_text import read_pose_rows
from remov3r.frontends.recorded.recording import (
    Framing,
    LoadDense,
    RecordedDense,
    RecordedFrame,
    Recording,
    match_of,
    no_dense,
)
from remov3r.frontends.recorded.resection import centred_intrinsics, focal_of_points
from remov3r.geometry import inverse, transform
from remov3r.types import Pose


def is_vggt_slam(path: Path) -> bool:
    """Tell by a pose file with its folder of pointmaps."""
    return bool(pose_files(path))


def pose_files(path: Path) -> list[Path]:
    """List the pose files beside which there is a folder of pointmaps."""
    files = [path] if path.is_file() else sorted(path.glob("*.txt"))
    return [file for file in files if _logs(file).is_dir()]


def read_vggt_slam(path: Path) -> Recording:
    """Open the output of VGGT-SLAM: poses of the keyframes, pointmaps in the world, unknown scale.

    Frames are named by the number in their image's name: an index, or a timestamp where it has decimals.

    Raises:
        DataError: a file is missing or damaged, or there are several pose files.
    References: MIT-SPARK/VGGT-SLAM, vggt_slam/map.py.
    """
    files = pose_files(path) or ([path] if path.is_file() else sorted(path.glob("*.txt")))
    if len(files) != 1:
        raise DataError(f"{path}: {len(files)} pose files; name one: recorded:vggt-slam:{path}/NAME.txt")
    # Submaps overlap by a frame, which is then written twice; the later one counts, as in the pointmaps.
    poses = dict(read_pose_rows(files[0]))
    numbers = sorted(poses)
    frames = tuple(_frame(files[0], number, poses[number]) for number in numbers)
    return Recording("vggt-slam", path, frames, match_of(numbers), Framing.CENTRE, scale="unknown")


def _logs(file: Path) -> Path:
    return file.with_name(f"{file.stem}_logs")


def _frame(file: Path, number: float, T: Pose) -> RecordedFrame:
    points = _logs(file) / f"{number}.npz"
    return RecordedFrame(number, str(file), T, True, _loader(points, T) if points.exists() else no_dense)


def _loader(file: Path, T_world_cam: Pose) -> LoadDense:
    def load(camera: object) -> RecordedDense:
        values = load_archive(file, ("pointcloud", "mask"))
        points = with_shape(values["pointcloud"], (None, None, 3), f"{file}: pointcloud")
        mask = with_shape(values["mask"], points.shape[:2], f"{file}: mask") > 0
        return _seen_from(T_world_cam, points.astype(np.float64), mask)

    return load


def _seen_from(
    T_world_cam: Pose, points: Float[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]
) -> RecordedDense:
    mask = mask & np.isfinite(points).all(-1)
    local = transform(inverse(T_world_cam), np.where(mask[..., None], points, 0))
    focal = focal_of_points(local, mask)
    K = None if focal is None else centred_intrinsics(focal, *mask.shape)
    return RecordedDense(np.where(mask, local[..., 2], 0).astype(np.float32), K)
