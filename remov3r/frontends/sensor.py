"""A front end that measures no motion: it hands on the depth of an RGB-D sensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import Field

from remov3r.config import Config
from remov3r.errors import DataError
from remov3r.geometry import unproject
from remov3r.types import DensePrediction, DepthMap, Frame, FrameEstimate

# Larger than any motion between frames: says that the identity in `T_key_cam` is no measurement.
NO_MOTION_MEASURED = np.diag([np.pi**2] * 3 + [100.0] * 3)


class SensorConfig(Config):
    """Depth noise of a Kinect-like sensor: sigma = floor + growth · (z - nearest)²."""

    noise_floor_m: float = Field(0.0012, gt=0)
    noise_growth_per_m: float = Field(0.0019, ge=0)
    noise_nearest_m: float = Field(0.4, ge=0)
    max_depth_m: float = Field(8.0, gt=0)


class SensorFrontEnd:
    """Gives each keyframe the sensor's depth; keyframes are the backend's choice. See `FrontEnd`."""

    def __init__(self, config: SensorConfig | None = None) -> None:
        self._config = config or SensorConfig()
        self._frame: Frame | None = None
        self._keyframe_index: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what a snapshot keeps: not the last frame, whose time is over between two frames."""
        return vars(self) | {"_frame": None}

    def process(self, frame: Frame) -> FrameEstimate:
        """Pass a frame on; the first is a keyframe.

        Raises:
            DataError: the frame has no depth.
        """
        if frame.depth_m is None:
            raise DataError(
                f"frame {frame.index}: no sensor depth; use --front-end network or a source with depth"
            )
        self._frame = frame
        if self._keyframe_index is None:
            return self.promote()
        return FrameEstimate(frame.index, self._keyframe_index, np.eye(4), covariance=NO_MOTION_MEASURED)

    def prepare(self, frame: Frame) -> None:
        """Do nothing: there is nothing to work ahead on."""

    def promote(self) -> FrameEstimate:
        """Make the last frame a keyframe.

        Raises:
            DataError: no frame has been processed.
        """
        frame = self._frame
        if frame is None or frame.depth_m is None:
            raise DataError("promote() needs a frame that went through process()")
        self._keyframe_index = frame.index
        depth_m = self._valid(frame.depth_m)
        sigma_m = self._sigma(depth_m)
        confidence = np.where(depth_m > 0, 1 / np.maximum(sigma_m, 1e-6), 0.0).astype(np.float32)
        dense = DensePrediction(
            frame.camera, depth_m, confidence, unproject(depth_m, frame.camera), confidence, sigma_m
        )
        return FrameEstimate(frame.index, frame.index, np.eye(4), covariance=NO_MOTION_MEASURED, dense=dense)

    def _valid(self, depth_m: DepthMap) -> DepthMap:
        usable = np.isfinite(depth_m) & (depth_m > 0) & (depth_m < self._config.max_depth_m)
        return np.where(usable, depth_m, 0.0).astype(np.float32)

    def _sigma(self, depth_m: DepthMap) -> Float[np.ndarray, "h w"]:
        c = self._config
        sigma = c.noise_floor_m + c.noise_growth_per_m * (depth_m - c.noise_nearest_m) ** 2
        return np.where(depth_m > 0, sigma, np.inf).astype(np.float32)
