"""Random furnished rooms with the statistics of indoor video: kitchens, offices, living rooms, bedrooms, stores."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from remov3r.config import Config
from remov3r.data.synthetic import furniture as f
from remov3r.data.synthetic.models import models_named
from remov3r.data.synthetic.raycast import Solids
from remov3r.data.synthetic.scene import Place, SceneBuilder, Surfaces, build_surfaces
from remov3r.data.synthetic.textures import TextureAtlas

RoomKind = Literal["kitchen", "office", "living", "bedroom", "store"]

# piece, least and greatest width, least and greatest depth, likelihood
_Entry = tuple[f.Piece, float, float, float, float, float]
_WALL: dict[str, tuple[_Entry, ...]] = {
    "kitchen": (
        (f.counter, 1.2, 3.5, 0.58, 0.68, 6), (f.appliance, 0.55, 0.75, 0.55, 0.7, 3),
        (f.cabinet, 0.6, 1.4, 0.35, 0.6, 2), (f.shelf, 0.6, 1.2, 0.25, 0.4, 1),
        (f.table, 0.8, 1.6, 0.6, 0.8, 1), (f.bin_, 0.3, 0.4, 0.3, 0.4, 1),
    ),
    "office": (
        (f.desk, 1.2, 2.0, 0.6, 0.85, 5), (f.shelf, 0.6, 1.6, 0.25, 0.42, 4), (f.cabinet, 0.5, 1.6, 0.35, 0.6, 2),
        (f.boxes, 0.5, 0.9, 0.4, 0.6, 1), (f.bin_, 0.25, 0.4, 0.25, 0.4, 1), (f.plant, 0.5, 0.8, 0.4, 0.8, 1),
    ),
    "living": (
        (f.sofa, 0.9, 2.4, 0.8, 1.0, 4), (f.media, 1.0, 2.0, 0.35, 0.5, 2), (f.shelf, 0.6, 1.8, 0.25, 0.42, 3),
        (f.cabinet, 0.6, 1.8, 0.35, 0.55, 2), (f.floor_lamp, 0.4, 0.5, 0.4, 0.5, 1),
        (f.plant, 0.5, 0.8, 0.4, 0.8, 1), (f.table, 0.8, 1.4, 0.4, 0.6, 1),
    ),
    "bedroom": (
        (f.bed, 0.9, 1.9, 1.9, 2.1, 4), (f.cabinet, 0.4, 2.0, 0.35, 0.6, 4), (f.desk, 1.0, 1.5, 0.5, 0.7, 2),
        (f.shelf, 0.5, 1.2, 0.25, 0.4, 2), (f.floor_lamp, 0.4, 0.5, 0.4, 0.5, 1), (f.chair, 0.4, 0.5, 0.42, 0.5, 1),
    ),
    "store": (
        (f.shelf, 0.8, 2.4, 0.3, 0.6, 5), (f.boxes, 0.6, 1.2, 0.4, 0.7, 4), (f.cabinet, 0.6, 1.6, 0.4, 0.6, 2),
        (f.table, 1.0, 2.0, 0.6, 0.8, 2), (f.appliance, 0.55, 0.8, 0.55, 0.7, 1),
    ),
}  # fmt: skip
_MIDDLE: dict[str, tuple[_Entry, ...]] = {
    "kitchen": (
        (f.table, 0.9, 1.8, 0.7, 1.0, 4), (f.counter, 1.2, 2.2, 0.6, 0.9, 1),
        (f.round_table, 0.8, 1.3, 0.8, 1.3, 1), (f.chair, 0.38, 0.5, 0.42, 0.5, 4),
    ),
    "office": (
        (f.desk, 1.2, 1.8, 0.65, 0.85, 5), (f.office_chair, 0.45, 0.55, 0.45, 0.55, 5),
        (f.table, 1.2, 2.4, 0.8, 1.1, 2), (f.boxes, 0.5, 0.8, 0.4, 0.5, 1),
    ),
    "living": (
        (f.table, 0.8, 1.3, 0.45, 0.7, 4), (f.round_table, 0.5, 1.2, 0.5, 1.2, 2),
        (f.sofa, 0.8, 2.0, 0.8, 0.95, 2), (f.chair, 0.4, 0.55, 0.42, 0.55, 3),
    ),
    "bedroom": (
        (f.chair, 0.4, 0.5, 0.42, 0.5, 3), (f.boxes, 0.4, 0.7, 0.4, 0.5, 1), (f.bed, 0.9, 1.6, 1.9, 2.1, 1),
    ),
    "store": (
        (f.boxes, 0.6, 1.0, 0.5, 0.8, 4), (f.table, 1.0, 1.8, 0.6, 0.9, 2), (f.shelf, 0.8, 1.6, 0.35, 0.5, 2),
    ),
}  # fmt: skip


class RoomConfig(Config):
    """How rooms are drawn; lengths in metres.

    Attributes:
        hall_share: part of the rooms that are up to `hall_side_m` long.
        paint_share: part of the rooms whose walls are painted or plastered; the others have tiles, bricks, paper.
    """

    side_m: tuple[float, float] = (2.5, 6.5)
    hall_share: float = 0.12
    hall_side_m: tuple[float, float] = (7.0, 12.0)
    height_m: tuple[float, float] = (2.3, 3.3)
    paint_share: float = 0.65


@dataclass(frozen=True)
class Lights:
    """Point lights with inverse-square falloff; the first casts shadows.

    Attributes:
        colour: radiance of each light at one metre.
        ambient: light from everywhere.
    """

    position_m: Float[Tensor, "l 3"]
    colour: Float[Tensor, "l 3"]
    ambient: Float[Tensor, "3"]


@dataclass(frozen=True)
class Room:
    """A finished room.

    Attributes:
        focus_m: places worth a close look (table tops, counters, shelves).
    """

    seed: int
    kind: RoomKind
    solids: Solids
    surfaces: Surfaces
    lights: Lights
    focus_m: Float[np.ndarray, "k 3"]

    def to(self, device: str | torch.device) -> Room:
        """Return a copy on a device."""
        s, li = self.surfaces, self.lights
        return replace(
            self,
            solids=self.solids.to(device),
            surfaces=Surfaces(s.table.to(device), s.looks.to(device), s.texture.to(device)),
            lights=Lights(li.position_m.to(device), li.colour.to(device), li.ambient.to(device)),
        )


@dataclass
class _Plan:
    """The floor plan while furniture is placed."""

    size: tuple[float, float, float]
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)
    focus: list[tuple[float, float, float]] = field(default_factory=list)

    def walls(self, b: SceneBuilder) -> list[tuple[Place, float]]:
        """Return a frame at the middle of each wall, its +y into the room, with the wall's length."""
        x, y = self.size[0] / 2, self.size[1] / 2
        return [
            (Place(b, 0, -y, 0, 0.0), 2 * x), (Place(b, x, 0, 0, math.pi / 2), 2 * y),
            (Place(b, 0, y, 0, math.pi), 2 * x), (Place(b, -x, 0, 0, -math.pi / 2), 2 * y),
        ]  # fmt: skip

    def claim(self, place: Place, w: float, d: float, margin: float) -> bool:
        """Reserve the ground of a piece unless it overlaps another one or leaves the room."""
        corners = [place.to_world(sx * w / 2, y)[:2] for sx in (-1, 1) for y in (0.0, d)]
        xs, ys = [c[0] for c in corners], [c[1] for c in corners]
        box = (min(xs) + 0.01, min(ys) + 0.01, max(xs) - 0.01, max(ys) - 0.01)
        hx, hy = self.size[0] / 2, self.size[1] / 2
        if box[0] < -hx or box[1] < -hy or box[2] > hx or box[3] > hy:
            return False
        for o in self.taken:
            if (
                box[0] < o[2] + margin
                and o[0] < box[2] + margin
                and box[1] < o[3] + margin
                and o[1] < box[3] + margin
            ):
                return False
        self.taken.append(box)
        return True


# models that may stand along walls and in the middle
_WALL_MODELS = {
    "kitchen": (
        "kitchenCabinet",
        "kitchenSink",
        "kitchenStove",
        "kitchenFridge",
        "kitchenBar",
        "washer",
        "dryer",
        "trashcan",
    ),
    "office": (
        "bookcase",
        "desk",
        "cabinet",
        "computer",
        "trashcan",
        "sideTable",
        "pottedPlant",
        "coatRackStanding",
    ),
    "living": (
        "lounge",
        "bookcase",
        "cabinetTelevision",
        "lampRoundFloor",
        "lampSquareFloor",
        "speaker",
        "pottedPlant",
    ),
    "bedroom": (
        "bed",
        "cabinetBed",
        "bookcase",
        "SimpleCabinet",
        "sideTable",
        "bathroomSink",
        "bathtub",
        "toilet",
    ),
    "store": ("bookcase", "cardboardBox", "washer", "SimpleCabinet", "bench"),
}
_MIDDLE_MODELS = {
    "kitchen": ("chair", "table", "stoolBar", "kitchenBar"),
    "office": ("chairDesk", "desk", "chairModern", "table"),
    "living": ("loungeChair", "tableCoffee", "loungeSofaOttoman", "loungeDesign", "pillow"),
    "bedroom": ("chair", "pillow", "sideTable", "bear"),
    "store": ("cardboardBox", "bench", "chair"),
}


def _choose(
    r: random.Random, entries: tuple[_Entry, ...], models: tuple[str, ...], model_share: float
) -> tuple[f.Piece, float, float]:
    if r.random() < model_share:
        model = r.choice(models_named(models))
        return f.model_piece(model), *model.footprint_m
    piece, w0, w1, d0, d1, _ = r.choices(entries, [e[5] for e in entries])[0]
    return piece, r.uniform(w0, w1), r.uniform(d0, d1)


def _openings(plan: _Plan, b: SceneBuilder) -> None:
    """Add a door and windows; the ground before a door stays free."""
    r, walls = b.rng, plan.walls(b)
    frame = b.new_material("wood", 0.5)
    for wall, length in r.sample(walls, r.randint(1, 2)):
        s = r.uniform(-0.4, 0.4) * (length - 1.2)
        if plan.claim(wall.at(s, 0), 1.0, 0.7, 0.0):
            w, h = r.uniform(0.75, 0.95), r.uniform(1.95, 2.1)
            wall.box(s, 0.01, 0, w + 0.14, 0.02, h + 0.07, frame)
            wall.box(s, 0.02, 0, w, 0.03, h, b.new_material(r.choice(("panel", "wood", "plastic"))))
    for wall, length in r.sample(walls, r.randint(0, 2)):
        glow = r.uniform(0.9, 2.5)
        view = b.new_material("window", 0.0, glow)
        for _ in range(r.randint(1, 3)):
            s, w, h, z = (
                r.uniform(-0.42, 0.42) * length,
                r.uniform(0.6, 1.8),
                r.uniform(0.8, 1.4),
                r.uniform(0.7, 1.0),
            )
            w = min(w, 2 * (length / 2 - abs(s)) - 0.1)
            if w > 0.3:
                wall.box(s, 0.01, z, w + 0.12, 0.03, h + 0.12, frame)
                wall.box(s, 0.02, z + 0.06, w, 0.02, h, view)
                wall.box(s, 0.08, z - 0.03, w + 0.2, 0.16, 0.03, frame)


def _wall_details(plan: _Plan, b: SceneBuilder, p: f.Palette) -> None:
    """Add pictures, skirting boards, wall shelves, pipes, pillars, ceiling lamps and a rug."""
    r = b.rng
    base, z_top = p.pick("wood", "plastic"), plan.size[2]
    skirting = r.random() < 0.6
    for wall, length in plan.walls(b):
        if skirting:
            wall.box(0, 0.006, 0, length, 0.012, r.uniform(0.06, 0.1), base)
        for _ in range(r.choice((0, 0, 1, 1, 2, 3))):
            s, w, h = r.uniform(-0.45, 0.45) * length, r.uniform(0.15, 1.1), r.uniform(0.2, 0.9)
            z = min(r.uniform(1.0, 1.7), z_top - h - 0.05)
            m = b.new_material("picture" if r.random() < 0.7 else "label")
            wall.box(s, 0.015, z, w, 0.03, h, m)
        if r.random() < 0.2:
            s, w = r.uniform(-0.35, 0.35) * length, r.uniform(0.6, 1.4)
            z = r.uniform(1.2, 1.7)
            wall.box(s, 0.12, z, w, 0.24, 0.025, p.pick("wood"))
            f.clutter(wall.at(s, 0.12, z + 0.025), p, w, 0.15, r.randint(1, 6))
        if r.random() < 0.12:
            s, d = r.choice((-0.5, r.uniform(-0.5, 0.5))) * (length - 0.5), r.uniform(0.2, 0.6)
            if plan.claim(wall.at(s, 0), 0.5, d, 0.0):
                wall.box(s, d / 2, 0, r.uniform(0.25, 0.5), d, z_top, p.pick("wood", "plastic"))
    if r.random() < 0.4:
        w, d = r.uniform(0.3, 0.6) * plan.size[0], r.uniform(0.3, 0.6) * plan.size[1]
        Place(b).box(
            r.uniform(-0.2, 0.2),
            r.uniform(-0.2, 0.2),
            0,
            w,
            d,
            0.008,
            b.new_material("fabric", r.uniform(0, 1.5)),
        )
    lamp = b.new_material("plastic", 0.5, 2.5, 0.05)
    for _ in range(r.randint(1, 4)):
        x, y = (r.uniform(-0.35, 0.35) * plan.size[k] for k in range(2))
        if r.random() < 0.6:
            Place(b).box(
                x, y, z_top - 0.05, r.choice((0.3, 0.6, 1.2)), r.choice((0.15, 0.3, 0.6)), 0.05, lamp
            )
        else:
            Place(b).can(x, y, z_top - 0.4, 0.01, 0.4, base)
            Place(b).ball(x, y, z_top - 0.6, r.uniform(0.1, 0.2), lamp)
    if r.random() < 0.2:
        for k in range(r.randint(2, 4)):
            Place(b).box(0, (k - 1.5) * plan.size[1] / 4, z_top - 0.2, plan.size[0], 0.15, 0.2, base)


_FOCUS_HEIGHT = {
    f.counter: 0.95,
    f.desk: 0.8,
    f.table: 0.7,
    f.shelf: 1.0,
    f.round_table: 0.7,
    f.cabinet: 0.8,
    f.media: 0.6,
}


def _furnish(plan: _Plan, b: SceneBuilder, p: f.Palette, kind: str) -> None:
    """Place pieces along the walls, then in the middle with room to walk between them."""
    r = b.rng

    def place(piece: f.Piece, at: Place, w: float, d: float, margin: float) -> None:
        if plan.claim(at, w, d, margin):
            piece(at, p, w, d)
            if piece in _FOCUS_HEIGHT:
                x, y, _ = at.to_world(0, d / 2)
                plan.focus.append((x, y, _FOCUS_HEIGHT[piece]))

    density = r.uniform(0.55, 1.0)
    for wall, length in plan.walls(b):
        s = -length / 2 + r.uniform(0.0, 0.3)
        while s < length / 2 - 0.4:
            piece, w, d = _choose(r, _WALL[kind], _WALL_MODELS[kind], 0.3)
            if r.random() < density and s + w < length / 2:
                place(piece, wall.at(s + w / 2, r.uniform(0.0, 0.04)), w, d, 0.0)
                s += w + (r.uniform(0.0, 0.15) if r.random() < 0.7 else r.uniform(0.2, 0.8))
            else:
                s += r.uniform(0.2, 0.7)
    area = (plan.size[0] - 1.2) * (plan.size[1] - 1.2)
    for _ in range(int(area * r.uniform(0.3, 1.0)) + r.randint(0, 3)):
        piece, w, d = _choose(r, _MIDDLE[kind], _MIDDLE_MODELS[kind], 0.3)
        x, y = (r.uniform(-0.5, 0.5) * (plan.size[k] - 1.2) for k in range(2))
        yaw = r.choice((0, 1, 2, 3)) * math.pi / 2 + (r.uniform(-0.5, 0.5) if r.random() < 0.3 else 0.0)
        tall = piece is f.shelf
        place(piece, Place(b, x, y, 0, yaw), w, d, 0.6 if tall else r.choice((0.05, 0.3, 0.6)))


def _lights(plan: _Plan, r: random.Random) -> Lights:
    hx, hy, top = plan.size
    count = r.randint(1, 3)
    total = (0.25 * (hx * hy) ** 0.5 + 0.5) * r.uniform(2.0, 4.0)
    position, colour = [], []
    for k in range(count):
        side = k > 0 and r.random() < 0.5
        reach = 0.48 if side else 0.3
        z = top * (r.uniform(0.4, 0.75) if side else r.uniform(0.9, 0.97))
        position.append((r.uniform(-reach, reach) * hx, r.uniform(-reach, reach) * hy, z))
        warm = r.uniform(-0.12, 0.3)
        level = total / count * r.uniform(0.6, 1.4)
        colour.append((level * (1 + 0.5 * warm), level, level * (1 - warm)))
    ambient = r.uniform(0.18, 0.5)
    cast = r.uniform(-0.05, 0.1)
    return Lights(
        torch.tensor(position),
        torch.tensor(colour),
        torch.tensor([ambient * (1 + cast), ambient, ambient * (1 - cast)]),
    )


def build_room(seed: int, atlas: TextureAtlas, config: RoomConfig | None = None) -> Room:
    """Draw a random room; the same seed, atlas and configuration give the same room."""
    config = config or RoomConfig()
    r = random.Random(seed)
    kinds: list[RoomKind] = ["kitchen", "office", "living", "bedroom", "store"]
    kind = r.choices(kinds, (3, 4, 2, 1, 1))[0]
    sides = [
        r.uniform(*(config.hall_side_m if r.random() < config.hall_share else config.side_m))
        for _ in range(2)
    ]
    plan = _Plan((sides[0], sides[1], r.uniform(*config.height_m)))
    b = SceneBuilder(atlas, r)
    palette = f.draw_palette(b)
    _openings(plan, b)
    _furnish(plan, b, palette, kind)
    _wall_details(plan, b, palette)
    shell = np.array([[-sides[0] / 2, -sides[1] / 2, 0.0], [sides[0] / 2, sides[1] / 2, plan.size[2]]])
    solids = b.solids(shell)
    wall = "paint" if r.random() < config.paint_share else "wall"
    looks = tuple(b.new_material(c, r.uniform(0.5, 2.5), 0.0, 0.05) for c in (wall, "floor", "ceiling"))
    surfaces = build_surfaces(b, solids, (looks[0], looks[1], looks[2]), np.random.default_rng(seed))
    focus = np.array(plan.focus, np.float64).reshape(-1, 3)
    return Room(seed, kind, solids, surfaces, _lights(plan, r), focus)
