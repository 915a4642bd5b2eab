"""The synthetic world's front door: rooms by seed, and rendered clips with exact depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.data.synthetic.paths import candidate_views
from remov3r.data.synthetic.raycast import Views, cast
from remov3r.data.synthetic.rooms import Room, RoomConfig, build_room
from remov3r.data.synthetic.sensor import Sensor, SensorConfig
from remov3r.data.synthetic.shading import ShadowMap, shade, shadow_map
from remov3r.data.synthetic.textures import build_atlas
from remov3r.errors import ShapeError
from remov3r.geometry import inverse, transform

_PIXELS_AT_ONCE = 160_000  # intermediate arrays stay in the processor's cache


class WorldConfig(Config):
    """The synthetic world.

    Attributes:
        textures: folder of photographs to dress surfaces with, besides the procedural patterns.
        texture_px: side of a texture, a power of two; 256 for pictures of more than 320 pixels.
        compiled: speed up the ray caster through torch.compile.
        device: where rays are cast.
    """

    textures: Path | None = None
    texture_px: int = 128
    texture_seed: int = 0
    room: RoomConfig = RoomConfig()
    sensor: SensorConfig = SensorConfig()
    compiled: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class RenderedClip:
    """Pictures and exact z-depth of some views of a room."""

    rgb: UInt8[np.ndarray, "n h w 3"]
    depth_m: Float[np.ndarray, "n h w"]


class SyntheticWorld:
    """Draws rooms by seed and renders them."""

    def __init__(self, config: WorldConfig | None = None) -> None:
        """Build the texture atlas.

        Raises:
            DataError: the texture folder holds no image, or the texture size is no power of two.
        """
        self.config = config or WorldConfig()
        c = self.config
        self._atlas = build_atlas(c.texture_seed, c.texture_px, c.textures)
        self._device_atlas = self._atlas.to(c.device)
        self._shadow: tuple[Room, ShadowMap] | None = None

    def room(self, seed: int) -> Room:
        """Draw the room of a seed."""
        return build_room(seed, self._atlas, self.config.room).to(self.config.device)

    def render(
        self,
        room: Room,
        camera: Camera,
        T_world_cam: Float[np.ndarray, "n 4 4"],
        *,
        video: bool = True,
        seed: int = 0,
    ) -> RenderedClip:
        """Render views of a room through the configured sensor.

        Args:
            video: the poses are consecutive frames: motion smears them, and auto-exposure follows the scene.
            seed: of the sensor's settings and noise.
        Raises:
            ShapeError: the poses are not n 4×4 matrices.
        """
        K = np.broadcast_to(camera.K, (len(T_world_cam), 3, 3))
        return self.render_with(room, camera.width, camera.height, K, T_world_cam, video=video, seed=seed)

    def render_with(
        self, room: Room, width: int, height: int, K: Float[np.ndarray, "n 3 3"],
        T_world_cam: Float[np.ndarray, "n 4 4"], *, video: bool = True, seed: int = 0,
    ) -> RenderedClip:  # fmt: skip
        """Render views with intrinsics of their own; see `render`."""
        if T_world_cam.ndim != 3 or T_world_cam.shape[1:] != (4, 4) or len(K) != len(T_world_cam):
            raise ShapeError(f"poses {T_world_cam.shape} and K {K.shape}: need (n, 4, 4) and (n, 3, 3)")
        frames = list(self.frames(room, width, height, K, T_world_cam, video=video, seed=seed))
        return RenderedClip(np.stack([f[0] for f in frames]), np.stack([f[1] for f in frames]))

    def frames(
        self, room: Room, width: int, height: int, K: Float[np.ndarray, "n 3 3"],
        T_world_cam: Float[np.ndarray, "n 4 4"], *, video: bool, seed: int,
    ) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]]:  # fmt: skip
        """Stream colour and depth of consecutive views, so that long videos need not fit in memory."""
        step = max(1, _PIXELS_AT_ONCE // (width * height))
        if self._shadow is None or self._shadow[0] is not room:
            self._shadow = (room, shadow_map(room))
        sensor, rng = Sensor(self.config.sensor, seed, width, height), np.random.default_rng(seed + 1)
        for a in range(0, len(T_world_cam), step):
            with torch.inference_mode():
                views = self._views(width, height, K[a : a + step], T_world_cam[a : a + step])
                hits = cast(room.solids, views, self.config.compiled)
                colour = shade(room, self._device_atlas, self._shadow[1], views, hits).cpu().numpy()
                depth = hits.depth_m.cpu().numpy()
            for i in range(len(depth)):
                if video:
                    motion = centre_motion_px(K, T_world_cam, depth[i], a + i) if a + i else (0.0, 0.0)
                else:
                    shaken = rng.normal(0, 2.0, 2) * (rng.random() < 0.5)
                    motion = (float(shaken[0]), float(shaken[1]))
                    sensor.reset_exposure()
                yield sensor(colour[i], motion), depth[i]

    def _views(self, width: int, height: int, K: np.ndarray, T_world_cam: np.ndarray) -> Views:
        device = self.config.device
        return Views(
            width, height,
            torch.tensor(K, dtype=torch.float32, device=device),
            torch.tensor(T_world_cam, dtype=torch.float32, device=device),
        )  # fmt: skip

    def choose_views(
        self, room: Room, camera: Camera, count: int, seed: int
    ) -> Float[np.ndarray, "n 4 4"] | None:
        """Draw single views whose depth is like that of handheld indoor video; None where the room has too few.

        A small depth image of each candidate decides: not too near, not a bare wall.
        """
        rng = np.random.default_rng(seed)
        T = candidate_views(room, rng, 5 * count)
        if len(T) < count:
            return None
        small = camera.resized(32, 24)
        with torch.inference_mode():
            hits = cast(room.solids, self._views(32, 24, np.broadcast_to(small.K, (len(T), 3, 3)), T))
        depth = hits.depth_m.cpu().numpy().reshape(len(T), -1)
        near, middle = np.quantile(depth, 0.03, axis=1), np.median(depth, axis=1)
        kinds = np.array([len(np.unique(s)) for s in hits.solid.cpu().numpy().reshape(len(T), -1)])
        good = (
            (near > 0.2)
            & (middle > 0.4)
            & (middle < rng.uniform(3, 7, len(T)))
            & (kinds > rng.integers(0, 12, len(T)))
        )
        chosen = np.flatnonzero(good)
        if len(chosen) < count:
            return None
        return T[rng.permutation(chosen)[:count]]


def centre_motion_px(
    K: Float[np.ndarray, "n 3 3"],
    T_world_cam: Float[np.ndarray, "n 4 4"],
    depth_m: Float[np.ndarray, "h w"],
    k: int,
) -> tuple[float, float]:
    """Image motion since the frame before k of the point in the middle of the picture at the median depth."""
    h, w = depth_m.shape
    pixel = np.array([w / 2, h / 2, 1.0])
    point = transform(T_world_cam[k], np.linalg.inv(K[k]) @ pixel * float(np.median(depth_m[::8, ::8])))
    cam = transform(inverse(T_world_cam[k - 1]), point)
    if cam[2] < 0.05:
        return 0.0, 0.0
    image = K[k - 1] @ cam / cam[2]
    return float(pixel[0] - image[0]), float(pixel[1] - image[1])
