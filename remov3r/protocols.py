"""The variation points of the pipeline: anything with these verbs can be plugged in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.types import Covariance, Frame, FrameEstimate, Pose, TrackedPose


@runtime_checkable
class FrameSource(Protocol):
    """A sequence of undistorted frames, streamed.

    Attributes:
        name: shown to people.
        camera: of every frame that is delivered (already undistorted).
    """

    name: str
    camera: Camera

    def __len__(self) -> int:
        """Return the number of frames that will be delivered (an estimate for some videos)."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Deliver the frames in order. Raises DataError naming file and frame."""
        ...


@runtime_checkable
class FrontEnd(Protocol):
    """Says of each frame how it lies to its keyframe, and of each keyframe what it sees."""

    def process(self, frame: Frame) -> FrameEstimate:
        """Estimate one frame; `dense` is filled when the front end itself makes it a keyframe."""
        ...

    def prepare(self, frame: Frame) -> None:
        """Start on a frame that will be processed soon, in the background; calling it is optional."""
        ...

    def promote(self) -> FrameEstimate:
        """Make the frame last processed a keyframe because the backend asks for one; fills `dense`."""
        ...


@runtime_checkable
class Telling(Protocol):
    """A front end that says more of itself; those that do not are metric and have nothing to note."""

    @property
    def scale(self) -> str:
        """Return "metric" where its lengths are metres, else "unknown"."""
        ...

    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of it at the end, in words."""
        ...


@runtime_checkable
class Backend(Protocol):
    """Turns estimates into a trajectory. Keyed by frame index throughout."""

    def track(self, frame: Frame, estimate: FrameEstimate) -> TrackedPose:
        """Give the online pose of a frame (never raises on hard images: the state says WEAK or LOST)."""
        ...

    def wants_keyframe(self) -> bool:
        """Whether the frame last tracked must become a keyframe."""
        ...

    def add_keyframe(self, frame: Frame, estimate: FrameEstimate) -> TrackedPose:
        """Insert the frame last tracked as keyframe (`estimate.dense` is filled) and optimise around it."""
        ...

    def finish(self) -> tuple[str, ...]:
        """Run the closing optimisation; return notes on what was degraded. Afterwards only the two below."""
        ...

    def poses(self) -> dict[int, Pose]:
        """Return T_world_cam of every tracked frame, re-anchored to its keyframe as optimised last."""
        ...

    def covariances(self) -> dict[int, Covariance]:
        """Return the covariance of T_world_cam of each frame where it is known (rotation first, camera's frame)."""
        ...

    def landmarks(self, frame_index: int) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
        """Return pixels and z-depth in metres of the well-observed landmarks of a keyframe (may be empty)."""
        ...
