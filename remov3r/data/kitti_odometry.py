"""KITTI odometry: sequences/NN with rectified images at 10 frames/s; no depth.

    sequences/00/image_2/000000.png     the left colour camera (image_0, the left grey one, where it is not there)
    sequences/00/calib.txt              P0 .. P3: 3×4 projections from the rectified frame of camera 0
    sequences/00/times.txt              seconds
    poses/00.txt                        12 numbers a line: T_world_cam0; sequences 00 to 10 only

Camera 2 lies beside camera 0 by the fourth column of P2 (6 cm): the poses delivered are those of the images.

References: https://www.cvlibs.net/datasets/kitti/eval_odometry.php, devkit/readme.txt
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.data.association import check_increasing
from remov3r.data.calibration import camera_for
from remov3r.data.faults import MissingFile
from remov3r.data.images import image_files, read_rgb
from remov3r.data.listed import ListedSequence, refuse_sensor
from remov3r.data.pose_files import rigid_poses
from remov3r.data.sequence import SourceOptions
from remov3r.data.tables import keyed_numbers, numbers, poses_of_3x4, read_keyed, read_rows, rigid
from remov3r.errors import DataError
from remov3r.types import Pose


class KittiOdometrySequence(ListedSequence):
    """One sequence, such as sequences/00.

    Raises:
        DataError: no images, times or poses that do not fit, a damaged calibration, or depth asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        refuse_sensor(path, options)
        number = 2 if (path / "image_2").is_dir() else 0
        self.name = path.resolve().name
        self._files = image_files(path / f"image_{number}")
        if not self._files:
            raise DataError(f"{path / f'image_{number}'}: holds no images")
        rows = read_rows(path / "times.txt")
        self._timestamps_s = [float(numbers(where, words, 1)[0]) for where, words in rows]
        self._same_count(path / "times.txt", len(rows), "times")
        check_increasing(self._timestamps_s, [where for where, _ in rows])
        file = path / "calib.txt"
        P = keyed_numbers(file, read_keyed(file), f"P{number}", 12).reshape(3, 4)
        height, width = read_rgb(self._files[0]).shape[:2]
        self.camera = camera_for(
            options.camera, projection_camera(P, width, height), width, height, str(path)
        )
        self._T_world_cam: list[Pose | None] = [None] * len(self._files)
        poses = path.resolve().parents[1] / "poses" / f"{self.name}.txt"
        if poses.exists():
            lines = read_rows(poses)
            self._same_count(poses, len(lines), "poses")
            T_cam0_cam = rigid(np.eye(3), -projection_shift_m(P))
            self._T_world_cam = [T @ T_cam0_cam for T in rigid_poses(poses_of_3x4(lines))]

    def _same_count(self, file: Path, count: int, what: str) -> None:
        if count != len(self):
            raise MissingFile(f"{file}: {count} {what} for {len(self)} images")


def projection_camera(P: Float[np.ndarray, "3 4"], width: int, height: int) -> Camera:
    """Take the intrinsics from a projection of KITTI's rectified cameras."""
    return Camera(width, height, float(P[0, 0]), float(P[1, 1]), float(P[0, 2]), float(P[1, 2]))


def projection_shift_m(P: Float[np.ndarray, "3 4"]) -> Float[np.ndarray, " 3"]:
    """Return where the origin of camera 0 lies in the camera of a projection K [I | t]."""
    return np.linalg.solve(P[:, :3], P[:, 3])
