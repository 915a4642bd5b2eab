"""7-Scenes: frame-XXXXXX.{color.png|color.jpg, depth.png, pose.txt}, 640×480, 30 frames/s.

Poses belong to the depth camera, colour is not registered to it. Two conventions:
- RGB alone: the camera is 585, 585, 320, 240 and poses are taken as they stand. That is what published
  monocular systems do, so their figures compare; epipolar measurements favour a focal length of 511-517.
- sensor: depth is registered to a colour camera of f = 517 that lies 25 mm beside the depth camera, and the
  poses delivered are the colour camera's.
Either focal length is replaced by the one the user gives (--camera).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from remov3r.camera import Camera
from remov3r.data.calibration import camera_for, fit_to_image
from remov3r.data.faults import MissingFile
from remov3r.data.images import read_depth_m, read_rgb
from remov3r.data.pose_files import known_trajectory, parse_poses, read_lines
from remov3r.data.registration import DepthRegistration
from remov3r.data.sequence import SourceOptions
from remov3r.errors import DataError
from remov3r.geometry import inverse, project_to_se3
from remov3r.types import Frame, Pose, Trajectory

FPS = 30.0
DEPTH_CAMERA = Camera(640, 480, 585.0, 585.0, 320.0, 240.0)
COLOR_CAMERA = Camera(640, 480, 517.0, 517.0, 320.0, 240.0)
T_COLOR_DEPTH = project_to_se3(
    np.array(
        [
            [0.99996518, 0.00267651, -0.00790410, -0.02555894],
            [-0.00274093, 0.99996303, -0.00815045, 0.00010110],
            [0.00788199, 0.00817183, 0.99993554, 0.00203183],
            [0, 0, 0, 1],
        ]
    )
)


class SevenScenesSequence:
    """One sequence of 7-Scenes.

    Args:
        path: the sequence's folder, or a scene's folder that holds just one sequence.
    Raises:
        DataError: no frames, several sequences, a bad pose, or no depth where the sensor is asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        folder = _sequence_folder(path)
        self._colors = color_files(folder)
        self._sensor = options.sensor
        self.name = f"{folder.parent.name}/{folder.name}"
        height, width = read_rgb(self._colors[0]).shape[:2]
        default = COLOR_CAMERA if options.sensor else DEPTH_CAMERA
        self.camera = camera_for(options.camera, default, width, height, str(folder))
        self._T_world_cam = self._read_poses()
        if options.sensor:
            self._register = self._registration()

    def __len__(self) -> int:
        return len(self._colors)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Read the frames one after the other."""
        return map(self._read, indices)

    def poses(self) -> dict[int, Pose | None]:
        """Return the pose of each frame; None for all where there are none."""
        return dict.fromkeys(range(len(self))) | dict(enumerate(self._T_world_cam or ()))

    def reference(self) -> Trajectory | None:
        """Return the ground truth: of the colour camera with the sensor, else as published."""
        if self._T_world_cam is None:
            return None
        n = range(len(self))
        return known_trajectory(n, [i / FPS for i in n], self._T_world_cam)

    def _read(self, index: int) -> Frame:
        color = self._colors[index]
        depth = self._register(read_depth_m(_beside(color, "depth.png"), 1000)) if self._sensor else None
        pose = None if self._T_world_cam is None else self._T_world_cam[index]
        return Frame(index, index / FPS, read_rgb(color), self.camera, depth, pose)

    def _read_poses(self) -> list[Pose] | None:
        files = [_beside(color, "pose.txt") for color in self._colors]
        if not any(file.exists() for file in files):
            return None
        absent = next((file for file in files if not file.exists()), None)
        if absent is not None:
            raise MissingFile(f"{absent}: no such file, though other frames have poses")
        texts = ((str(file), " ".join(line for _, line in read_lines(file))) for file in files)
        T_world_depth = parse_poses(texts)
        return [T @ inverse(T_COLOR_DEPTH) for T in T_world_depth] if self._sensor else T_world_depth

    def _registration(self) -> DepthRegistration:
        if self.camera.distortion != "none":
            raise DataError(f"{self.name}: depth is registered to a camera without distortion only")
        file = _beside(self._colors[0], "depth.png")
        height, width = read_depth_m(file, 1000).shape
        return DepthRegistration(
            fit_to_image(DEPTH_CAMERA, width, height, str(file)), self.camera, T_COLOR_DEPTH
        )


def color_files(folder: Path) -> list[Path]:
    """List the colour images of a sequence in order; empty where the folder is no 7-Scenes sequence."""
    return sorted([*folder.glob("frame-*.color.png"), *folder.glob("frame-*.color.jpg")])


def sequence_folders(path: Path) -> list[Path]:
    """List the 7-Scenes sequences that a folder is or holds."""
    return [path] if color_files(path) else sorted(p for p in path.glob("seq-*") if color_files(p))


def _sequence_folder(path: Path) -> Path:
    folders = sequence_folders(path)
    if not folders:
        raise DataError(f"{path}: no frame-XXXXXX.color.png or .jpg here, nor in seq-XX folders below")
    if len(folders) > 1:
        raise DataError(
            f"{path}: holds several sequences ({', '.join(f.name for f in folders)}); give one of them"
        )
    return folders[0]


def _beside(color: Path, ending: str) -> Path:
    return color.with_name(f"{color.name.split('.')[0]}.{ending}")
