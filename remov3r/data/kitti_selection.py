"""KITTI's depth selection: the 1000 single pictures of val_selection_cropped, 1216×352, with depth and intrinsics.

    image/2011_09_26_drive_0002_sync_image_0000000005_image_02.png
    groundtruth_depth/2011_09_26_drive_0002_sync_groundtruth_depth_0000000005_image_02.png    256 units a metre
    intrinsics/2011_09_26_drive_0002_sync_image_0000000005_image_02.txt                       K, 9 numbers

Pictures of several drives and of both colour cameras; there are no poses. Their intrinsics differ by the day of the
drive: each picture is resampled to those of the first, which for pinhole cameras is a scale and a shift of the image.

References: Uhrig et al., Sparsity Invariant CNNs, 3DV 2017; the readme of the depth devkit.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from remov3r.data.calibration import camera_for
from remov3r.data.faults import MissingFile
from remov3r.data.images import image_files, read_rgb
from remov3r.data.kitti_odometry import projection_camera
from remov3r.data.kitti_raw import UNITS_PER_M
from remov3r.data.listed import ListedSequence
from remov3r.data.sequence import SourceOptions
from remov3r.data.tables import read_numbers
from remov3r.errors import DataError
from remov3r.types import Frame

FPS = 10.0


class KittiSelection(ListedSequence):
    """The pictures by name.

    Raises:
        DataError: no images, or one without intrinsics.
    """

    _units_per_m = UNITS_PER_M

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self.name = path.resolve().name
        self._files = image_files(path / "image")
        if not self._files:
            raise DataError(f"{path / 'image'}: holds no images")
        self._timestamps_s = [i / FPS for i in range(len(self._files))]
        self._T_world_cam = [None] * len(self._files)
        self._K = [read_numbers(path / "intrinsics" / f"{f.stem}.txt", 9).reshape(3, 3) for f in self._files]
        height, width = read_rgb(self._files[0]).shape[:2]
        default = projection_camera(np.pad(self._K[0], ((0, 0), (0, 1))), width, height)
        self.camera = camera_for(options.camera, default, width, height, str(path))
        if options.sensor:
            folder = path / "groundtruth_depth"
            if not folder.is_dir():
                raise MissingFile(f"{folder}: no such folder")
            self._depth_files = [
                folder / f.name.replace("_sync_image_", "_sync_groundtruth_depth_") for f in self._files
            ]

    def _read(self, index: int) -> Frame:
        frame = super()._read(index)
        K = self._K[index]
        if np.array_equal(K, self._K[0]):
            return frame
        A = (K @ np.linalg.inv(self._K[0]))[:2]  # from pixels of the first camera to those of this one
        rgb = _warped(frame.rgb, A, cv2.INTER_LINEAR)
        depth = None if frame.depth_m is None else _warped(frame.depth_m, A, cv2.INTER_NEAREST)
        return replace(frame, rgb=rgb, depth_m=depth)


def _warped(image: np.ndarray, A: Float[np.ndarray, "2 3"], flag: int) -> np.ndarray:
    height, width = image.shape[:2]
    return np.asarray(cv2.warpAffine(image, A, (width, height), flags=flag | cv2.WARP_INVERSE_MAP))
