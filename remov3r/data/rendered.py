"""What rendered data sets share: an image file and an exact pose for every frame, at a fixed rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from remov3r.camera import Camera
from remov3r.data.pose_files import known_trajectory
from remov3r.types import Frame, Pose, Trajectory


class RenderedSequence(ABC):
    """Frames by number; a layout's reader sets the attributes and reads one frame."""

    name: str
    camera: Camera
    _files: Sequence[Path]
    _T_world_cam: Sequence[Pose]
    _fps: float

    def __len__(self) -> int:
        return len(self._files)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Read the frames one after the other."""
        return map(self._read, indices)

    def poses(self) -> dict[int, Pose | None]:
        """Return the pose of each frame."""
        return dict(enumerate(self._T_world_cam))

    def reference(self) -> Trajectory | None:
        """Return the camera's poses."""
        n = range(len(self))
        return known_trajectory(n, [i / self._fps for i in n], self._T_world_cam)

    @abstractmethod
    def _read(self, index: int) -> Frame: ...
