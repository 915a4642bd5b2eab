"""Virtual KITTI 2, one variation of one scene, such as Scene01/clone, as seen by Camera_0 at 10 frames/s.

    Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg
    Scene01/clone/frames/depth/Camera_0/depth_00000.png   16 bit, centimetres along z; 65535 is the sky
    Scene01/clone/extrinsic.txt                           frame cameraID and 16 numbers: world to camera, metres
    Scene01/clone/intrinsic.txt                           frame cameraID fx fy cx cy

Unpack the rgb, depth and textgt archives over each other. Both tables have a title line. Other cars move, so
their depth does not fit the camera's poses.

References: https://europe.naverlabs.com/research/computer-vision/proxy-virtual-worlds-vkitti-2
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from remov3r.camera import Camera
from remov3r.data.calibration import camera_for
from remov3r.data.faults import MissingFile
from remov3r.data.images import image_files, read_rgb
from remov3r.data.listed import ListedSequence
from remov3r.data.pose_files import read_lines, rigid_poses
from remov3r.data.sequence import SourceOptions
from remov3r.errors import DataError
from remov3r.geometry import inverse

FPS = 10.0
UNITS_PER_M = 100.0
_CAMERA = 0


class VirtualKitti2Sequence(ListedSequence):
    """One variation of one scene.

    Raises:
        DataError: no images, a damaged table, a frame without its row, or rows of several calibrations.
    """

    _units_per_m = UNITS_PER_M

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self._path = path
        self._files = image_files(path / "frames" / "rgb" / f"Camera_{_CAMERA}")
        if not self._files:
            raise DataError(f"{path / 'frames' / 'rgb' / f'Camera_{_CAMERA}'}: holds no images")
        where = path.resolve()
        self.name = f"{where.parent.name}/{where.name}"
        numbers = [_number(file) for file in self._files]
        self._timestamps_s = [i / FPS for i in range(len(numbers))]
        if options.sensor:
            folder = path / "frames" / "depth" / f"Camera_{_CAMERA}"
            self._depth_files = [folder / f"depth_{f.stem.split('_')[-1]}.png" for f in self._files]
        height, width = read_rgb(self._files[0]).shape[:2]
        K = self._rows("intrinsic.txt", numbers, 4)
        if np.ptp(K, axis=0).max() > 1e-6:
            raise DataError(f"{path / 'intrinsic.txt'}: the calibration changes from frame to frame")
        fx, fy, cx, cy = (float(k) for k in K[0])
        default = Camera(width, height, fx, fy, cx, cy)
        self.camera = camera_for(options.camera, default, width, height, str(path))
        rows = self._rows("extrinsic.txt", numbers, 16).reshape(-1, 4, 4)
        T_cam_world = rigid_poses(
            [(f"{path / 'extrinsic.txt'}, frame {n}", T) for n, T in zip(numbers, rows)]
        )
        self._T_world_cam = [inverse(T) for T in T_cam_world]

    def _rows(self, name: str, numbers: Sequence[int], columns: int) -> np.ndarray:
        """Read the values of the camera's rows of a table, in the order of the frames."""
        file = self._path / name
        lines = read_lines(file)[1:]
        try:
            table = np.array([line.split() for _, line in lines], dtype=np.float64).reshape(-1, 2 + columns)
        except ValueError as error:
            raise DataError(f"{file}: need a title and rows of {2 + columns} numbers: {error}") from error
        rows = {int(row[0]): row[2:] for row in table if int(row[1]) == _CAMERA}
        absent = next((n for n in numbers if n not in rows), None)
        if absent is not None:
            raise MissingFile(f"{file}: no row for frame {absent} of camera {_CAMERA}")
        return np.stack([rows[n] for n in numbers])


def _number(file: Path) -> int:
    try:
        return int(file.stem.split("_")[-1])
    except ValueError as error:
        raise DataError(f"{file}: not named rgb_00000.jpg") from error
