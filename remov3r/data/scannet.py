"""ScanNet as its .sens reader exports it: color/N.jpg, depth/N.png, pose/N.txt, intrinsic/intrinsic_*.txt.

N counts from 0 without padding. Colour is 1296×968, depth 640×480 in millimetres; intrinsics are 4×4 matrices
of the images as recorded; poses map the camera to the world, and one of nothing but -inf says that tracking was
lost there. The two cameras share one place (the exported extrinsics are the identity).

With the sensor, colour is reduced to the size of the depth, which is registered to it; the camera delivered is
the colour camera at that size.

References: https://github.com/ScanNet/ScanNet, SensReader/python.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from remov3r.camera import Camera
from remov3r.data.calibration import HOW, camera_for
from remov3r.data.images import image_files, read_depth_m, read_rgb
from remov3r.data.pose_files import known_trajectory, parse_poses_or_unknown, read_lines
from remov3r.data.registration import DepthRegistration
from remov3r.data.sequence import SourceOptions
from remov3r.errors import DataError
from remov3r.types import Frame, Pose, Trajectory

_UNITS_PER_M = 1000.0


class ScanNetSequence:
    """One scan; frames without a known pose are delivered with `T_world_cam` None.

    Raises:
        DataError: no images, a bad pose or calibration, or no depth though asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self._path = path
        self._colors = image_files(path / "color")
        if not self._colors:
            raise DataError(f"{path / 'color'}: holds no images")
        self.name = path.resolve().name
        numbers = [file.stem for file in self._colors]
        times = [int(n) if n.isdigit() else i for i, n in enumerate(numbers)]
        self._timestamps_s = [t / options.fps for t in times]
        height, width = read_rgb(self._colors[0]).shape[:2]
        default = self._camera("color", width, height) if options.camera is None else None
        self._register = self._registration(default, options) if options.sensor else None
        if self._register is None:
            self.camera = camera_for(options.camera, default, width, height, str(path))
        else:
            self.camera = self._register.target
        files = [path / "pose" / f"{n}.txt" for n in numbers]
        self._T_world_cam = parse_poses_or_unknown(
            (str(file), " ".join(line for _, line in read_lines(file))) for file in files
        )

    def __len__(self) -> int:
        return len(self._colors)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Read the frames one after the other."""
        return map(self._read, indices)

    def poses(self) -> dict[int, Pose | None]:
        """Return the pose of each frame, None where tracking was lost."""
        return dict(enumerate(self._T_world_cam))

    def reference(self) -> Trajectory | None:
        """Return the poses that are known."""
        known = [i for i, pose in enumerate(self._T_world_cam) if pose is not None]
        poses = [pose for pose in self._T_world_cam if pose is not None]
        return known_trajectory(known, [self._timestamps_s[i] for i in known], poses) if known else None

    def _read(self, index: int) -> Frame:
        file = self._colors[index]
        rgb, depth = read_rgb(file), None
        if self._register is not None:
            depth = self._register(read_depth_m(self._depth_file(file), _UNITS_PER_M))
            rgb = np.asarray(
                cv2.resize(rgb, (self.camera.width, self.camera.height), interpolation=cv2.INTER_AREA)
            )
        return Frame(index, self._timestamps_s[index], rgb, self.camera, depth, self._T_world_cam[index])

    def _depth_file(self, color: Path) -> Path:
        return self._path / "depth" / f"{color.stem}.png"

    def _registration(self, color: Camera | None, options: SourceOptions) -> DepthRegistration:
        height, width = read_depth_m(self._depth_file(self._colors[0]), _UNITS_PER_M).shape
        default = None if color is None else color.resized(width, height)
        target = camera_for(options.camera, default, width, height, str(self._path))
        if target.distortion != "none":
            raise DataError(f"{self.name}: depth is registered to a camera without distortion only")
        return DepthRegistration(self._camera("depth", width, height), target, np.eye(4))

    def _camera(self, which: str, width: int, height: int) -> Camera:
        """Read one calibration, which must be of images of this size."""
        file = self._path / "intrinsic" / f"intrinsic_{which}.txt"
        try:
            K = np.array([line.split() for _, line in read_lines(file)], dtype=np.float64)
            fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        except (ValueError, IndexError) as error:
            raise DataError(f"{file}: need a 4x4 matrix: {error}") from error
        if not (0.35 < cx / width < 0.65 and 0.35 < cy / height < 0.65):
            raise DataError(
                f"{file}: the principal point {cx:.0f}, {cy:.0f} is far from the middle of the {which} images "
                f"({width}x{height}); were they exported at another size? {HOW}"
            )
        return Camera(width, height, float(fx), float(fy), float(cx), float(cy))
