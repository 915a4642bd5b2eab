"""What DROID-SLAM's demo.py --reconstruction_path writes: a folder of .npy files, or since 2025 one torch file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from remov3r.errors import DataError
from remov3r.frontends.recorded.arrays import load_array, same_length, with_shape
from remov3r.frontends.recorded.recording import (
    LoadDense,
    RecordedDense,
    RecordedFrame,
    Recording,
    match_of,
)
from remov3r.geometry import checked_pose, from_quaternion_xyzw, inverse

_SHAPES: dict[str, tuple[int | None, ...]] = {
    "tstamps": (None,),
    "images": (None, 3, None, None),
    "disps": (None, None, None),
    "poses": (None, 7),
    "intrinsics": (None, 4),
}
_REDUCTION = 8  # the intrinsics are those of images so much smaller


def is_droid_slam(path: Path) -> bool:
    """Tell by the arrays, or by one .pth file."""
    return torch_file(path) is not None or all(
        (path / f"{name}.npy").exists() for name in ("disps", "tstamps")
    )


def torch_file(path: Path) -> Path | None:
    """Return the torch file where that is what there is."""
    files = [path] if path.is_file() and path.suffix in (".pth", ".pt") else sorted(path.glob("*.pth"))
    return files[0] if len(files) == 1 else None


def read_droid_slam(path: Path) -> Recording:
    """Open a reconstruction of DROID-SLAM: keyframes with pose and disparity, unknown scale.

    `tstamps` count the images that it was given, every third by default: see `recorded.stride`.

    Raises:
        DataError: a file is missing or damaged, or they hold different numbers of frames.
    References: princeton-vl/DROID-SLAM, demo.py, save_reconstruction; view_reconstruction.py.
    """
    file = torch_file(path)
    arrays = _from_torch(file) if file is not None else _from_folder(path)
    count = same_length(arrays, path)
    T_world_cam = _poses(arrays["poses"], path)
    disps, images = arrays["disps"], arrays["images"]
    reduction = _REDUCTION * disps.shape[2] / images.shape[3]
    numbers = arrays["tstamps"].astype(np.float64).tolist()
    frames = []
    for i in range(count):
        where = f"{path}, keyframe {i}"
        fx, fy, cx, cy = arrays["intrinsics"][i].astype(np.float64) * reduction
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        T = checked_pose(T_world_cam[i], where)
        frames.append(RecordedFrame(numbers[i], where, T, True, _loader(disps[i], K)))
    return Recording("droid-slam", path, tuple(frames), match_of(numbers), scale="unknown")


def _poses(poses: np.ndarray, path: Path) -> np.ndarray:
    """World to camera as tx ty tz qx qy qz qw; returns camera to world."""
    values = poses.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{path}: poses hold NaN or infinite values")
    try:
        return inverse(from_quaternion_xyzw(values[:, :3], values[:, 3:]))
    except DataError as error:
        raise DataError(f"{path}: poses: {error}") from error


def _loader(disparity: np.ndarray, K: np.ndarray) -> LoadDense:
    """Confidence is the disparity: its noise is even, so that of the depth grows with the square of the depth."""

    def load(camera: object) -> RecordedDense:
        there = np.isfinite(disparity) & (disparity > 1e-6)
        depth = np.where(there, 1 / np.where(there, disparity, 1), 0).astype(np.float32)
        return RecordedDense(depth, K, np.where(there, disparity, 0).astype(np.float32))

    return load


def _from_folder(path: Path) -> dict[str, np.ndarray]:
    return {name: load_array(path / f"{name}.npy", shape) for name, shape in _SHAPES.items()}


def _from_torch(file: Path) -> dict[str, np.ndarray]:
    import torch  # only for this one kind of file

    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
        arrays = {name: tensors[name].numpy() for name in _SHAPES}
    except Exception as error:  # torch has no error of its own for files that are cut off
        raise DataError(f"{file}: not a complete reconstruction of DROID-SLAM") from error
    return {name: with_shape(arrays[name], shape, f"{file}: {name}") for name, shape in _SHAPES.items()}
