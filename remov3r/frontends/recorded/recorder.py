"""Record what a front end says, so that it can be replayed without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from remov3r.errors import TrackingError
from remov3r.frontends.recorded.local_estimates import estimate_arrays
from remov3r.frontends.recorded.neutral import KEYFRAME, Manifest, frame_file, new_folder, put_manifest
from remov3r.protocols import FrontEnd
from remov3r.types import Frame, FrameEstimate


class RecordingFrontEnd:
    """Passes everything on to a front end and writes its estimates in the neutral format; see `FrontEnd`.

    The recording is complete after every frame, so a run that is stopped leaves a good one.
    """

    def __init__(self, front_end: FrontEnd, path: str | Path) -> None:
        """Make the folder.

        Raises:
            DataError: it is not empty.
        """
        self._front_end = front_end
        self._folder = new_folder(Path(path))
        self._frame: Frame | None = None
        scale = getattr(front_end, "scale", "metric")
        self._manifest = Manifest(poses="local", scale=scale)

    @property
    def scale(self) -> str:
        """Whether lengths are metres: "metric" or "unknown"."""
        return self._manifest.scale

    def notes(self) -> tuple[str, ...]:
        """Return the front end's own notes."""
        own: tuple[str, ...] = getattr(self._front_end, "notes", tuple)()
        return own

    def process(self, frame: Frame) -> FrameEstimate:
        """Estimate one frame and record it."""
        self._frame = frame
        estimate = self._front_end.process(frame)
        self._write(frame_file(frame.index), estimate, frame.timestamp_s)
        self._manifest = self._manifest.model_copy(update={"frames": self._manifest.frames + 1})
        put_manifest(self._folder, self._manifest)
        return estimate

    def prepare(self, frame: Frame) -> None:
        """Pass on."""
        self._front_end.prepare(frame)

    def promote(self) -> FrameEstimate:
        """Make the frame last processed a keyframe, and record what the front end says then.

        Raises:
            TrackingError: no frame has been processed.
        """
        if self._frame is None:
            raise TrackingError("promote() needs a frame that went through process()")
        estimate = self._front_end.promote()
        name = Path(frame_file(self._frame.index)).stem + KEYFRAME
        self._write(name, estimate, self._frame.timestamp_s)
        return estimate

    def _write(self, name: str, estimate: FrameEstimate, timestamp_s: float) -> None:
        arrays: dict[str, Any] = {**estimate_arrays(estimate, timestamp_s)}
        np.savez(self._folder / name, **arrays)
