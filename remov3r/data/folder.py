"""A folder of images in natural order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from remov3r.data.calibration import camera_for, sidecar_camera
from remov3r.data.images import image_files, read_rgb
from remov3r.data.sequence import SourceOptions
from remov3r.data.tum_trajectory import read_tum
from remov3r.errors import DataError
from remov3r.types import Frame, Pose, Trajectory


class ImageFolder:
    """Images of one folder; the calibration is given, or stands beside the folder as FOLDER.toml.

    Raises:
        DataError: no images, no camera, or depth asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        if options.sensor:
            raise DataError(f"{path}: an image folder has no depth; leave out the sensor front end")
        self._files = image_files(path)
        if not self._files:
            raise DataError(f"{path}: holds no images")
        self._truth = path.resolve().with_name(path.resolve().name + ".tum")
        self._timestamps_s = timestamps_from_names([f.stem for f in self._files], options.fps)
        self.name = path.resolve().name
        height, width = read_rgb(self._files[0]).shape[:2]
        self.camera = camera_for(options.camera, sidecar_camera(path), width, height, str(path))

    def __len__(self) -> int:
        return len(self._files)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Read the frames one after the other."""
        return (Frame(i, self._timestamps_s[i], read_rgb(self._files[i]), self.camera) for i in indices)

    def poses(self) -> dict[int, Pose | None]:
        """Return no pose for any frame."""
        return dict.fromkeys(range(len(self)))

    def reference(self) -> Trajectory | None:
        """Return the trajectory that stands beside the folder as FOLDER.tum."""
        return read_tum(self._truth) if self._truth.exists() else None


def timestamps_from_names(names: Sequence[str], fps: float) -> list[float]:
    """Read file names as times where all look like it: seconds with decimals, or nanoseconds (16-19 digits).

    Args:
        names: file names without suffix, in order.
        fps: used for index / fps where the names are no times or do not increase.
    """
    if all(re.fullmatch(r"\d+\.\d+", name) for name in names):
        times = [float(name) for name in names]
    elif all(re.fullmatch(r"\d{16,19}", name) for name in names):
        times = [int(name) * 1e-9 for name in names]
    else:
        times = []
    increasing = bool(times) and all(a < b for a, b in pairwise(times))
    return times if increasing else [i / fps for i in range(len(names))]
