"""A rendered room as a source of frames: video along a handheld path with exact depth and poses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.data.synthetic.paths import PathConfig, handheld_path
from remov3r.data.synthetic.rooms import RoomConfig
from remov3r.data.synthetic.world import SyntheticWorld, WorldConfig
from remov3r.errors import DataError
from remov3r.types import Frame

Stretch = tuple[int, int]


def _default_world() -> SyntheticWorld:
    """A world for video at 320 to 640 pixels: finer textures, walls with a pattern, living-sized rooms."""
    room = RoomConfig(side_m=(3.5, 5.0), hall_share=0.0, paint_share=0.0)
    return SyntheticWorld(WorldConfig(texture_px=256, room=room))


class SyntheticSource:
    """Streams a walk through one room (a FrameSource); the same arguments give the same frames.

    Attributes:
        T_world_cam: pose of every frame; the world's z points up, the origin is the middle of the floor.
    """

    def __init__(
        self,
        seed: int,
        n_frames: int,
        camera: Camera | None = None,
        fps: float = 30.0,
        *,
        world: SyntheticWorld | None = None,
        path: PathConfig | None = None,
        motion: Literal["handheld", "static"] = "handheld",
        blank: Stretch | None = None,
        black: Stretch | None = None,
    ) -> None:
        """Draw the room and the path; nothing is rendered yet.

        Args:
            camera: without distortion; 320×240 with 65 degrees of view when not given.
            path: how the camera moves; by default it returns to where it began.
            motion: "static" holds the first pose.
            blank: frames [start, stop) show nothing but an even grey, as when a hand covers half the light.
            black: frames [start, stop) are black. Depth is missing on blank and black frames.
        Raises:
            DataError: no frames, a distorted camera, or a room without a place to stand.
        """
        if n_frames < 1:
            raise DataError(f"synthetic source: {n_frames} frames, need at least 1")
        self.camera = camera or Camera(320, 240, 260.0, 260.0, 159.5, 119.5)
        if self.camera.distortion != "none":
            raise DataError(f"synthetic source: camera distortion {self.camera.distortion!r}, need 'none'")
        self.name = f"synthetic room {seed}"
        self._seed, self._fps = seed, fps
        self._world = world or _default_world()
        self._room = self._world.room(seed)
        self._blank, self._black = range(*(blank or (0, 0))), range(*(black or (0, 0)))
        poses = handheld_path(self._room, seed, n_frames, fps, path or PathConfig(returning=True))
        self.T_world_cam: Float[np.ndarray, "n 4 4"] = (
            np.repeat(poses[:1], n_frames, axis=0) if motion == "static" else poses
        )

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.T_world_cam)

    def __iter__(self) -> Iterator[Frame]:
        """Render the frames in order."""
        c = self.camera
        K = np.broadcast_to(c.K, (len(self), 3, 3))
        rng = np.random.default_rng(self._seed)
        stream = self._world.frames(
            self._room, c.width, c.height, K, self.T_world_cam, video=True, seed=self._seed
        )
        for index, (rgb, depth_m) in enumerate(stream):
            if index in self._black or index in self._blank:
                level = 110 if index in self._blank else 0
                rgb = np.clip(rng.normal(level, 1.5, rgb.shape), 0, 255).astype(np.uint8)
                depth_m = np.zeros_like(depth_m)
            yield Frame(index, index / self._fps, rgb, c, depth_m, self.T_world_cam[index])
