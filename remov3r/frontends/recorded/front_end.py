"""A front end that repeats what another one wrote."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field

from remov3r.config import Config
from remov3r.errors import DataError, TrackingError
from remov3r.frontends.recorded.agreement import fitted_relative_sigma
from remov3r.frontends.recorded.dense import blind_prediction, to_prediction
from remov3r.frontends.recorded.recording import Match, RecordedFrame, Recording
from remov3r.geometry import inverse, rotation_angle_rad
from remov3r.types import Covariance, DensePrediction, Frame, FrameEstimate, Pose

logger = logging.getLogger(__name__)

MOST_UNMATCHED_AT_START = 60  # frames; then the recording is taken to be of something else
NO_ESTIMATE: Covariance = np.diag(
    [np.inf] * 6
)  # of the `T_key_cam` of frames about which nothing was recorded


class RecordedConfig(Config):
    """How a recording is read.

    Attributes:
        first: index in the source of the frame that the recording calls 0.
        stride: every how-manieth frame of the source the recorded front end was given.
        tolerance_s: largest difference of timestamps, where frames are told by these.
        keyframe_distance: for recordings without keyframes: start one after moving so much, as a share of the
            median depth,
        keyframe_angle_deg: or turning so much,
        keyframe_frames: or after so many recorded frames.
        relative_sigma: standard deviation of depth as a share of it, where the recording does not say; 0: fitted to
            how much the recorded depths of neighbours disagree.
    """

    first: int = 0
    stride: int = Field(1, ge=1)
    tolerance_s: float = Field(0.02, gt=0)
    keyframe_distance: float = Field(0.15, gt=0)
    keyframe_angle_deg: float = Field(15.0, gt=0)
    keyframe_frames: int = Field(30, ge=1)
    relative_sigma: float = Field(0.0, ge=0, lt=1)


class RecordedFrontEnd:
    """Answers each frame with what was recorded of it; see `FrontEnd`.

    The world is the first camera of which there is a pose. A frame that is not in the recording, or that has no
    pose there, repeats the last transform with an infinite covariance.
    """

    def __init__(self, recording: Recording, config: RecordedConfig | None = None) -> None:
        """Take a recording.

        Raises:
            DataError: the depth that sigma is fitted to cannot be read.
        """
        self._recording = recording
        self._config = config or RecordedConfig()
        said = any(frame.estimate is not None for frame in recording.frames)
        fitted = 0.05 if said else fitted_relative_sigma(recording)
        self._relative_sigma = self._config.relative_sigma or fitted
        self._frame: Frame | None = None
        self._record: RecordedFrame | None = None
        self._T_first: Pose | None = None  # of the camera that is the world, in the recording's world
        self._keyframe_index: int | None = None
        self._T_recorded_key: Pose | None = None  # the keyframe's pose in the recording's world
        self._keyframe_depth = 1.0
        self._since_keyframe = 0
        self._T_key_cam: Pose = np.eye(4)
        self._processed = 0
        self._unmatched: list[int] = []
        self._blind: list[int] = []

    def __getstate__(self) -> dict[str, Any]:
        """Return what a snapshot keeps: not the recording itself, and not the last frame."""
        kept = {name: value for name, value in vars(self).items() if name != "_recording"}
        return kept | {"_frame": None, "_record": None}

    @property
    def scale(self) -> str:
        """Whether recorded lengths are metres: "metric" or "unknown"."""
        return self._recording.scale

    def notes(self) -> tuple[str, ...]:
        """Say what the recording did not give."""
        notes = [
            f"recorded by {self._recording.kind}: {len(self._recording.frames)} frames, scale {self.scale}"
        ]
        if self._unmatched:
            notes.append(
                f"{len(self._unmatched)} of {self._processed} frames are not in the recording "
                f"(the first is {self._unmatched[0]})"
            )
        if self._blind:
            notes.append(
                f"{len(self._blind)} keyframes have no recorded depth (the first is {self._blind[0]})"
            )
        return tuple(notes)

    def process(self, frame: Frame) -> FrameEstimate:
        """Look one frame up.

        Raises:
            DataError: the recording does not belong to this source, or its maps cannot be read.
        """
        self._frame, self._record = frame, self._find(frame)
        self._processed += 1
        self._since_keyframe += self._record is not None
        if self._record is None:
            if not self._unmatched:
                logger.warning(
                    "frame %d is not in %s: its motion is unknown", frame.index, self._recording.path
                )
            self._unmatched.append(frame.index)
            self._check_overlap(frame)
        elif self._T_first is None:
            self._T_first = self._record.T_world_cam
        if self._keyframe_index is None or self._starts_keyframe(self._record):
            return self._keyframe(frame, self._record, promoted=False)
        return self._between(frame, self._record)

    def prepare(self, frame: Frame) -> None:
        """Do nothing: there is nothing to work ahead on."""

    def promote(self) -> FrameEstimate:
        """Make the frame last processed a keyframe; its depth is all missing where none was recorded.

        Raises:
            TrackingError: no frame has been processed.
            DataError: its maps cannot be read.
        """
        if self._frame is None:
            raise TrackingError("promote() needs a frame that went through process()")
        return self._keyframe(self._frame, self._record, promoted=True)

    def _find(self, frame: Frame) -> RecordedFrame | None:
        if self._recording.match is Match.TIMESTAMP:
            return self._recording.find(frame.timestamp_s, self._config.tolerance_s)
        return self._recording.find((frame.index - self._config.first) / self._config.stride, 1e-6)

    def _source_index(self, recorded: int) -> int:
        return self._config.first + self._config.stride * recorded

    def _check_overlap(self, frame: Frame) -> None:
        if len(self._unmatched) < self._processed or self._processed < MOST_UNMATCHED_AT_START:
            return
        by, numbers = self._recording.match, self._recording.numbers
        first, last = (
            (f"{numbers[0]:.0f}", f"{numbers[-1]:.0f}")
            if by is Match.INDEX
            else (f"{numbers[0]:.6f} s", f"{numbers[-1]:.6f} s")
        )
        here = str(frame.index) if by is Match.INDEX else f"{frame.timestamp_s:.6f} s"
        raise DataError(
            f"{self._recording.path}: none of the first {self._processed} frames is in the recording: it goes by "
            f"{by} from {first} to {last}, the source is at {here}; see recorded.first and recorded.stride"
        )

    def _starts_keyframe(self, record: RecordedFrame | None) -> bool:
        if record is None or record.T_world_cam is None:
            return False
        if record.is_keyframe is not None:
            return record.is_keyframe
        if self._T_recorded_key is None or self._since_keyframe >= self._config.keyframe_frames:
            return True
        T = inverse(self._T_recorded_key) @ record.T_world_cam
        moved = float(np.linalg.norm(T[:3, 3])) > self._config.keyframe_distance * self._keyframe_depth
        turned = float(np.rad2deg(rotation_angle_rad(T))) > self._config.keyframe_angle_deg
        return moved or turned

    def _keyframe(self, frame: Frame, record: RecordedFrame | None, promoted: bool) -> FrameEstimate:
        dense = self._dense(frame, record)
        there = dense.depth_m[dense.depth_m > 0]
        self._keyframe_depth = float(np.median(there)) if len(there) else self._keyframe_depth
        self._keyframe_index, self._since_keyframe, self._T_key_cam = frame.index, 0, np.eye(4)
        self._T_recorded_key = T = None if record is None else record.T_world_cam
        said = None if record is None else (record.promoted if promoted else None) or record.estimate
        if said is not None and said.is_keyframe:
            world = None if said.T_world_key is None else self._in_first(said.T_world_key)
            self._T_recorded_key = T if said.T_world_key is None else said.T_world_key
            return replace(
                said, frame_index=frame.index, keyframe_index=frame.index, T_world_key=world, dense=dense
            )
        world, covariance = (None, NO_ESTIMATE) if T is None else (self._in_first(T), None)
        return FrameEstimate(frame.index, frame.index, np.eye(4), world, None, covariance, dense)

    def _between(self, frame: Frame, record: RecordedFrame | None) -> FrameEstimate:
        said = None if record is None else record.estimate
        embedding, covariance = (None, None) if said is None else (said.pose_embedding, said.covariance)
        assert self._keyframe_index is not None
        if said is not None and self._source_index(said.keyframe_index) == self._keyframe_index:
            self._T_key_cam = said.T_key_cam
        elif record is None or record.T_world_cam is None or self._T_recorded_key is None:
            covariance = NO_ESTIMATE
        else:
            self._T_key_cam = inverse(self._T_recorded_key) @ record.T_world_cam
        return FrameEstimate(frame.index, self._keyframe_index, self._T_key_cam, None, embedding, covariance)

    def _in_first(self, T_recorded_cam: Pose) -> Pose:
        """From the recording's world to the first camera; where these are the same, poses are kept to the bit."""
        if self._T_first is None or np.allclose(self._T_first, np.eye(4), rtol=0, atol=1e-9):
            return T_recorded_cam
        return inverse(self._T_first) @ T_recorded_cam

    def _dense(self, frame: Frame, record: RecordedFrame | None) -> DensePrediction:
        recorded = None if record is None else record.load_dense(frame.camera)
        if record is None or recorded is None:
            if not self._blind:
                logger.warning("keyframe %d: no depth of it in %s", frame.index, self._recording.path)
            self._blind.append(frame.index)
            return blind_prediction(frame.camera)
        of = self._recording
        return to_prediction(
            recorded, frame.camera, of.framing, of.edge_px, self._relative_sigma, record.where
        )
