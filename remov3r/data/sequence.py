"""What a reader of one data layout provides; `StreamedSource` adds checks, undistortion and read-ahead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from remov3r.camera import Camera
from remov3r.types import Frame, Pose, Trajectory


@dataclass(frozen=True)
class SourceOptions:
    """What a user may say about an input.

    Attributes:
        camera: "fx,fy,cx,cy", the path of a TOML calibration, or None for what the data set says.
        sensor: deliver depth registered to the colour camera, and the colour camera's poses.
        fps: frames per second where the input holds no timestamps.
    """

    camera: str | None = None
    sensor: bool = False
    fps: float = 30.0


@runtime_checkable
class StoredSequence(Protocol):
    """Frames as they are stored.

    Attributes:
        name: shown to people.
        camera: of the images as stored, distortion included.
    """

    name: str
    camera: Camera

    def __len__(self) -> int:
        """Return the number of frames stored (an estimate for some videos)."""
        ...

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Read the frames of increasing indices one after the other. Raises DataError naming the file."""
        ...

    def poses(self) -> dict[int, Pose | None]:
        """Return the pose of each frame that can be read, by index, None where unknown; decodes no image."""
        ...

    def reference(self) -> Trajectory | None:
        """Return the ground-truth trajectory at its own rate, or None where there is none."""
        ...
