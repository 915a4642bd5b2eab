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
from remov3r.data.images import image_files, read_rgb
from remov3r.data.listed import ListedSequence
from remov3r.data.pose_files import parse_poses, read_lines
from remov3r.data.sequence import SourceOptions
from remov3r.errors import DataError

CAMERA = Camera(1200, 680, 600.0, 600.0, 599.5, 339.5)
UNITS_PER_M = 6553.5


class ReplicaSequence(ListedSequence):
    """One rendered scene.

    Raises:
        DataError: no images, poses that do not fit, or a damaged cam_params.json.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self._files = color_files(path)
        if not self._files:
            raise DataError(f"{path / 'results'}: holds no frame000000.jpg")
        self._timestamps_s = [i / options.fps for i in range(len(self._files))]
        if options.sensor:
            self._depth_files = [f.with_name(f"depth{f.stem.removeprefix('frame')}.png") for f in self._files]
        self.name = path.resolve().name
        default, self._units_per_m = _parameters(path)
        height, width = read_rgb(self._files[0]).shape[:2]
        self.camera = camera_for(options.camera, default, width, height, str(path))
        file = path / "traj.txt"
        lines = read_lines(file)
        if len(lines) != len(self):
            raise MissingFile(f"{file}: {len(lines)} poses for {len(self)} images")
        self._T_world_cam = parse_poses((f"{file}, line {number}", line) for number, line in lines)


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
