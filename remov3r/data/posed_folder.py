"""Folder layout rgb/, depth/ (16-bit millimetres), intrinsics.txt, and where known poses.txt and frames.txt.

Line n of poses.txt (16 numbers, camera to world) and of frames.txt (frame number at `fps`) belongs to the
n-th image. intrinsics.txt holds fx fy cx cy and may add width height.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from remov3r.camera import Camera
from remov3r.data.calibration import camera_for
from remov3r.data.faults import MissingFile
from remov3r.data.images import image_files, read_rgb
from remov3r.data.listed import ListedSequence
from remov3r.data.pose_files import parse_poses, read_lines
from remov3r.data.sequence import SourceOptions
from remov3r.errors import DataError
from remov3r.types import Pose


class PosedFolder(ListedSequence):
    """Images with calibration, and where present depth and poses.

    Raises:
        DataError: no images, unreadable intrinsics, poses that do not fit, or no depth though asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self._files = image_files(path / "rgb")
        if not self._files:
            raise DataError(f"{path / 'rgb'}: holds no images")
        if options.sensor and not (path / "depth").is_dir():
            raise DataError(
                f"{path / 'depth'}: no such folder, so there is no depth for the sensor front end"
            )
        if options.sensor:
            self._depth_files = [path / "depth" / f"{file.stem}.png" for file in self._files]
        self.name = path.resolve().name
        height, width = read_rgb(self._files[0]).shape[:2]
        default = _intrinsics(path / "intrinsics.txt", width, height) if options.camera is None else None
        self.camera = camera_for(options.camera, default, width, height, str(path))
        self._T_world_cam = self._poses(path / "poses.txt")
        self._timestamps_s = self._times(path / "frames.txt", options.fps)

    def _poses(self, file: Path) -> list[Pose] | list[None]:
        if not file.exists():
            return [None] * len(self)
        lines = read_lines(file)
        if len(lines) != len(self):
            raise MissingFile(f"{file}: {len(lines)} poses for {len(self)} images")
        return parse_poses((f"{file}, line {number}", line) for number, line in lines)

    def _times(self, file: Path, fps: float) -> list[float]:
        numbers = [line.split()[0] for _, line in read_lines(file)] if file.exists() else []
        if len(numbers) == len(self) and all(n.isdigit() for n in numbers):
            times = [int(n) / fps for n in numbers]
            if all(a < b for a, b in pairwise(times)):
                return times
        return [i / fps for i in range(len(self))]


def _intrinsics(path: Path, width: int, height: int) -> Camera:
    lines = read_lines(path)
    try:
        values = [float(v) for v in lines[0][1].split()] if len(lines) == 1 else []
    except ValueError as error:
        raise DataError(f"{path}: not a number: {error}") from error
    if len(values) not in (4, 6):
        raise DataError(f"{path}: need one line fx fy cx cy [width height]")
    if len(values) == 6:
        width, height = int(values[4]), int(values[5])
    fx, fy, cx, cy = values[:4]
    return Camera(width, height, fx, fy, cx, cy)
