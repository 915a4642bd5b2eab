"""Rendered sequences that try a backend: a corridor, a loop walked twice, a turn on the spot, lost images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.data.synthetic.paths import look_along
from remov3r.data.synthetic.rooms import RoomConfig
from remov3r.data.synthetic.sensor import SensorConfig
from remov3r.data.synthetic.world import SyntheticWorld, WorldConfig
from remov3r.errors import DataError
from remov3r.types import Frame

Poses = Float[np.ndarray, "n 4 4"]
CAMERA = Camera(256, 192, 208.0, 208.0, 127.5, 95.5)
LOST_SHARE = (0.42, 0.5)  # of the frames of lost-and-found, in which the lens is covered
_SENSOR = SensorConfig(noise=(0.003, 0.01), motion_blur=0.3, jpeg_quality=(90, 97))
_CORRIDOR = RoomConfig(side_m=(2.2, 3.2), hall_share=0.5, hall_side_m=(9.0, 11.0), paint_share=0.0)
_ROOM = RoomConfig(side_m=(3.5, 5.0), hall_share=0.0, paint_share=0.0)


@dataclass(frozen=True)
class Situation:
    """One of the sequences.

    Attributes:
        looped: places are seen again after a while.
        seed: of the room; it leaves the way free.
    """

    room: RoomConfig
    seed: int
    looped: bool
    path: Callable[[int], Poses]
    loses_images: bool = False


def _corridor(frames: int) -> Poses:
    """8 m straight on, swaying."""
    s = np.linspace(0, 1, frames)
    sway = 0.05 * np.sin(12 * np.pi * s)
    position = np.stack([-4 + 8 * s, sway, 1.35 + 0.03 * np.sin(20 * np.pi * s)], 1)
    yaw, down = 0.12 * np.sin(6 * np.pi * s), 0.1 + 0.05 * np.sin(5 * np.pi * s)
    return look_along(position, _gaze(yaw, down), 0.02 * np.sin(9 * np.pi * s))


def _two_rounds(frames: int) -> Poses:
    """Twice along a circle through the room, looking outwards and ahead."""
    a = np.linspace(0, 4 * np.pi, frames)
    radius = 0.8 + 0.06 * np.sin(a / 2)
    position = np.stack([radius * np.cos(a), radius * np.sin(a), 1.4 + 0.08 * np.sin(1.5 * a)], 1)
    return look_along(position, _gaze(a + 0.9 + 0.1 * np.sin(3 * a), 0.15 + 0.05 * np.sin(2.5 * a)), 0 * a)


def _turn(frames: int) -> Poses:
    """Turns to the left and the right on the spot; the lens is a hand's breadth before the axis."""
    s = np.linspace(0, 1, frames)
    yaw, down = 1.4 * np.sin(2 * np.pi * s), 0.15 + 0.15 * np.sin(6 * np.pi * s)
    forward = _gaze(yaw, down)
    return look_along(np.array([0.0, 0.0, 1.4]) + 0.08 * forward, forward, 0.03 * np.sin(8 * np.pi * s))


def _there_and_back(frames: int) -> Poses:
    """A third of a round there, and back the same way, a little beside it."""
    s = np.linspace(0, 1, frames)
    a = 2.2 * np.sin(np.pi * s)
    position = np.stack([np.cos(a), np.sin(a), 1.4 + 0.08 * np.sin(2 * np.pi * s)], 1)
    return look_along(
        position, _gaze(a + 0.9 + 0.1 * np.sin(9 * s), 0.15 + 0 * s), 0.02 * np.sin(7 * np.pi * s)
    )


def _gaze(yaw: Float[np.ndarray, " n"], down: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    return np.stack([np.cos(yaw) * np.cos(down), np.sin(yaw) * np.cos(down), -np.sin(down)], 1)


SITUATIONS: dict[str, Situation] = {
    "corridor": Situation(_CORRIDOR, 16, False, _corridor),
    "loop": Situation(_ROOM, 9, True, _two_rounds),
    "rotation": Situation(_ROOM, 2, False, _turn),
    "lost-and-found": Situation(_ROOM, 0, True, _there_and_back, loses_images=True),
}


class SituationSource:
    """Renders one of the situations (a FrameSource); the same arguments give the same frames.

    Attributes:
        T_world_cam: pose of every frame; the world's z points up.
        lost: frames that show nothing but an even grey, without depth.
    """

    def __init__(self, name: str, frames: int) -> None:
        """Plan the walk; nothing is rendered yet.

        Raises:
            DataError: there is no such situation, or too few frames to walk it.
        """
        if name not in SITUATIONS:
            raise DataError(f"situation {name!r}: there are {', '.join(SITUATIONS)}")
        if frames < 2:
            raise DataError(f"situation {name!r}: {frames} frames, need at least 2")
        self._situation = situation = SITUATIONS[name]
        self.name, self.camera = name, CAMERA
        self.T_world_cam: Poses = situation.path(frames)
        self.lost = lost_frames(name, frames)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.T_world_cam)

    def __iter__(self) -> Iterator[Frame]:
        """Render the frames in order."""
        c, seed = self.camera, self._situation.seed
        K = np.broadcast_to(c.K, (len(self), 3, 3))
        rng = np.random.default_rng(seed)
        world = SyntheticWorld(WorldConfig(texture_px=256, room=self._situation.room, sensor=_SENSOR))
        room = world.room(seed)
        stream = world.frames(room, c.width, c.height, K, self.T_world_cam, video=True, seed=seed)
        for index, (rgb, depth_m) in enumerate(stream):
            if index in self.lost:
                rgb = np.clip(rng.normal(110, 1.5, rgb.shape), 0, 255).astype(np.uint8)
                depth_m = np.zeros_like(depth_m)
            yield Frame(index, index / 30, rgb, c, depth_m, self.T_world_cam[index])


def lost_frames(name: str, frames: int) -> range:
    """Return the frames of a situation that show nothing."""
    if not SITUATIONS[name].loses_images:
        return range(0)
    return range(int(LOST_SHARE[0] * frames), int(LOST_SHARE[1] * frames))
