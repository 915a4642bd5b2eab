"""Procedural furniture: compositions of boxes, cans and balls in a local frame.

Each piece stands on z = 0, is `w` wide along x, `d` deep along y (its back at y = 0, its front towards +y).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from remov3r.data.synthetic.models import Model, models_named, place_model
from remov3r.data.synthetic.scene import Place, SceneBuilder

Piece = Callable[[Place, "Palette", float, float], None]


@dataclass(frozen=True)
class Palette:
    """The materials of one room; furniture of a room shares them."""

    builder: SceneBuilder
    wood: tuple[int, ...]
    metal: tuple[int, ...]
    fabric: tuple[int, ...]
    plastic: tuple[int, ...]
    top: tuple[int, ...]
    front: tuple[int, ...]
    label: tuple[int, ...]

    @property
    def rng(self) -> random.Random:
        """The room's random numbers."""
        return self.builder.rng

    def pick(self, *names: str) -> int:
        """Draw a material of one of the named groups."""
        group: tuple[int, ...] = getattr(self, self.rng.choice(names))
        return self.rng.choice(group)


def draw_palette(builder: SceneBuilder) -> Palette:
    """Draw the materials of a room."""
    r, new = builder.rng, builder.new_material

    def several(category: str, count: int, low: float, high: float, vivid: float = 0.15) -> tuple[int, ...]:
        return tuple(new(category, r.uniform(low, high), 0.0, vivid) for _ in range(count))

    return Palette(
        builder,
        wood=several("wood", 3, 0.25, 1.0),
        metal=several("metal", 2, 0.2, 0.8, 0.05),
        fabric=several("fabric", 3, 0.15, 0.8),
        plastic=several("plastic", 6, 0.2, 0.8, 0.3),
        top=several("wood" if r.random() < 0.5 else "stone", 2, 0.3, 1.2),
        front=tuple(new("panel") for _ in range(3)),
        label=tuple(new("label") for _ in range(10)),
    )


_SMALL = (
    "books", "computerKeyboard", "computerMouse", "computerScreen", "kitchenBlender", "kitchenCoffee",
    "kitchenMicro", "lampRoundTable", "lampSquareTable", "laptop", "plantSmall", "radio", "toaster", "speakerSmall",
)  # fmt: skip


def model_piece(model: Model) -> Piece:
    """Return the piece that places a converted model in the room's materials."""

    def place_it(place: Place, p: Palette, w: float, d: float) -> None:
        soft = model.name.startswith(("lounge", "bed", "pillow", "bench", "chair", "bear"))
        groups = ("fabric", "fabric", "wood") if soft else ("wood", "plastic", "metal", "front")
        place_model(place, model, [p.pick(*groups) for _ in range(4)])

    return place_it


def clutter(place: Place, p: Palette, w: float, d: float, count: int) -> None:
    """Scatter small objects over a w×d area whose middle is the origin."""
    r = p.rng
    for _ in range(count):
        x, y, yaw = r.uniform(-0.46, 0.46) * w, r.uniform(-0.42, 0.42) * d, r.uniform(-3.1, 3.1)
        kind = r.random()
        if kind < 0.12:
            model_piece(r.choice(models_named(_SMALL)))(place.at(x, y, 0, yaw), p, 0, 0)
        elif kind < 0.3:
            z = 0.0
            for _ in range(r.randint(1, 4)):
                h = r.uniform(0.012, 0.05)
                size = r.uniform(0.14, 0.28)
                place.box(
                    x, y, z, size, size * 0.72, h, p.pick("label", "plastic"), yaw + r.uniform(-0.3, 0.3)
                )
                z += h
        elif kind < 0.52:
            s = r.uniform(0.04, 0.22)
            place.box(
                x, y, 0, s, s * r.uniform(0.3, 1.2), s * r.uniform(0.4, 1.6), p.pick("label", "plastic"), yaw
            )
        elif kind < 0.65:
            radius = r.uniform(0.03, 0.05)
            place.can(x, y, 0, radius, r.uniform(0.08, 0.13), p.pick("plastic", "label", "metal"))
        elif kind < 0.78:
            radius, h, m = r.uniform(0.025, 0.045), r.uniform(0.14, 0.24), p.pick("plastic", "label")
            place.can(x, y, 0, radius, h, m)
            place.can(x, y, h, radius * 0.4, h * 0.3, m)
        elif kind < 0.87:
            place.ball(x, y, 0, r.uniform(0.03, 0.1), p.pick("plastic", "fabric"), r.uniform(0.5, 1.0))
        else:
            place.box(x, y, 0, r.uniform(0.15, 0.3), 0.21, 0.003, p.pick("label"), yaw)


def table(place: Place, p: Palette, w: float, d: float) -> None:
    """A table with four legs and things on it."""
    r = p.rng
    h = r.uniform(0.68, 0.78) if d > 0.5 else r.uniform(0.35, 0.6)
    thick, leg, m = r.uniform(0.02, 0.05), r.uniform(0.03, 0.08), p.pick("wood", "metal")
    place.box(0, d / 2, h - thick, w, d, thick, p.pick("top", "wood"))
    for sx in (-1, 1):
        for y in (leg, d - leg):
            place.box(sx * (w / 2 - leg), y, 0, leg, leg, h - thick, m)
    if r.random() < 0.4:
        place.box(0, d / 2, h - thick - 0.08, w - 2 * leg, d - 2 * leg, 0.08, m)
    clutter(place.at(0, d / 2, h), p, w, d, r.randint(1, 12))


def round_table(place: Place, p: Palette, w: float, d: float) -> None:
    """A round table on one leg."""
    h, radius = p.rng.uniform(0.5, 0.76), min(w, d) / 2
    m = p.pick("wood", "metal")
    place.can(0, d / 2, h - 0.03, radius, 0.03, p.pick("top", "wood"))
    place.can(0, d / 2, 0.03, 0.04, h - 0.06, m)
    place.can(0, d / 2, 0, radius * 0.5, 0.03, m)
    clutter(place.at(0, d / 2, h), p, radius * 1.2, radius * 1.2, p.rng.randint(0, 6))


def chair(place: Place, p: Palette, w: float, d: float) -> None:
    """A chair; its back is at y = 0."""
    r = p.rng
    h, top, leg = r.uniform(0.42, 0.5), r.uniform(0.8, 1.05), r.uniform(0.02, 0.045)
    frame, seat = p.pick("wood", "metal", "plastic"), p.pick("wood", "fabric", "plastic")
    place.box(0, d / 2, h - 0.05, w, d, 0.05, seat)
    place.box(0, 0.02, h + r.uniform(0.0, 0.25), w, 0.035, top - h - 0.25, seat)
    for sx in (-1, 1):
        place.box(sx * (w - leg) / 2, d - leg / 2, 0, leg, leg, h, frame)
        place.box(sx * (w - leg) / 2, leg / 2, 0, leg, leg, top - 0.1, frame)


def office_chair(place: Place, p: Palette, w: float, d: float) -> None:
    """A swivel chair on a five-legged foot."""
    h, m, seat = p.rng.uniform(0.42, 0.52), p.pick("metal", "plastic"), p.pick("fabric", "plastic")
    for k in range(5):
        place.at(0, d / 2, 0, k * 1.2566).box(0.14, 0, 0.03, 0.28, 0.04, 0.04, m)
    place.can(0, d / 2, 0.05, 0.03, h - 0.1, m)
    place.box(0, d / 2, h - 0.08, w, d, 0.08, seat)
    place.box(0, 0.04, h + 0.1, w * 0.9, 0.07, p.rng.uniform(0.35, 0.6), seat, tilt=0.12)
    for sx in (-1, 1):
        place.box(sx * w / 2, d / 2, h + 0.15, 0.05, d * 0.6, 0.03, m)


def shelf(place: Place, p: Palette, w: float, d: float) -> None:
    """An open shelf with rows of books and boxes."""
    r = p.rng
    h, boards, m, t = r.uniform(0.9, 2.2), r.randint(3, 6), p.pick("wood", "metal", "plastic"), 0.025
    for sx in (-1, 1):
        place.box(sx * (w - t) / 2, d / 2, 0, t, d, h, m)
    if r.random() < 0.7:
        place.box(0, 0.01, 0, w, 0.015, h, m)
    step = h / boards
    for k in range(boards + 1):
        place.box(0, d / 2, min(k * step, h - t), w, d, t, m)
    for k in range(boards):
        x, end = -w / 2 + 0.04, w / 2 - 0.06
        big = r.random() < 0.4
        while x < end and r.random() < 0.93:
            bw = r.uniform(0.12, 0.35) if big else r.uniform(0.04, 0.14)
            bw = min(bw, end - x)
            bh = r.uniform(0.4, 0.85) * (step - t)
            place.box(
                x + bw / 2,
                d / 2 + r.uniform(-0.02, 0.04),
                k * step + t,
                bw * 0.95,
                d * 0.7,
                bh,
                p.pick("label", "plastic", "label"),
            )
            x += bw + (r.uniform(0.05, 0.3) if r.random() < 0.25 else 0.0)


def cabinet(place: Place, p: Palette, w: float, d: float) -> None:
    """A closed cupboard or chest of drawers with things on top when it is low."""
    r = p.rng
    h = r.choice((r.uniform(0.6, 1.1), r.uniform(1.6, 2.1)))
    place.box(0, d / 2, 0, w, d, h, p.pick("wood", "plastic"))
    columns, rows, m = (
        max(1, round(w / 0.5)),
        r.randint(1, 4) if h < 1.2 else r.randint(1, 2),
        p.pick("front"),
    )
    cw, ch = w / columns, (h - 0.06) / rows
    for i in range(columns):
        for k in range(rows):
            place.box(-w / 2 + (i + 0.5) * cw, d, 0.05 + k * ch, cw * 0.96, 0.02, ch * 0.96, m)
    if h < 1.3:
        clutter(place.at(0, d / 2, h), p, w, d, r.randint(0, 6))


def counter(place: Place, p: Palette, w: float, d: float) -> None:
    """A kitchen run: fronts below, a worktop with clutter, perhaps a sink, hob and wall units."""
    r = p.rng
    n = max(1, round(w / 0.6))
    cw, front = w / n, [p.pick("front"), p.pick("front")]
    place.box(0, d / 2, 0.1, w, d - 0.04, 0.76, p.pick("plastic", "wood"))
    place.box(0, d / 2, 0.0, w, d - 0.12, 0.1, p.pick("plastic"))
    for i in range(n):
        x = -w / 2 + (i + 0.5) * cw
        place.box(x, d, 0.12, cw * 0.97, 0.02, 0.73, front[i % 2] if r.random() < 0.3 else front[0])
        place.box(x, d + 0.03, 0.78, cw * 0.4, 0.015, 0.015, p.metal[0])
    place.box(0, d / 2 + 0.01, 0.86, w, d + 0.03, 0.04, p.top[0])
    if r.random() < 0.7:
        place.box(0, 0.005, 0.9, w, 0.01, r.uniform(0.1, 0.6), p.top[1])
    if w > 1.2 and r.random() < 0.6:
        place.box(r.uniform(-0.3, 0.3) * w, d / 2, 0.898, 0.5, 0.4, 0.008, p.metal[1])
        tap = place.at(r.uniform(-0.3, 0.3) * w, 0.08, 0.9)
        tap.can(0, 0, 0, 0.02, 0.28, p.metal[0])
        tap.box(0, 0.08, 0.26, 0.025, 0.18, 0.025, p.metal[0])
    clutter(place.at(0, d / 2, 0.9), p, w, d * 0.85, int(w * r.uniform(1, 7)))
    if r.random() < 0.65:
        z, h, ud = r.uniform(1.35, 1.55), r.uniform(0.5, 0.8), r.uniform(0.3, 0.38)
        place.box(0, ud / 2, z, w, ud - 0.02, h, p.pick("plastic", "wood"))
        for i in range(n):
            place.box(-w / 2 + (i + 0.5) * cw, ud, z, cw * 0.97, 0.02, h, front[0])


def appliance(place: Place, p: Palette, w: float, d: float) -> None:
    """A fridge, oven block or washing machine."""
    r = p.rng
    h, m = r.choice((0.86, r.uniform(1.4, 2.0))), p.pick("metal", "plastic")
    place.box(0, d / 2, 0, w, d, h, m)
    split = r.uniform(0.3, 0.7) * h
    place.box(0, d, 0.04, w * 0.97, 0.03, split - 0.05, p.pick("front") if h < 1 else m)
    place.box(0, d, split, w * 0.97, 0.03, h - split - 0.02, m)
    place.box(-w * 0.4, d + 0.04, split + 0.1, 0.02, 0.03, min(0.4, h - split - 0.15), p.metal[0])
    if h < 1 or r.random() < 0.4:
        clutter(place.at(0, d / 2, h), p, w, d, r.randint(0, 4))


def desk(place: Place, p: Palette, w: float, d: float) -> None:
    """A desk with screens, keyboard, papers and clutter."""
    r = p.rng
    h, m = r.uniform(0.7, 0.78), p.pick("wood", "metal", "plastic")
    place.box(0, d / 2, h - 0.03, w, d, 0.03, p.pick("top", "wood"))
    for sx in (-1, 1):
        if r.random() < 0.4:
            place.box(sx * (w / 2 - 0.22), d / 2, 0, 0.42, d * 0.9, h - 0.03, p.pick("front", "wood"))
        else:
            place.box(sx * (w / 2 - 0.03), 0.05, 0, 0.05, 0.05, h, m)
            place.box(sx * (w / 2 - 0.03), d - 0.05, 0, 0.05, 0.05, h - 0.03, m)
    top = place.at(0, 0, h)
    for _ in range(r.randint(0, 2)):
        monitor(top.at(r.uniform(-0.3, 0.3) * w, r.uniform(0.15, 0.3), 0, r.uniform(-0.4, 0.4)), p)
    if r.random() < 0.75:
        top.box(
            r.uniform(-0.2, 0.2) * w,
            d * 0.7,
            0,
            0.44,
            0.14,
            0.02,
            p.pick("plastic", "label"),
            r.uniform(-0.2, 0.2),
        )
    if r.random() < 0.3:
        laptop(top.at(r.uniform(-0.3, 0.3) * w, d * 0.5, 0, r.uniform(-0.5, 0.5)), p)
    clutter(top.at(0, d / 2), p, w, d, r.randint(3, 16))


def monitor(place: Place, p: Palette) -> None:
    """A screen on a foot, facing +y."""
    r = p.rng
    w, m = r.uniform(0.4, 0.65), p.pick("plastic", "metal")
    screen = p.builder.new_material("screen", 0.0, r.choice((0.0, r.uniform(0.4, 1.3))))
    place.box(0, 0, 0, 0.22, 0.18, 0.015, m)
    place.box(0, -0.03, 0.01, 0.06, 0.03, 0.25, m)
    place.box(0, 0, 0.12, w, 0.035, w * 0.6, m)
    place.box(0, 0.018, 0.135, w * 0.95, 0.004, w * 0.6 - 0.03, screen)


def laptop(place: Place, p: Palette) -> None:
    """An open laptop facing +y."""
    m, screen = p.pick("metal", "plastic"), p.builder.new_material("screen", 0.0, p.rng.uniform(0.3, 1.0))
    place.box(0, 0.12, 0, 0.34, 0.24, 0.015, m)
    place.box(0, -0.03, 0.01, 0.34, 0.01, 0.22, m, tilt=0.25)
    place.box(0, -0.024, 0.02, 0.32, 0.003, 0.2, screen, tilt=0.25)


def sofa(place: Place, p: Palette, w: float, d: float) -> None:
    """A sofa or armchair with cushions."""
    r = p.rng
    h, arm, m = r.uniform(0.36, 0.46), r.uniform(0.1, 0.22), p.pick("fabric")
    place.box(0, d / 2, 0.06, w, d, h - 0.06, m)
    place.box(0, 0.1, h, w, 0.2, r.uniform(0.3, 0.5), m)
    for sx in (-1, 1):
        place.box(sx * (w - arm) / 2, d / 2, h, arm, d, r.uniform(0.12, 0.25), m)
    n = max(1, round(w / 0.7))
    for i in range(n):
        cw = (w - 2 * arm) / n
        x = -w / 2 + arm + (i + 0.5) * cw
        place.box(x, d / 2 + 0.1, h, cw * 0.97, d - 0.22, 0.1, m)
        if r.random() < 0.5:
            place.box(
                x, 0.3, h + 0.12, 0.4, 0.12, 0.36, p.pick("fabric", "label"), r.uniform(-0.4, 0.4), 0.35
            )


def bed(place: Place, p: Palette, w: float, d: float) -> None:
    """A bed with its head at y = 0."""
    r = p.rng
    h = r.uniform(0.3, 0.5)
    place.box(0, d / 2, 0.05, w, d, h - 0.15, p.pick("wood", "fabric"))
    place.box(0, 0.03, 0, w, 0.06, r.uniform(0.7, 1.2), p.pick("wood", "fabric"))
    place.box(0, d / 2 + 0.03, h - 0.1, w * 0.96, d - 0.1, 0.2, p.pick("fabric"))
    place.box(0, d * 0.64, h - 0.05, w * 1.0, d * 0.66, 0.18, p.pick("fabric"))
    for i in range(1 if w < 1.2 else 2):
        x = 0 if w < 1.2 else (i - 0.5) * w * 0.48
        place.box(x, 0.3, h + 0.1, 0.6, 0.4, 0.12, p.pick("fabric"), r.uniform(-0.15, 0.15), 0.2)


def media(place: Place, p: Palette, w: float, d: float) -> None:
    """A low board with a television on it."""
    r = p.rng
    h, tv = r.uniform(0.35, 0.6), min(w * 0.9, r.uniform(0.7, 1.4))
    place.box(0, d / 2, 0, w, d, h, p.pick("wood", "front"))
    place.box(0, d * 0.4, h, 0.4, 0.2, 0.06, p.pick("plastic"))
    place.box(0, d * 0.4, h + 0.06, tv, 0.05, tv * 0.57, p.plastic[0])
    screen = p.builder.new_material("screen", 0.0, r.choice((0.0, r.uniform(0.4, 1.2))))
    place.box(0, d * 0.4 + 0.026, h + 0.08, tv * 0.96, 0.006, tv * 0.53, screen)
    clutter(place.at(0, d * 0.75, h), p, w, d * 0.3, r.randint(0, 5))


def floor_lamp(place: Place, p: Palette, w: float, d: float) -> None:
    """A standing lamp."""
    h, m = p.rng.uniform(1.2, 1.8), p.pick("metal")
    shade = p.builder.new_material("plastic", 0.3, p.rng.choice((0.0, 1.5)))
    place.can(0, d / 2, 0, 0.14, 0.03, m)
    place.can(0, d / 2, 0, 0.013, h, m)
    place.can(0, d / 2, h - 0.05, 0.18, 0.28, shade)


def plant(place: Place, p: Palette, w: float, d: float) -> None:
    """A potted plant: leaves as flat balls."""
    r = p.rng
    green = p.builder.new_material("fabric", 0.2)
    pot, size = r.uniform(0.1, 0.2), r.uniform(0.15, 0.4)
    place.can(0, d / 2, 0, pot, pot * 2, p.pick("plastic", "label"))
    for _ in range(r.randint(4, 10)):
        x, y = r.uniform(-size, size), d / 2 + r.uniform(-size, size) * 0.5
        place.ball(x, y, pot * 2 + r.uniform(0, size * 1.5), r.uniform(0.07, 0.2), green, r.uniform(0.2, 0.8))


def boxes(place: Place, p: Palette, w: float, d: float) -> None:
    """Stacked cartons or crates."""
    r = p.rng
    for _ in range(r.randint(1, 3)):
        x, z = r.uniform(-0.3, 0.3) * w, 0.0
        for _ in range(r.randint(1, 4)):
            bw, h = r.uniform(0.25, 0.55), r.uniform(0.15, 0.45)
            place.box(
                x, d / 2, z, bw, min(bw, d), h, p.pick("wood", "label", "plastic"), r.uniform(-0.4, 0.4)
            )
            z += h


def bin_(place: Place, p: Palette, w: float, d: float) -> None:
    """A waste bin, bucket or stool."""
    place.can(0, d / 2, 0, min(w, d) / 2, p.rng.uniform(0.25, 0.6), p.pick("plastic", "metal", "label"))
