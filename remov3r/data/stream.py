"""The source that the pipeline sees: chosen frames of a stored sequence, checked, undistorted, read ahead."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np

from remov3r.camera import Camera
from remov3r.data.sequence import StoredSequence
from remov3r.errors import DataError
from remov3r.types import Frame, Pose, Trajectory

logger = logging.getLogger(__name__)


class StreamedSource:
    """Deliver chosen frames of a stored sequence; implements `FrameSource`.

    Args:
        sequence: the frames as stored.
        indices: which of them, increasing.
        ahead: how many frames are decoded in a thread ahead of the consumer; this bounds the memory.
    """

    def __init__(self, sequence: StoredSequence, indices: Sequence[int], ahead: int = 4) -> None:
        self._sequence, self._indices, self._ahead = sequence, indices, ahead
        self._rectify = _Rectifier(sequence.camera)
        self.name = sequence.name
        self.camera = sequence.camera.without_distortion()

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[Frame]:
        """Deliver the frames in order.

        Raises:
            DataError: a frame cannot be read, is of another size, or the first holds no valid depth.
        """
        for n, frame in enumerate(self.frames(self._indices)):
            if frame.depth_m is not None and not frame.depth_m.any():
                where = f"{self.name}, frame {frame.index}: the depth image holds no valid pixel"
                if n == 0:
                    raise DataError(f"{where}, so there is nothing to start from; use --start to skip it")
                logger.warning(where)
            yield frame

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Deliver the frames with these indices (in the sequence's own numbering, increasing).

        Raises:
            DataError: there are not so many frames, or one cannot be read or is of another size.
        """
        count = len(self._sequence)
        if indices and indices[-1] >= count:
            raise DataError(f"{self.name}: holds {count} frames, there is no frame {indices[-1]}")
        return _read_ahead(map(self._checked, self._sequence.frames(indices)), self._ahead)

    def after(self, count: int) -> Iterator[Frame]:
        """Deliver the frames after the first so many, without decoding those."""
        return self.frames(self._indices[count:])

    def poses(self) -> dict[int, Pose | None]:
        """Return the pose of each of the frames, by index, None where unknown; decodes no image."""
        poses = self._sequence.poses()
        return {i: poses[i] for i in self._indices if i in poses}

    def reference(self) -> Trajectory | None:
        """Return the ground-truth trajectory of the whole sequence, or None where there is none."""
        return self._sequence.reference()

    def _checked(self, frame: Frame) -> Frame:
        expected = (self.camera.height, self.camera.width)
        images = {"image": frame.rgb, "depth": frame.depth_m}
        for what, image in images.items():
            if image is not None and image.shape[:2] != expected:
                raise DataError(
                    f"{self.name}, frame {frame.index}: the {what} is {image.shape[1]}x{image.shape[0]}, "
                    f"all others are {expected[1]}x{expected[0]}"
                )
        return self._rectify(frame)


class _Rectifier:
    """Undistorts colour bilinearly and depth by the nearest pixel, so that no depth is made up at edges."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera.without_distortion()
        self._maps = None if camera.distortion == "none" else camera.undistortion_maps()

    def __call__(self, frame: Frame) -> Frame:
        if self._maps is None:
            return replace(frame, camera=self._camera)
        rgb = np.asarray(cv2.remap(frame.rgb, *self._maps, cv2.INTER_LINEAR))
        depth = frame.depth_m
        if depth is not None:
            depth = np.asarray(cv2.remap(depth, *self._maps, cv2.INTER_NEAREST))
        return replace(frame, camera=self._camera, rgb=rgb, depth_m=depth)


def _read_ahead(frames: Iterator[Frame], ahead: int) -> Iterator[Frame]:
    """Run the iterator in a thread, at most `ahead` frames in front of the consumer, who gets its errors."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="remov3r-read")
    try:
        pending: deque[Future[Frame | None]] = deque(pool.submit(next, frames, None) for _ in range(ahead))
        while (frame := pending.popleft().result()) is not None:
            pending.append(pool.submit(next, frames, None))
            yield frame
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
