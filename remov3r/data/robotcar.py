"""Oxford RobotCar, exported: stereo/centre of one traverse at 16 frames/s, in colour and undistorted; no depth.

The published images are Bayer patterns seen through a lens given as a table, for which the data set's own SDK
exists. Read here are its images, with the files of the download and of the SDK beside them:

    stereo/centre/1418381798086398.png    load_image(path, CameraModel(models, 'stereo/centre')) of the SDK, saved;
                                          the name is the time in microseconds
    models/stereo_narrow_left.txt         of the SDK: fx fy cx cy, then G_camera_image (4×4)
    extrinsics/stereo.txt, ins.txt        of the SDK: x y z roll pitch yaw
    gps/ins.csv (or rtk.csv, preferred)   of the download: columns timestamp, northing, easting, down, roll, pitch, yaw

T_world_cam = T_world_ins · T_vehicle_ins⁻¹ · T_camera_vehicle⁻¹ · G_camera_image, as the SDK chains them; poses
between two rows are interpolated, and the world's origin (north, east, down) is moved to the first.

References: https://robotcar-dataset.robots.ox.ac.uk, https://github.com/ori-mrg/robotcar-dataset-sdk
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from remov3r.camera import Camera
from remov3r.data.association import check_increasing, interpolated_poses
from remov3r.data.calibration import camera_for
from remov3r.data.images import image_files, read_rgb
from remov3r.data.listed import ListedSequence, refuse_sensor
from remov3r.data.pose_files import known_trajectory, rigid_poses
from remov3r.data.sequence import SourceOptions
from remov3r.data.tables import from_first_position, numbers, read_numbers, read_rows, rigid
from remov3r.errors import DataError
from remov3r.geometry import inverse
from remov3r.types import Pose, Trajectory

_COLUMNS = ("timestamp", "northing", "easting", "down", "roll", "pitch", "yaw")
_GAP_S = 0.5


class RobotCarSequence(ListedSequence):
    """One exported traverse.

    Raises:
        DataError: raw images, none at all, damaged tables, or depth asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        refuse_sensor(path, options)
        folder = path / "stereo" / "centre"
        self.name = path.resolve().name
        self._files = image_files(folder)
        if not self._files:
            raise DataError(f"{folder}: holds no images")
        _refuse_bayer(self._files[0])
        self._timestamps_s = [float(numbers(str(file), [file.stem], 1)[0]) * 1e-6 for file in self._files]
        height, width = read_rgb(self._files[0]).shape[:2]
        model = read_numbers(path / "models" / "stereo_narrow_left.txt", 20)
        fx, fy, cx, cy = model[:4].tolist()
        default = Camera(width, height, fx, fy, cx, cy)
        self.camera = camera_for(options.camera, default, width, height, str(path))
        self._T_world_cam: list[Pose | None] = [None] * len(self._files)
        tables = [path / "rtk.csv", path / "gps" / "rtk.csv", path / "gps" / "ins.csv"]
        table = next((file for file in tables if file.exists()), None)
        if table is not None:
            T_camera_image = rigid_poses([("models/stereo_narrow_left.txt", model[4:].reshape(4, 4))])[0]
            T_vehicle_ins, T_camera_vehicle = (
                _from_euler(read_numbers(path / "extrinsics" / name, 6)) for name in ("ins.txt", "stereo.txt")
            )
            T_ins_cam = inverse(T_vehicle_ins) @ inverse(T_camera_vehicle) @ T_camera_image
            self._truth = _ground_truth(table, T_ins_cam)
            self._T_world_cam = interpolated_poses(self._truth, np.array(self._timestamps_s), _GAP_S)


def _refuse_bayer(file: Path) -> None:
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if image is not None and image.ndim == 2:
        raise DataError(
            f"{file}: a raw Bayer image; demosaic and undistort with load_image of the robotcar-dataset-sdk "
            "and save as colour (see docs/data.md)"
        )


def _ground_truth(file: Path, T_ins_cam: Pose) -> Trajectory:
    (_, title), *rows = read_rows(file)
    absent = [column for column in _COLUMNS if column not in title]
    if absent or not rows:
        raise DataError(f"{file}: lacks {', '.join(absent) or 'rows'}; need a title line and poses below")
    columns = [title.index(column) for column in _COLUMNS]
    picked = [(where, [words[c] for c in columns if c < len(words)]) for where, words in rows]
    table = np.stack([numbers(where, words, len(columns)) for where, words in picked])
    times = (table[:, 0] * 1e-6).tolist()
    check_increasing(times, [where for where, _ in rows])
    T_world_ins = from_first_position([_from_euler(row) for row in table[:, 1:]])
    return known_trajectory(range(len(times)), times, [T @ T_ins_cam for T in T_world_ins])


def _from_euler(x: Float[np.ndarray, " 6"]) -> Pose:
    """Build the transform of x y z roll pitch yaw (m, rad)."""
    return rigid(Rotation.from_euler("ZYX", x[[5, 4, 3]]).as_matrix(), x[:3])
