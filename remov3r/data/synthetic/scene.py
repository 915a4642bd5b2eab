"""A scene under construction: solids with materials, placed piece by piece in nested local frames (z up)."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from remov3r.data.synthetic.raycast import BALL, BOX, CAN, Solids
from remov3r.data.synthetic.textures import TextureAtlas

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    Attributes:
        texture: index in the atlas.
        tint: factor on red, green, blue.
        tile_m: size of one repetition; 0 stretches the texture over each face (pictures, screens, fronts).
        emission: light given off, as a factor on the texture; 0 for ordinary surfaces.
    """

    texture: int
    tint: Colour = (1.0, 1.0, 1.0)
    tile_m: float = 0.5
    emission: float = 0.0


@dataclass
class SceneBuilder:
    """Collects solids; `Place` adds to it."""

    atlas: TextureAtlas
    rng: random.Random
    center_m: list[tuple[float, float, float]] = field(default_factory=list)
    half_m: list[tuple[float, float, float]] = field(default_factory=list)
    yaw_rad: list[float] = field(default_factory=list)
    tilt_rad: list[float] = field(default_factory=list)
    shape: list[int] = field(default_factory=list)
    material: list[int] = field(default_factory=list)
    materials: list[Material] = field(default_factory=list)

    def new_material(
        self, category: str, tile_m: float = 0.0, emission: float = 0.0, vivid: float = 0.15
    ) -> int:
        """Draw a material of a texture category; `vivid` is how far the tint may stray from grey."""
        r = self.rng
        level = r.uniform(0.7, 1.15)
        tint = tuple(level * (1 + r.uniform(-vivid, vivid)) for _ in range(3))
        texture = r.choice(self.textures(category))
        self.materials.append(Material(texture, (tint[0], tint[1], tint[2]), tile_m, emission))
        return len(self.materials) - 1

    def textures(self, category: str) -> list[int]:
        """Return the atlas's textures of a category (looked up once per scene)."""
        if not hasattr(self, "_lists"):
            self._lists: dict[str, list[int]] = {}
        if category not in self._lists:
            self._lists[category] = self.atlas.of(category)
        return self._lists[category]

    def solids(self, shell_m: Float[np.ndarray, "2 3"]) -> Solids:
        """Return everything added so far as tensors."""
        yaw, tilt = np.array(self.yaw_rad), np.array(self.tilt_rad)
        cy, sy, ct, st = np.cos(yaw), np.sin(yaw), np.cos(tilt), np.sin(tilt)
        zero = np.zeros_like(cy)
        # about the vertical, then about the local x axis
        R = np.stack([cy, -sy * ct, sy * st, sy, cy * ct, -cy * st, zero, st, ct], -1).reshape(-1, 3, 3)
        return Solids(
            torch.tensor(np.array(self.center_m, np.float32).reshape(-1, 3)),
            torch.tensor(np.maximum(np.array(self.half_m, np.float32).reshape(-1, 3), 1e-3)),
            torch.tensor(R.astype(np.float32)),
            torch.tensor(self.shape, dtype=torch.int64),
            torch.tensor(shell_m.astype(np.float32)),
        )


@dataclass(frozen=True)
class Place:
    """A local frame in the room: origin in metres and a turn about the vertical."""

    builder: SceneBuilder
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    yaw: float = 0.0

    def to_world(self, x: float, y: float, z: float = 0.0) -> tuple[float, float, float]:
        """Map a local point."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + c * x - s * y, self.y + s * x + c * y, self.z + z

    def at(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Place:
        """Return a frame inside this one."""
        wx, wy, wz = self.to_world(x, y, z)
        return replace(self, x=wx, y=wy, z=wz, yaw=self.yaw + yaw)

    def _add(
        self, x: float, y: float, z: float, half: tuple[float, float, float], material: int, shape: int,
        yaw: float, tilt: float,
    ) -> None:  # fmt: skip
        b = self.builder
        b.center_m.append(self.to_world(x, y, z))
        b.half_m.append(half)
        b.yaw_rad.append(self.yaw + yaw)
        b.tilt_rad.append(tilt)
        b.shape.append(shape)
        b.material.append(material)

    def box(
        self, x: float, y: float, z: float, w: float, d: float, h: float, material: int, yaw: float = 0.0,
        tilt: float = 0.0,
    ) -> None:  # fmt: skip
        """Add a box of full size w×d×h whose bottom centre lies at (x, y, z)."""
        self._add(x, y, z + h / 2, (w / 2, d / 2, h / 2), material, BOX, yaw, tilt)

    def can(self, x: float, y: float, z: float, radius: float, h: float, material: int) -> None:
        """Add an upright cylinder whose bottom centre lies at (x, y, z)."""
        self._add(x, y, z + h / 2, (radius, radius, h / 2), material, CAN, 0.0, 0.0)

    def ball(self, x: float, y: float, z: float, radius: float, material: int, flat: float = 1.0) -> None:
        """Add a ball, `flat` times as high as wide, whose lowest point lies at (x, y, z)."""
        self._add(x, y, z + radius * flat, (radius, radius, radius * flat), material, BALL, 0.0, 0.0)


@dataclass(frozen=True)
class Surfaces:
    """Looks of every face; row = 6 · solid + face, the room shell comes last.

    Attributes:
        table: rows are u (x y z 1), v (x y z 1), normal (x y z), texels per metre.
        looks: tint (r g b), emission.
        texture: index in the atlas.
    """

    table: Float[Tensor, "12 s"]
    looks: Float[Tensor, "s 4"]
    texture: Int[Tensor, " s"]


def _axes(R: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each solid the right, down and outward directions of its six faces, (n, 6, 3) each."""
    x, y, z = R[:, :, 0], R[:, :, 1], R[:, :, 2]
    right = np.stack([y, -y, -x, x, x, x], 1)
    down = np.stack([-z, -z, -z, -z, -y, y], 1)
    return right, down, np.stack([x, -x, y, -y, z, -z], 1)


def build_surfaces(
    builder: SceneBuilder, solids: Solids, shell_materials: tuple[int, int, int], rng: np.random.Generator
) -> Surfaces:
    """Lay the textures onto all faces, each solid with its own offset.

    Args:
        shell_materials: of walls, floor and ceiling.
    """
    n = len(solids.center_m)
    wall, floor, ceiling = shell_materials
    low, high = solids.shell_m.numpy()
    center = np.concatenate([solids.center_m.numpy(), (low + high)[None] / 2])
    half = np.concatenate([solids.half_m.numpy(), (high - low)[None] / 2])
    right, down, normal = _axes(np.concatenate([solids.rotation.numpy(), np.eye(3, dtype=np.float32)[None]]))
    normal[n] *= -1
    material = np.repeat(np.array([*builder.material, wall], np.int64), 6).reshape(n + 1, 6)
    material[n, 4:] = ceiling, floor
    m = builder.materials
    tile = np.array([k.tile_m for k in m])[material]
    width = 2 * np.stack([half[:, k] for k in (1, 1, 0, 0, 0, 0)], 1)
    height = 2 * np.stack([half[:, k] for k in (2, 2, 2, 2, 1, 1)], 1)
    fit = tile == 0
    scale_u, scale_v = 1 / np.where(fit, width, tile), 1 / np.where(fit, height, tile)
    shift = np.where(fit[..., None], 0.5, rng.uniform(0, 20, (n + 1, 1, 2)))
    U, V = right * scale_u[..., None], down * scale_v[..., None]
    u0 = shift[..., 0] - (U * center[:, None]).sum(-1)
    v0 = shift[..., 1] - (V * center[:, None]).sum(-1)
    texels = np.maximum(scale_u, scale_v) * builder.atlas.size_px
    table = (
        np.concatenate([U, u0[..., None], V, v0[..., None], normal, texels[..., None]], -1).reshape(-1, 12).T
    )
    looks = np.array([(*k.tint, k.emission) for k in m], np.float32)[material].reshape(-1, 4)
    texture = np.array([k.texture for k in m])[material].reshape(-1)
    return Surfaces(
        torch.tensor(np.ascontiguousarray(table, np.float32)), torch.tensor(looks), torch.tensor(texture)
    )
