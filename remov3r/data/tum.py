"""TUM RGB-D: rgb.txt, depth.txt, groundtruth.txt; depth is registered to colour, 5000 units a metre."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from remov3r.camera import Camera
from remov3r.data.calibration import camera_for
from remov3r.data.images import read_depth_m, read_rgb
from remov3r.data.pose_files import read_lines
from remov3r.data.sequence import SourceOptions
from remov3r.data.tum_trajectory import read_tum
from remov3r.errors import DataError
from remov3r.types import Frame, Pose, Trajectory

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


class TumSequence:
    """One sequence; frames are the colour images, depth and ground truth the nearest in time within 0.02 s.

    With the sensor, images without depth near them are passed over. A folder named after freiburg1, 2 or 3
    brings its camera along.

    Raises:
        DataError: no images, no camera, a damaged list, or no depth though asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self.name = path.resolve().name
        times, files = _read_list(path / "rgb.txt")
        self._times, self._files = times, files
        self._depth_files: list[Path | None] | None = None
        if options.sensor:
            depth_times, depth_files = _read_list(path / "depth.txt")
            near = nearest_in_time(times, depth_times, TOLERANCE_S)
            if not (near >= 0).any():
                raise DataError(f"{path}: no depth within {TOLERANCE_S} s of any colour image")
            self._depth_files = [depth_files[n] if n >= 0 else None for n in near]
        height, width = read_rgb(files[0]).shape[:2]
        default = next((camera for key, camera in CAMERAS.items() if key in self.name), None)
        self.camera = camera_for(options.camera, default, width, height, str(path))
        truth = path / "groundtruth.txt"
        self._truth = read_tum(truth) if truth.exists() else None
        if self._truth is not None:
            self._truth_row = nearest_in_time(times, self._truth.timestamps_s, TOLERANCE_S)

    def __len__(self) -> int:
        return len(self._files)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Read the frames one after the other."""
        depth_files = self._depth_files
        return (self._read(i) for i in indices if depth_files is None or depth_files[i] is not None)

    def poses(self) -> dict[int, Pose | None]:
        """Return the pose nearest to each image; with the sensor, images without depth are left out."""
        files = self._depth_files
        return {i: self._pose(i) for i in range(len(self)) if files is None or files[i] is not None}

    def reference(self) -> Trajectory | None:
        """Return groundtruth.txt at its own rate."""
        return self._truth

    def _read(self, index: int) -> Frame:
        depth_file = None if self._depth_files is None else self._depth_files[index]
        depth = None if depth_file is None else read_depth_m(depth_file, UNITS_PER_M)
        rgb = read_rgb(self._files[index])
        return Frame(index, float(self._times[index]), rgb, self.camera, depth, self._pose(index))

    def _pose(self, index: int) -> Pose | None:
        if self._truth is None or self._truth_row[index] < 0:
            return None
        return self._truth.T_world_cam[self._truth_row[index]]


def nearest_in_time(times_s: np.ndarray, candidates_s: np.ndarray, tolerance_s: float) -> np.ndarray:
    """Return for each time the index of the nearest candidate, -1 where none is within the tolerance."""
    distance = np.abs(times_s[:, None] - candidates_s[None])
    nearest = distance.argmin(1)
    return np.where(distance.min(1) <= tolerance_s, nearest, -1)


def _read_list(path: Path) -> tuple[np.ndarray, list[Path]]:
    """Read lines of `timestamp file`."""
    times, files = [], []
    for number, line in read_lines(path):
        parts = line.split(maxsplit=1)
        try:
            times.append(float(parts[0]))
            files.append(path.parent / parts[1].strip())
        except (ValueError, IndexError) as error:
            raise DataError(f"{path}, line {number}: need `timestamp file`, got {line.strip()!r}") from error
    if not files:
        raise DataError(f"{path}: lists no images")
    return np.array(times), files
