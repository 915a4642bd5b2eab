"""A video file, decoded by OpenCV frame after frame."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from remov3r.data.calibration import camera_for, sidecar_camera
from remov3r.data.sequence import SourceOptions
from remov3r.data.tum_trajectory import read_tum
from remov3r.errors import DataError
from remov3r.types import Frame, Pose, Trajectory

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm"})
# Containers estimate their number of frames; a file that ends before this share of it is taken for damaged.
COMPLETE = 0.9

logger = logging.getLogger(__name__)


class VideoFile:
    """A video; its calibration is given, or stands beside it as NAME.toml, its ground truth as NAME.tum.

    Raises:
        DataError: missing, empty or unreadable file, no camera, or depth asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        if options.sensor:
            raise DataError(f"{path}: a video has no depth; leave out the sensor front end")
        self._path, self._truth = path, path.with_suffix(".tum")
        capture = _open(path)
        fps = capture.get(cv2.CAP_PROP_FPS)
        self._fps = fps if np.isfinite(fps) and fps > 0 else options.fps
        self._count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        ok, first = capture.read()
        if not ok:
            raise DataError(f"{path}: no frame can be decoded; is the video empty or damaged?")
        if self._count < 1:
            self._count = 1
            while capture.grab():
                self._count += 1
        capture.release()
        self.name = path.name
        height, width = first.shape[:2]
        self.camera = camera_for(options.camera, sidecar_camera(path), width, height, str(path))

    def __len__(self) -> int:
        return self._count

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Decode the frames; those between them are skipped.

        Raises:
            DataError: the video ends long before the number of frames its container states.
        """
        capture = _open(self._path)
        position, timestamp_s = -1, -np.inf
        try:
            for index in indices:
                while position < index and capture.grab():
                    position += 1
                    timestamp_s = self._timestamp(capture, position, timestamp_s)
                ok, bgr = capture.retrieve() if position == index else (False, None)
                if not ok:
                    self._report_end(position + 1)
                    return
                yield Frame(index, timestamp_s, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), self.camera)
        finally:
            capture.release()

    def poses(self) -> dict[int, Pose | None]:
        """Return no pose for any frame."""
        return dict.fromkeys(range(len(self)))

    def reference(self) -> Trajectory | None:
        """Return the trajectory that stands beside the video as NAME.tum."""
        return read_tum(self._truth) if self._truth.exists() else None

    def _timestamp(self, capture: cv2.VideoCapture, position: int, previous_s: float) -> float:
        """Container time of the frame last grabbed; where it stands still or is absent, one frame on."""
        time_s = float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
        if np.isfinite(time_s) and time_s > previous_s:
            return time_s
        return previous_s + 1 / self._fps if position else 0.0

    def _report_end(self, decoded: int) -> None:
        if decoded < COMPLETE * self._count:
            raise DataError(
                f"{self._path}: ends after frame {decoded} of {self._count}: the file is truncated or "
                f"damaged; use --max-frames to take what is there"
            )
        logger.info("%s: %d frames, the container states %d", self._path, decoded, self._count)


def _open(path: Path) -> cv2.VideoCapture:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise DataError(f"{path}: not a readable video (damaged, cut off, or of an unknown format)")
    return capture
