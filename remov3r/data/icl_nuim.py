"""ICL-NUIM, rendered living room and office, in either of its two downloads, 30 frames/s.

As for TUM's tools (living_room_traj2_frei_png.tar.gz):

    associations.txt             `n depth/n.png n rgb/n.png`
    rgb/n.png, depth/n.png       depth along z, 5000 units a metre
    livingRoom2.gt.freiburg      `n tx ty tz qx qy qz qw`; the first frames have no pose

Its own (living_room_traj2_loop.tgz):

    scene_00_0000.png
    scene_00_0000.depth          text: distance from the camera's centre, metres (not along z)
    scene_00_0000.txt            cam_pos, cam_dir and cam_up of POV-Ray, metres

POV-Ray's axes are left-handed, y up: hence the published fy = -480. Flipping y in the world and in the camera makes
both right-handed and the same pixels have fy = 480: T_world_cam = S T S with S = diag(1, -1, 1, 1). Images stay as
they are.

References: https://www.doc.ic.ac.uk/~ahanda/VaFRIC/iclnuim.html
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.data.association import check_increasing, nearest_poses
from remov3r.data.calibration import camera_for
from remov3r.data.faults import DamagedFile, MissingFile, PoseFault
from remov3r.data.images import image_files, read_depth_m, read_rgb
from remov3r.data.listed import ListedSequence
from remov3r.data.pose_files import rigid_poses
from remov3r.data.sequence import SourceOptions
from remov3r.data.tables import numbers, read_rows, rigid
from remov3r.data.tum_trajectory import read_tum
from remov3r.errors import DataError
from remov3r.geometry import pixel_rays
from remov3r.types import Pose

CAMERA = Camera(640, 480, 481.2, 480.0, 319.5, 239.5)
FPS = 30.0
UNITS_PER_M = 5000.0
_FLIP_Y = np.diag([1.0, -1.0, 1.0, 1.0])


class IclNuimSequence(ListedSequence):
    """One trajectory; poses are of a right-handed camera.

    Raises:
        DataError: neither layout is there, damaged lists or poses, or no depth though asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self.name = path.resolve().name
        self._own = not (path / "associations.txt").exists()
        depth_files = self._list_own(path) if self._own else self._list_export(path)
        height, width = read_rgb(self._files[0]).shape[:2]
        self.camera = camera_for(options.camera, CAMERA, width, height, str(path))
        if options.sensor:
            self._depth_files = depth_files
        if self._own:
            rays = pixel_rays(camera_for(None, CAMERA, width, height, str(path)))
            self._length_at_1m = np.linalg.norm(rays, axis=-1)

    def _list_export(self, path: Path) -> list[Path]:
        file = path / "associations.txt"
        rows = read_rows(file)
        short = next((where for where, words in rows if len(words) != 4), None)
        if short is not None:
            raise DataError(f"{short}: need `n depth/n.png n rgb/n.png`")
        indices = [float(numbers(where, words, 1)[0]) for where, words in rows]
        check_increasing(indices, [where for where, _ in rows])
        self._files = [path / words[3] for _, words in rows]
        self._timestamps_s = [i / FPS for i in indices]
        truths = sorted(path.glob("*.gt.freiburg"))
        if len(truths) > 1:
            raise DataError(f"{path}: holds several trajectories ({', '.join(t.name for t in truths)})")
        self._T_world_cam: list[Pose | None] = [None] * len(rows)
        if truths:
            truth = read_tum(truths[0])
            poses = nearest_poses(truth, np.array(indices), 0.1)
            self._T_world_cam = [None if T is None else _FLIP_Y @ T @ _FLIP_Y for T in poses]
            T_world_cam = _FLIP_Y @ truth.T_world_cam @ _FLIP_Y
            self._truth = replace(truth, timestamps_s=truth.timestamps_s / FPS, T_world_cam=T_world_cam)
        return [path / words[1] for _, words in rows]

    def _list_own(self, path: Path) -> list[Path]:
        self._files = own_color_files(path)
        if not self._files:
            raise DataError(f"{path}: neither associations.txt nor scene_00_0000.png is here")
        self._timestamps_s = [i / FPS for i in range(len(self._files))]
        texts = [file.with_suffix(".txt") for file in self._files]
        known = any(text.exists() for text in texts)
        self._T_world_cam = [None] * len(texts)
        if known:
            raw = [(str(text), _FLIP_Y @ _pov_ray_pose(text) @ _FLIP_Y) for text in texts]
            self._T_world_cam = list(rigid_poses(raw))
        return [file.with_suffix(".depth") for file in self._files]

    def _read_depth(self, file: Path) -> Float[np.ndarray, "h w"]:
        if not self._own:
            return read_depth_m(file, UNITS_PER_M)
        try:
            distance = np.array(file.read_text().split(), dtype=np.float32)
        except OSError as error:
            raise MissingFile(f"{file}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise DamagedFile(f"{file}: not a number: {error}") from error
        if distance.size != self._length_at_1m.size:
            height, width = self._length_at_1m.shape
            raise DamagedFile(f"{file}: {distance.size} distances for {width}x{height} pixels")
        distance[~np.isfinite(distance)] = 0
        return (distance.reshape(self._length_at_1m.shape) / self._length_at_1m).astype(np.float32)


def own_color_files(folder: Path) -> list[Path]:
    """List the colour images of the data set's own layout; empty where the folder is none."""
    return [f for f in image_files(folder) if re.fullmatch(r"scene_\d+_\d{4}", f.stem)]


def _pov_ray_pose(file: Path) -> Float[np.ndarray, "4 4"]:
    """Read lines `cam_pos = [x, y, z]';`; the columns of the rotation are right, up and forward."""
    table = {}
    for where, words in read_rows(file):
        row = re.fullmatch(r"(\w+)\s*=\s*\[(.*)\]'?;?", " ".join(words))
        if row is not None:
            table[row[1]] = (where, row[2].split())
    absent = [key for key in ("cam_pos", "cam_dir", "cam_up") if key not in table]
    if absent:
        raise PoseFault(f"{file}: lacks {', '.join(absent)}")
    centre, forward, up = (numbers(*table[key], 3) for key in ("cam_pos", "cam_dir", "cam_up"))
    forward = forward / max(np.linalg.norm(forward), 1e-12)
    right = np.cross(up, forward)
    right = right / max(np.linalg.norm(right), 1e-12)
    return rigid(np.stack([right, np.cross(forward, right), forward], 1), centre)
