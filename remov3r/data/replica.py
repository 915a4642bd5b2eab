"""Replica as rendered for iMAP and NICE-SLAM: results/frame000000.jpg, results/depth000000.png, traj.txt.

Line n of traj.txt is the pose (16 numbers, camera to world, OpenCV axes) of the n-th frame. cam_params.json of
the scene or of the folder above holds w, h, fx, fy, cx, cy and scale, the depth units of a metre; without it
they are those of the release: 1200×680, f = 600, 6553.5.

References: https://github.com/cvg/nice-slam, configs/Replica/replica.yaml and src/utils/datasets.py.
"""

from __future__ import annotations

import json
from pathlib import Path

from remov3r.camera import Camera
from remov3r.data.calibration import camera_for
from remov3r.data.faults import MissingFile
from remov3r.data.images import image_files, read_depth_m, read_rgb
from remov3r.data.pose_files import parse_poses, read_lines
from remov3r.data.rendered import RenderedSequence
from remov3r.data.sequence import SourceOptions
from remov3r.errors import DataError
from remov3r.types import Frame

CAMERA = Camera(1200, 680, 600.0, 600.0, 599.5, 339.5)
UNITS_PER_M = 6553.5


class ReplicaSequence(RenderedSequence):
    """One rendered scene.

    Raises:
        DataError: no images, poses that do not fit, or a damaged cam_params.json.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self._files = color_files(path)
        if not self._files:
            raise DataError(f"{path / 'results'}: holds no frame000000.jpg")
        self._sensor, self._fps = options.sensor, options.fps
        self.name = path.resolve().name
        default, self._units_per_m = _parameters(path)
        height, width = read_rgb(self._files[0]).shape[:2]
        self.camera = camera_for(options.camera, default, width, height, str(path))
        file = path / "traj.txt"
        lines = read_lines(file)
        if len(lines) != len(self):
            raise MissingFile(f"{file}: {len(lines)} poses for {len(self)} images")
        self._T_world_cam = parse_poses((f"{file}, line {number}", line) for number, line in lines)

    def _read(self, index: int) -> Frame:
        file, depth = self._files[index], None
        if self._sensor:
            depth_file = file.with_name(f"depth{file.stem.removeprefix('frame')}.png")
            depth = read_depth_m(depth_file, self._units_per_m)
        pose = self._T_world_cam[index]
        return Frame(index, index / self._fps, read_rgb(file), self.camera, depth, pose)


def color_files(path: Path) -> list[Path]:
    """List the colour images of a scene in order; empty where there are none."""
    folder = path / "results"
    return [f for f in image_files(folder) if f.name.startswith("frame")] if folder.is_dir() else []


def _parameters(path: Path) -> tuple[Camera, float]:
    files = [folder / "cam_params.json" for folder in (path, path.resolve().parent)]
    file = next((f for f in files if f.exists()), None)
    if file is None:
        return CAMERA, UNITS_PER_M
    try:
        p = json.loads(file.read_text())["camera"]
        fx, fy, cx, cy, units = (float(p[key]) for key in ("fx", "fy", "cx", "cy", "scale"))
        return Camera(int(p["w"]), int(p["h"]), fx, fy, cx, cy), units
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: need camera: w, h, fx, fy, cx, cy, scale: {error!r}") from error
