"""A video along one of the camera paths through the textured house model, as a source of frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from remov3r.backends.mesh_render import RayCaster
from remov3r.backends.textured_mesh import load_textured_mesh
from remov3r.camera import Camera
from remov3r.pipelines.render_house import Lighting, dressed, random_lighting, read_path, render_view
from remov3r.types import Frame, Image

FPS = 30.0
SEED = 0  # of lamps, tints and the ceiling
CAMERA = Camera(320, 240, 277.0, 277.0, 159.5, 119.5)
NOISE = 2.0  # grey levels


class HouseSource:
    """Streams a walk through the house (a FrameSource), always the same one for a path.

    Args:
        folder: with small_house.glb and path_N.txt.
        path: N.
    Raises:
        DataError: a file is missing or damaged.
    """

    def __init__(self, folder: Path, path: int) -> None:
        self.name, self.camera = f"house, path {path}", CAMERA
        self.T_world_cam = read_path(folder / f"path_{path}.txt")
        self._house = dressed(load_textured_mesh(folder / "small_house.glb"), [], np.random.default_rng(SEED))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.T_world_cam)

    def __iter__(self) -> Iterator[Frame]:
        """Render the frames in order; the exposure follows what is seen, slowly."""
        rng = np.random.default_rng(SEED)
        caster = RayCaster(self._house.vertices_m, self._house.triangles)
        light, gain = self._light(rng), 0.0
        for index, pose in enumerate(self.T_world_cam):
            depth_m = caster.cast(self.camera, pose).depth_m
            radiance = render_view(self._house, caster, self.camera, pose, light)
            wanted = light.mean_brightness / max(float(radiance.mean()), 1e-6)
            gain = wanted if index == 0 else 0.95 * gain + 0.05 * wanted
            yield Frame(index, index / FPS, _image(radiance * gain, rng), self.camera, depth_m, pose)

    def _light(self, rng: np.random.Generator) -> Lighting:
        """Lamps over the whole path, not only over its middle."""
        parts = np.array_split(self.T_world_cam, max(len(self.T_world_cam) // 100, 1))
        lights = [random_lighting(part, rng) for part in parts]
        return Lighting(
            np.concatenate([light.lamps_m for light in lights]),
            np.concatenate([light.lamp_rgb for light in lights]),
            lights[0].ambient_rgb,
            lights[0].mean_brightness,
        )


def _image(exposed: np.ndarray, rng: np.random.Generator) -> Image:
    rgb = 255 * np.where(exposed < 0.7, exposed, 0.7 + 0.3 * np.tanh((exposed - 0.7) / 0.3))
    rgb = cv2.GaussianBlur(rgb.astype(np.float32), (0, 0), 0.5) + rng.normal(0, NOISE, rgb.shape)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
