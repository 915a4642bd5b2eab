"""Furniture models converted to boxes (Kenney Furniture Kit, CC0), shipped as `furniture.npz`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from jaxtyping import Float, Int

from remov3r.data.synthetic.scene import Place


@dataclass(frozen=True)
class Model:
    """One piece: its back is at y = 0, its front towards +y, it stands on z = 0.

    Attributes:
        center_m: of its boxes, which are aligned with its axes.
        slot: number of the material of each box.
    """

    name: str
    center_m: Float[np.ndarray, "n 3"]
    size_m: Float[np.ndarray, "n 3"]
    slot: Int[np.ndarray, " n"]

    @property
    def footprint_m(self) -> tuple[float, float]:
        """Width and depth."""
        first, last = self.center_m - self.size_m / 2, self.center_m + self.size_m / 2
        return 2 * float(max(-first[:, 0].min(), last[:, 0].max())), float(last[:, 1].max())

    @property
    def height_m(self) -> float:
        """Height of the highest box above the ground."""
        return float((self.center_m + self.size_m / 2)[:, 2].max())


@lru_cache(maxsize=1)
def furniture_models() -> tuple[Model, ...]:
    """Read the shipped models."""
    with (
        resources.files("remov3r.data.synthetic").joinpath("furniture.npz").open("rb") as file,
        np.load(file) as data,
    ):
        starts = [0, *data["stop"][:-1]]
        box_m, slot = data["box_m"].astype(np.float64), data["slot"].astype(np.int64)
        return tuple(
            Model(str(name), box_m[a:b, :3], box_m[a:b, 3:], slot[a:b])
            for name, a, b in zip(data["name"], starts, data["stop"])
        )


@lru_cache(maxsize=64)
def models_named(prefixes: tuple[str, ...]) -> tuple[Model, ...]:
    """Return the models whose names start with one of the prefixes."""
    return tuple(m for m in furniture_models() if m.name.startswith(prefixes))


def place_model(place: Place, model: Model, materials: Sequence[int]) -> None:
    """Add a model's boxes; its material slots take the given materials in turn."""
    for center, size, slot in zip(model.center_m.tolist(), model.size_m.tolist(), model.slot.tolist()):
        x, y, z = center
        place.box(x, y, z - size[2] / 2, size[0], size[1], size[2], materials[slot % len(materials)])
