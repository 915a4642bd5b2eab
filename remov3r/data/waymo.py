"""Waymo Open Perception, exported: the front camera of one segment at 10 frames/s; no depth.

The published .tfrecord and .parquet files need Waymo's own library. Read here is what the usual exporters write
(EmerNeRF, DriveStudio):

    images/000_0.jpg         frame 000 of camera 0 (FRONT)
    intrinsics/0.txt         fx fy cx cy k1 k2 p1 p2 k3
    extrinsics/0.txt         4×4, camera to vehicle, Waymo's camera axes (x forward, y left, z up)
    ego_pose/000.txt         4×4, vehicle to world, metres

Poses are turned to OpenCV's axes; the world's origin is moved to the vehicle's first position.

References: https://github.com/waymo-research/waymo-open-dataset, dataset.proto (CameraCalibration, Frame.pose).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from remov3r.camera import Camera
from remov3r.data.calibration import camera_for
from remov3r.data.images import image_files, read_rgb
from remov3r.data.listed import ListedSequence, refuse_sensor
from remov3r.data.pose_files import rigid_poses
from remov3r.data.sequence import SourceOptions
from remov3r.data.tables import from_first_position, read_numbers
from remov3r.errors import DataError
from remov3r.types import Pose

FPS = 10.0
_CAMERA = 0
T_WAYMO_OPENCV = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


class WaymoSequence(ListedSequence):
    """One exported segment as seen by its front camera.

    Raises:
        DataError: raw files, no images, a missing or damaged pose or calibration, or depth asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        refuse_raw(path)
        refuse_sensor(path, options)
        self.name = path.resolve().name
        files = image_files(path / "images")
        self._files = [f for f in files if re.fullmatch(rf"\d+_{_CAMERA}", f.stem)]
        if not self._files:
            raise DataError(f"{path / 'images'}: holds no image of camera {_CAMERA} (000_{_CAMERA}.jpg)")
        names = [f.stem.split("_")[0] for f in self._files]
        self._timestamps_s = [int(name) / FPS for name in names]
        fx, fy, cx, cy, *lens = read_numbers(path / "intrinsics" / f"{_CAMERA}.txt", 9).tolist()
        height, width = read_rgb(self._files[0]).shape[:2]
        default = Camera(width, height, fx, fy, cx, cy, "radtan", tuple(lens))
        self.camera = camera_for(options.camera, default, width, height, str(path))
        T_vehicle_cam = _poses([path / "extrinsics" / f"{_CAMERA}.txt"])[0] @ T_WAYMO_OPENCV
        T_world_vehicle = _poses([path / "ego_pose" / f"{name}.txt" for name in names])
        self._T_world_cam = [T @ T_vehicle_cam for T in from_first_position(T_world_vehicle)]


def refuse_raw(path: Path) -> None:
    """Refuse files as Waymo publishes them.

    Raises:
        DataError: a .tfrecord or .parquet file, or a folder of them.
    """
    raw = path.suffix in (".tfrecord", ".parquet")
    if raw or (path.is_dir() and any(f.suffix in (".tfrecord", ".parquet") for f in path.iterdir())):
        raise DataError(
            f"{path}: raw Waymo files need Waymo's own library; export the segment first "
            "(images/, intrinsics/, extrinsics/, ego_pose/; see docs/data.md)"
        )


def _poses(files: list[Path]) -> list[Pose]:
    return rigid_poses([(str(file), read_numbers(file, 16).reshape(4, 4)) for file in files])
