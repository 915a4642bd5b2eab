"""What MASt3R-SLAM writes: NAME.txt with the keyframes' poses, NAME.ply, and the images keyframes/NAME/TIME.png."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.errors import DataError
from remov3r.frontends.recorded.ply_points import read_ply_points
from remov3r.frontends.recorded.pose_text import read_pose_rows
from remov3r.frontends.recorded.recording import (
    LoadDense,
    RecordedDense,
    RecordedFrame,
    Recording,
    match_of,
    no_dense,
)
from remov3r.geometry import inverse, transform
from remov3r.types import DepthMap, Pose

WIDTH = 160  # of the depth that is drawn from the cloud
_BEHIND = 1.1  # a point so much farther than the nearest beside it shines through the surface before it


def is_mast3r_slam(path: Path) -> bool:
    """Tell by a pose file with its cloud."""
    return bool(pose_files(path))


def pose_files(path: Path) -> list[Path]:
    """List the pose files beside which there is a cloud of the same name."""
    files = [path] if path.is_file() else sorted(path.glob("*.txt"))
    return [file for file in files if file.with_suffix(".ply").exists()]


def read_mast3r_slam(path: Path) -> Recording:
    """Open the output of MASt3R-SLAM: poses of the keyframes and one cloud of them all; unknown scale.

    The keyframes' depth is drawn from the cloud, once the source's camera is known.

    Raises:
        DataError: a file is missing or damaged, or there are several pose files.
    References: rmurai0610/MASt3R-SLAM, mast3r_slam/evaluate.py.
    """
    files = pose_files(path) or ([path] if path.is_file() else sorted(path.glob("*.txt")))
    if len(files) != 1:
        raise DataError(f"{path}: {len(files)} pose files; name one: recorded:mast3r-slam:{path}/NAME.txt")
    rows, cloud = read_pose_rows(files[0]), files[0].with_suffix(".ply")
    numbers = [number for number, _ in rows]
    frames = tuple(
        RecordedFrame(n, str(files[0]), T, True, _loader(cloud, T) if cloud.exists() else no_dense)
        for n, T in rows
    )
    return Recording("mast3r-slam", path, frames, match_of(numbers), scale="unknown")


def _loader(cloud: Path, T_world_cam: Pose) -> LoadDense:
    def load(camera: Camera | None) -> RecordedDense | None:
        if camera is None:
            return None
        small = camera.resized(WIDTH, max(round(camera.height * WIDTH / camera.width), 1))
        return RecordedDense(drawn_depth(_points(cloud), T_world_cam, small), small.K)

    return load


@lru_cache(maxsize=1)
def _points(cloud: Path) -> Float[np.ndarray, "n 3"]:
    return read_ply_points(cloud)


def drawn_depth(points: Float[np.ndarray, "n 3"], T_world_cam: Pose, camera: Camera) -> DepthMap:
    """Draw a cloud into a camera: the nearest point of each pixel, without what shines through; 0 = missing."""
    local = transform(inverse(T_world_cam), points)
    front = local[:, 2] > 1e-6
    z = local[front, 2]
    u = np.rint(local[front, 0] / z * camera.fx + camera.cx)
    v = np.rint(local[front, 1] / z * camera.fy + camera.cy)
    inside = (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height)
    pixel = (v[inside] * camera.width + u[inside]).astype(np.int64)
    nearest = np.full(camera.width * camera.height, np.inf)
    np.minimum.at(nearest, pixel, z[inside])
    depth = nearest.reshape(camera.height, camera.width).astype(np.float32)
    shining = depth > _BEHIND * cv2.erode(depth, np.ones((3, 3), np.uint8))
    return np.where(np.isfinite(depth) & ~shining, depth, 0).astype(np.float32)
