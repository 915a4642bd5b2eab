"""What most readers share: a list of image files with times and, where known, poses and depth files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.data.images import read_depth_m, read_rgb
from remov3r.data.pose_files import known_trajectory
from remov3r.data.sequence import SourceOptions
from remov3r.errors import DataError
from remov3r.types import Frame, Pose, Trajectory


class ListedSequence:
    """Frames by number; a layout's reader sets the attributes.

    Attributes:
        _T_world_cam: of each frame, None where unknown.
        _depth_files: None without the sensor; else of each frame, and frames whose entry is None are passed over.
        _units_per_m: of the depth files.
        _truth: the ground truth where it has a rate of its own; None for that of the frames.
    """

    name: str
    camera: Camera
    _files: Sequence[Path]
    _timestamps_s: Sequence[float]
    _T_world_cam: Sequence[Pose | None]
    _depth_files: Sequence[Path | None] | None = None
    _units_per_m: float = 1000.0
    _truth: Trajectory | None = None

    def __len__(self) -> int:
        return len(self._files)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Read the frames one after the other; with the sensor, those without depth are passed over."""
        return map(self._read, filter(self._delivers, indices))

    def poses(self) -> dict[int, Pose | None]:
        """Return the pose of each frame that is delivered, None where unknown."""
        return {i: pose for i, pose in enumerate(self._T_world_cam) if self._delivers(i)}

    def reference(self) -> Trajectory | None:
        """Return the ground truth at its own rate, or None where no pose is known."""
        if self._truth is not None:
            return self._truth
        known = [(i, pose) for i, pose in enumerate(self._T_world_cam) if pose is not None]
        if not known:
            return None
        indices, poses = zip(*known)
        return known_trajectory(indices, [self._timestamps_s[i] for i in indices], poses)

    def _delivers(self, index: int) -> bool:
        return self._depth_files is None or self._depth_files[index] is not None

    def _read(self, index: int) -> Frame:
        file = None if self._depth_files is None else self._depth_files[index]
        depth = None if file is None else self._read_depth(file)
        rgb, time = read_rgb(self._files[index]), float(self._timestamps_s[index])
        return Frame(index, time, rgb, self.camera, depth, self._T_world_cam[index])

    def _read_depth(self, file: Path) -> Float[np.ndarray, "h w"]:
        return read_depth_m(file, self._units_per_m)


def refuse_sensor(path: Path, options: SourceOptions) -> None:
    """Refuse to deliver depth from a layout that has none.

    Raises:
        DataError: the sensor is asked for.
    """
    if options.sensor:
        raise DataError(f"{path}: this data set has no depth images; leave out the sensor front end")
