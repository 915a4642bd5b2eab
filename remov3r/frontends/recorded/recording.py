"""What every reader of recorded output returns: poses and dense geometry by frame, and how to find a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.errors import DataError
from remov3r.types import DepthMap, FrameEstimate, Pose

Points = Float[np.ndarray, "h w 3"]


class Match(StrEnum):
    """How a recorded frame names the frame of the source that it belongs to."""

    INDEX = "index"
    TIMESTAMP = "timestamp"


class Framing(StrEnum):
    """Which part of the source's image the recorded maps show."""

    INTRINSICS = "intrinsics"  # what the recorded intrinsics, which are the camera's own, say
    CENTRE = "centre"  # the image evenly resized and cut out around its centre


@dataclass(frozen=True)
class RecordedDense:
    """Dense geometry of one frame as it was recorded, in the recording's own unit of length.

    Attributes:
        depth_m: z-depth; not finite or not positive where missing.
        K: intrinsics at the size of the maps; None where the recording has none.
        confidence: of the depth, larger is better, of no particular unit; None where there is none.
        points_cam: points in the camera frame; None where depth and intrinsics are all there is.
        points_confidence: of the points; None: the depth's.
        sigma_m: standard deviation of the depth; None where it must be told from the confidence.
    """

    depth_m: DepthMap
    K: Float[np.ndarray, "3 3"] | None = None
    confidence: DepthMap | None = None
    points_cam: Points | None = None
    points_confidence: DepthMap | None = None
    sigma_m: DepthMap | None = None


LoadDense = Callable[[Camera | None], RecordedDense | None]


def no_dense(camera: Camera | None) -> RecordedDense | None:
    """Load nothing: the `load_dense` of frames without dense geometry."""
    return None


@dataclass(frozen=True)
class RecordedFrame:
    """One recorded frame.

    Attributes:
        number: index or timestamp in seconds, as `Recording.match` says.
        where: the file it comes from, for messages.
        T_world_cam: None where tracking was lost.
        is_keyframe: None where the recording has no keyframes.
        load_dense: reads the dense geometry. It is given the source's camera, or None where that is not known;
            only recordings that hold nothing but a cloud need it.
        estimate: the front end's own words, without dense geometry, where these were recorded.
        promoted: the same after the backend made the frame a keyframe.
    """

    number: float
    where: str
    T_world_cam: Pose | None
    is_keyframe: bool | None = None
    load_dense: LoadDense = no_dense
    estimate: FrameEstimate | None = None
    promoted: FrameEstimate | None = None


@dataclass(frozen=True)
class Recording:
    """Everything that a front end wrote about one sequence.

    Attributes:
        frames: in increasing order of their numbers.
        framing: how the maps lie in the source's images; `edge_px` are cut off all round before that.
        scale: "metric" or "unknown", as in `Trajectory`.
    Raises:
        DataError: no frames, or two of the same number.
    """

    kind: str
    path: Path
    frames: tuple[RecordedFrame, ...]
    match: Match = Match.INDEX
    framing: Framing = Framing.INTRINSICS
    edge_px: int = 0
    scale: str = "unknown"

    def __post_init__(self) -> None:
        if not self.frames:
            raise DataError(f"{self.path}: the recording holds no frames")
        steps = np.diff(self.numbers)
        if not (steps > 0).all():
            at = int(np.flatnonzero(~(steps > 0))[0])
            raise DataError(
                f"{self.frames[at + 1].where}: {self.match} {self.numbers[at + 1]:.9g} does not come after "
                f"{self.numbers[at]:.9g}"
            )

    @cached_property
    def numbers(self) -> Float[np.ndarray, " n"]:
        """The number of each frame."""
        return np.array([frame.number for frame in self.frames], np.float64)

    def find(self, number: float, tolerance: float) -> RecordedFrame | None:
        """Return the frame nearest to an index or timestamp, or None when it is farther off than allowed."""
        after = int(np.searchsorted(self.numbers, number))
        near = [i for i in (after - 1, after) if 0 <= i < len(self.frames)]
        best = min(near, key=lambda i: abs(self.numbers[i] - number))
        return self.frames[best] if abs(self.numbers[best] - number) <= tolerance else None


def match_of(numbers: list[float]) -> Match:
    """Tell what recorded numbers are: whole numbers are indices, others are seconds."""
    return Match.INDEX if all(float(n).is_integer() for n in numbers) else Match.TIMESTAMP
