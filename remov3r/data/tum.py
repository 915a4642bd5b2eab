"""TUM RGB-D: rgb.txt, depth.txt, groundtruth.txt; depth is registered to colour, 5000 units a metre.

The dynamic sequences (freiburg3_sitting_*, freiburg3_walking_*) have the same layout and freiburg3's camera.

References: https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from remov3r.camera import Camera
from remov3r.data.association import check_increasing, nearest_in_time, nearest_poses
from remov3r.data.calibration import camera_for
from remov3r.data.images import read_rgb
from remov3r.data.listed import ListedSequence
from remov3r.data.pose_files import read_lines
from remov3r.data.sequence import SourceOptions
from remov3r.data.tum_trajectory import read_tum
from remov3r.errors import DataError
from remov3r.types import Trajectory

TOLERANCE_S = 0.02
UNITS_PER_M = 5000.0
# The calibrations published with the data set; freiburg3's images come undistorted.
CAMERAS = {
    "freiburg1": Camera(
        640, 480, 517.3, 516.5, 318.6, 255.3, "radtan", (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)
    ),
    "freiburg2": Camera(
        640, 480, 520.9, 521.0, 325.1, 249.7, "radtan", (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)
    ),
    "freiburg3": Camera(640, 480, 535.4, 539.2, 320.1, 247.6),
}


class TumSequence(ListedSequence):
    """One sequence; frames are the colour images, depth and ground truth the nearest in time within 0.02 s.

    With the sensor, images without depth near them are passed over. A folder named after freiburg1, 2 or 3
    brings its camera along.

    Raises:
        DataError: no images, no camera, a damaged list, or no depth though asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self.name = path.resolve().name
        times, self._files = _read_list(path / "rgb.txt")
        self._timestamps_s, self._units_per_m = times.tolist(), UNITS_PER_M
        if options.sensor:
            depth_times, depth_files = _read_list(path / "depth.txt")
            near = nearest_in_time(times, depth_times, TOLERANCE_S)
            if not (near >= 0).any():
                raise DataError(f"{path}: no depth within {TOLERANCE_S} s of any colour image")
            self._depth_files = [depth_files[n] if n >= 0 else None for n in near]
        height, width = read_rgb(self._files[0]).shape[:2]
        self.camera = camera_for(options.camera, self._default_camera(), width, height, str(path))
        file = path / "groundtruth.txt"
        self._truth = self._camera_truth(read_tum(file)) if file.exists() else None
        none = [None] * len(times)
        self._T_world_cam = none if self._truth is None else nearest_poses(self._truth, times, TOLERANCE_S)

    def _default_camera(self) -> Camera | None:
        return next((camera for key, camera in CAMERAS.items() if key in self.name), None)

    def _camera_truth(self, truth: Trajectory) -> Trajectory:
        """Bring what groundtruth.txt holds to the colour camera."""
        return truth


def _read_list(path: Path) -> tuple[np.ndarray, list[Path]]:
    """Read lines of `timestamp file`."""
    times, files, wheres = [], [], []
    for number, line in read_lines(path):
        parts = line.split(maxsplit=1)
        wheres.append(f"{path}, line {number}")
        try:
            times.append(float(parts[0]))
            files.append(path.parent / parts[1].strip())
        except (ValueError, IndexError) as error:
            raise DataError(f"{wheres[-1]}: need `timestamp file`, got {line.strip()!r}") from error
    if not files:
        raise DataError(f"{path}: lists no images")
    check_increasing(times, wheres)
    return np.array(times), files
