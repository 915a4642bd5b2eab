"""What can be set of the pose graph backend, and what it asks of loop closure."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import Float
from pydantic import Field

from remov3r.backends.features import Gray
from remov3r.backends.loop_closure import LoopConfig
from remov3r.backends.pose_graph_noise import NoiseConfig
from remov3r.backends.pose_graph_types import GraphConfig
from remov3r.backends.tracking import TrackerConfig
from remov3r.config import Config
from remov3r.types import DensePrediction, RelativePose


class PoseGraphConfig(Config):
    """The pose graph backend.

    Attributes:
        loop_closure: look for places seen before, to tie them together and to find the way again when lost.
        sort_loops_after: so many loops are sorted into right and wrong at once; then half as many more, and so on.
        sure_share: of a keyframe's points; where fewer agree with what the images say, and the front end that states
            its uncertainty contradicts it, the front end is right.
        weak_frames: so many frames in a row are held up by the motion so far; then tracking is lost.
        restart_after_frames: so many frames without a measurement, and a new keyframe starts afresh.
    """

    graph: GraphConfig = GraphConfig()
    noise: NoiseConfig = NoiseConfig()
    tracker: TrackerConfig = TrackerConfig()
    loops: LoopConfig = LoopConfig()
    loop_closure: bool = True
    sort_loops_after: int = Field(1, ge=1)
    keyframe_survivors: float = Field(0.25, gt=0, lt=1)
    keyframe_frames: int = Field(20, ge=1)
    keyframe_min_motion_px: float = Field(6.0, ge=0)
    sure_share: float = Field(0.5, ge=0, le=1)
    weak_frames: int = Field(5, ge=0)
    restart_after_frames: int = Field(8, ge=1)
    blank_contrast: float = Field(4.0, ge=0)


class LoopFinder(Protocol):
    """What the backend asks of loop closure; see `remov3r.backends.loop_closure.LoopCloser`."""

    def add(
        self,
        keyframe_index: int,
        gray: Gray,
        dense: DensePrediction,
        descriptor: Float[np.ndarray, " d"] | None,
    ) -> None:
        """Take in a keyframe."""
        ...

    def detect(self) -> tuple[RelativePose, ...]:
        """Return the loops of the keyframe last added, from older ones to it."""
        ...

    def relocalise(self, gray: Gray, descriptor: Float[np.ndarray, " d"] | None) -> RelativePose | None:
        """Return how an image lies to a keyframe that saw the same place."""
        ...
