"""KITTI raw, one synchronised and rectified drive as seen by image_02, with the depth benchmark's ground truth.

    2011_09_26/calib_{cam_to_cam,velo_to_cam,imu_to_velo}.txt
    2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000005.png, image_02/timestamps.txt
    2011_09_26/2011_09_26_drive_0002_sync/oxts/data/0000000005.txt
    2011_09_26/2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000005.png

proj_depth comes from data_depth_annotated.zip (train/ and val/): copy its drives over those of the raw data. Its depth
has 256 units a metre, 0 = none, about a sixth of the pixels; the first and last five images of a drive have none
and are passed over with the sensor. Poses come from oxts (GPS and inertial, centimetres to decimetres) as the raw
data's devkit makes them, brought to camera 2, with the world's origin at the first.

References: Geiger et al., Vision meets Robotics: The KITTI Dataset, IJRR 2013; Uhrig et al., Sparsity Invariant
CNNs, 3DV 2017; the readme files of the raw and depth devkits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from remov3r.data.association import check_increasing
from remov3r.data.calibration import camera_for
from remov3r.data.faults import MissingFile
from remov3r.data.images import image_files, read_rgb
from remov3r.data.kitti_odometry import projection_camera, projection_shift_m
from remov3r.data.listed import ListedSequence
from remov3r.data.pose_files import read_lines, rigid_poses
from remov3r.data.sequence import SourceOptions
from remov3r.data.tables import from_first_position, keyed_numbers, numbers, read_keyed, read_rows, rigid
from remov3r.errors import DataError
from remov3r.geometry import inverse
from remov3r.types import Pose

UNITS_PER_M = 256.0
_EARTH_RADIUS_M = 6378137.0


class KittiRawSequence(ListedSequence):
    """One drive.

    Raises:
        DataError: no images, damaged calibrations, times or oxts, or no depth though asked for.
    """

    _units_per_m = UNITS_PER_M

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self.name = path.resolve().name
        self._files = image_files(path / "image_02" / "data")
        if not self._files:
            raise DataError(f"{path / 'image_02' / 'data'}: holds no images")
        self._timestamps_s = self._times(path / "image_02" / "timestamps.txt")
        file = path.resolve().parent / "calib_cam_to_cam.txt"
        table = read_keyed(file)
        P = keyed_numbers(file, table, "P_rect_02", 12).reshape(3, 4)
        height, width = read_rgb(self._files[0]).shape[:2]
        self.camera = camera_for(
            options.camera, projection_camera(P, width, height), width, height, str(path)
        )
        if options.sensor:
            folder = path / "proj_depth" / "groundtruth" / "image_02"
            there = {f.name for f in image_files(folder)}
            self._depth_files = [folder / f.name if f.name in there else None for f in self._files]
            if not any(self._depth_files):
                raise DataError(f"{folder}: holds depth of none of the images")
        self._T_world_cam: list[Pose | None] = [None] * len(self._files)
        if (path / "oxts" / "data").is_dir():
            R = keyed_numbers(file, table, "R_rect_00", 9).reshape(3, 3)
            T_cam_rect = rigid(np.eye(3), projection_shift_m(P)) @ rigid(R, np.zeros(3))
            folder = path.resolve().parent
            T_rect_velo = _calibrated(folder / "calib_velo_to_cam.txt")
            T_cam_imu = T_cam_rect @ T_rect_velo @ _calibrated(folder / "calib_imu_to_velo.txt")
            T_imu_cam = inverse(rigid_poses([(f"{folder}: calib_*.txt", T_cam_imu)])[0])
            oxts = [path / "oxts" / "data" / f"{f.stem}.txt" for f in self._files]
            T_world_cam = [T @ T_imu_cam for T in from_first_position(_vehicle_poses(oxts))]
            self._T_world_cam = list(T_world_cam)

    def _times(self, file: Path) -> list[float]:
        lines = read_lines(file)
        if len(lines) != len(self):
            raise MissingFile(f"{file}: {len(lines)} times for {len(self)} images")
        wheres = [f"{file}, line {n}" for n, _ in lines]
        try:
            stamps = np.array([line.strip().replace(" ", "T") for _, line in lines], dtype="datetime64[ns]")
        except ValueError as error:
            raise DataError(f"{file}: need lines `2011-09-26 13:02:25.964389445`: {error}") from error
        times: list[float] = (stamps.astype(np.int64) * 1e-9).tolist()
        check_increasing(times, wheres)
        return times


def _calibrated(file: Path) -> Pose:
    """Read R and T of a calibration."""
    table = read_keyed(file)
    return rigid(keyed_numbers(file, table, "R", 9).reshape(3, 3), keyed_numbers(file, table, "T", 3))


def _vehicle_poses(files: list[Path]) -> list[Pose]:
    """Read latitude, longitude (degrees), altitude (m), roll, pitch, yaw (rad) as poses on a Mercator map.

    East, north, up; the map's scale is that of the first latitude.
    """
    rows = np.stack([numbers(*read_rows(file)[0], 6) for file in files])
    lat, lon = np.radians(rows[:, 0]), np.radians(rows[:, 1])
    scale = _EARTH_RADIUS_M * np.cos(lat[0])
    position_m = np.stack([scale * lon, scale * np.log(np.tan(np.pi / 4 + lat / 2)), rows[:, 2]], 1)
    turns = Rotation.from_euler("ZYX", rows[:, [5, 4, 3]]).as_matrix()
    return [rigid(R, t) for R, t in zip(turns, position_m)]
