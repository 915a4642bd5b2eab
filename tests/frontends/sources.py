"""Frames of the textured room as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from remov3r.types import Frame
from tests.backends.room import CAMERA
from tests.backends.textured_room import frames, path


class ListedFrames:
    """A `FrameSource` of frames that are there already."""

    name = "textured room"
    camera = CAMERA

    def __init__(self, listed: Sequence[Frame]) -> None:
        self._listed = listed

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._listed)


def room_frames(count: int) -> list[Frame]:
    """The first frames of the walk whose poses `layouts.poses` gives."""
    return frames(path(40)[:count])
