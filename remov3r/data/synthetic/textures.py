"""The texture atlas: procedural patterns and, where given a folder, photographs, with mip levels in one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, Int32, UInt8
from torch import Tensor

from remov3r.data.synthetic import patterns
from remov3r.errors import DataError

CATEGORIES = (
    "paint", "wall", "floor", "ceiling", "wood", "metal", "fabric", "plastic", "stone",
    "picture", "label", "screen", "panel", "window",
)  # fmt: skip

_PROCEDURAL: tuple[tuple[str, patterns.Pattern, int], ...] = (
    ("paint", patterns.plain, 16), ("paint", patterns.gradient, 1),
    ("wall", patterns.stripes, 2), ("wall", patterns.tiles, 4),
    ("wall", patterns.gradient, 2), ("floor", patterns.planks, 6), ("floor", patterns.tiles, 5),
    ("floor", patterns.speckle, 5), ("floor", patterns.checks, 1), ("ceiling", patterns.plain, 5),
    ("ceiling", patterns.tiles, 2), ("wood", patterns.wood, 12), ("metal", patterns.metal, 8),
    ("fabric", patterns.weave, 10), ("fabric", patterns.speckle, 5), ("fabric", patterns.stripes, 3),
    ("plastic", patterns.plastic, 16), ("stone", patterns.speckle, 6), ("stone", patterns.plain, 2),
    ("picture", patterns.poster, 16), ("label", patterns.poster, 12), ("label", patterns.page, 6),
    ("screen", patterns.page, 10), ("screen", patterns.poster, 3), ("panel", patterns.panel, 14),
    ("window", patterns.outdoors, 8),
)  # fmt: skip

_CLASS_CATEGORY = {
    "paint": "Plaster Wallpaper Paper Concrete",
    "wall": "Wallpaper Bricks Concrete Tiles WoodSiding Paint",
    "floor": "WoodFloor Carpet Tiles Planks Terrazzo Tatami PavingStones Marble",
    "ceiling": "OfficeCeiling Plaster Paint Concrete",
    "wood": "Wood Planks Bamboo Chipboard Cork Cardboard WoodFloor",
    "metal": "Metal CorrugatedSteel DiamondPlate Rust Foil Chainmail",
    "fabric": "Fabric Carpet Net",
    "plastic": "Plastic Rubber Porcelain Clay Paint Onyx",
    "stone": "Granite Marble Travertine Terrazzo Onyx Concrete GlazedTerracotta",
}
_NAME_CATEGORY = (
    (("floor",), "floor"), (("plaster", "stucco"), "paint"), (("wall",), "wall"),
    (("wood", "mahogany", "able"), "wood"),
    (("metal", "steel"), "metal"), (("marble", "stone", "granite", "ceramic"), "stone"),
    (("linen", "fabric", "canvas"), "fabric"), (("cabinet", "oven", "microwave", "kitchen"), "panel"),
    (("painting", "decoration", "background", "kona"), "picture"),
)  # fmt: skip


@dataclass(frozen=True)
class TextureAtlas:
    """Square textures of one power-of-two size, each with its mip levels, packed RGB0 in 32-bit words.

    Attributes:
        texels: all levels of all textures; a texture's levels lie one after the other.
        level_start: offset of each level in a texture's stretch of texels.
        category: of each texture; some photographs are listed under several.
    """

    texels: Int32[Tensor, " t"]
    level_start: Int[Tensor, " levels"]
    size_px: int
    category: tuple[frozenset[str], ...]

    @property
    def stride(self) -> int:
        """Number of texels of one texture with its levels."""
        return len(self.texels) // len(self.category)

    def of(self, category: str) -> list[int]:
        """Return the textures listed under a category."""
        return [i for i, names in enumerate(self.category) if category in names]

    def to(self, device: str | torch.device) -> TextureAtlas:
        """Return a copy on a device."""
        return replace(self, texels=self.texels.to(device), level_start=self.level_start.to(device))

    def sample(
        self,
        texture: Int[Tensor, " n"],
        u: Float[Tensor, " n"],
        v: Float[Tensor, " n"],
        footprint: Float[Tensor, " n"],
    ) -> Float[Tensor, "n 4"]:
        """Look up colours 0..255 (the fourth channel is meaningless), bilinear, repeated in mirror image outside 0..1.

        Args:
            u: to the right in units of the texture's width.
            v: down.
            footprint: pixel pitch on the surface in texels of the finest level; chooses the level.
        """
        levels = len(self.level_start)
        level = (footprint.clamp_(min=1.0).log2_() + 0.3).long().clamp_(max=levels - 1)
        size = self.size_px >> level
        base = texture * self.stride + self.level_start[level]
        x0, x1, fx = _mirrored(u, size)
        y0, y1, fy = _mirrored(v, size)
        row0, row1 = base + y0 * size, base + y1 * size
        index = torch.cat([row0 + x0, row0 + x1, row1 + x0, row1 + x1])
        corner = self.texels[index].view(torch.uint8).view(4, len(u), 4).float()
        top = corner[0] + (corner[1] - corner[0]) * fx[:, None]
        bottom = corner[2] + (corner[3] - corner[2]) * fx[:, None]
        return top.add_((bottom - top) * fy[:, None])


def _mirrored(s: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two neighbouring texels along one axis and the weight of the second."""
    s = 1 - (s - 2 * torch.floor(s * 0.5) - 1).abs_()  # triangle wave 0..1
    p = (s * size - 0.5).clamp_(min=0)
    first = p.long()
    last = size - 1
    first = torch.minimum(first, last)
    return first, torch.minimum(first + 1, last), p - first


def _pack(images: Sequence[UInt8[np.ndarray, "s s 3"]], category: Sequence[frozenset[str]]) -> TextureAtlas:
    size = len(images[0])
    sizes = [size >> k for k in range(size.bit_length()) if size >> k >= 2]
    starts = np.concatenate([[0], np.cumsum([s * s for s in sizes])])
    words = np.zeros((len(images), starts[-1], 4), np.uint8)
    for i, image in enumerate(images):
        level = image
        for s, start in zip(sizes, starts):
            if len(level) != s:
                level = np.asarray(cv2.resize(level, (s, s), interpolation=cv2.INTER_AREA))
            words[i, start : start + s * s, :3] = level.reshape(-1, 3)
    return TextureAtlas(
        torch.from_numpy(words.view(np.int32).reshape(-1)),
        torch.from_numpy(starts[:-1].copy()),
        size,
        tuple(category),
    )


def _photo_category(path: Path) -> frozenset[str]:
    listed = {c for c, classes in _CLASS_CATEGORY.items() if path.parent.name in classes.split()}
    if not listed:
        listed = {c for words, c in _NAME_CATEGORY if any(w in path.stem.lower() for w in words)} or {"label"}
    return frozenset(listed)


def read_photos(folder: Path, size_px: int) -> list[tuple[UInt8[np.ndarray, "s s 3"], frozenset[str]]]:
    """Read every image below a folder as a square texture; its class folder or name says what it may dress.

    Raises:
        DataError: the folder holds no readable image.
    """
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        image = cv2.imread(str(path))
        if image is not None:
            side = min(image.shape[:2])
            square = image[:side, :side, ::-1]
            method = cv2.INTER_AREA if side > size_px else cv2.INTER_CUBIC
            found.append(
                (
                    np.asarray(cv2.resize(square, (size_px, size_px), interpolation=method)),
                    _photo_category(path),
                )
            )
    if not found:
        raise DataError(f"texture folder {folder}: no readable .jpg or .png below it")
    return found


def build_atlas(seed: int, size_px: int = 128, folder: Path | None = None) -> TextureAtlas:
    """Draw the procedural textures and add the photographs of a folder.

    Args:
        size_px: side of every texture, a power of two.
    Raises:
        DataError: size is no power of two, or the folder holds no image.
    """
    if size_px < 8 or size_px & (size_px - 1):
        raise DataError(f"texture size {size_px} must be a power of two, at least 8")
    rng = np.random.default_rng(seed)
    drawn_px = max(size_px, 128)  # the patterns' details need some pixels
    images, category = [], []
    for name, pattern, count in _PROCEDURAL:
        for _ in range(count):
            picture = np.asarray(pattern(rng, drawn_px), np.float32)
            small = (
                picture
                if drawn_px == size_px
                else cv2.resize(picture, (size_px,) * 2, interpolation=cv2.INTER_AREA)
            )
            images.append((np.clip(small, 0, 1) * 255).astype(np.uint8))
            category.append(frozenset([name]))
    for image, names in read_photos(folder, size_px) if folder else []:
        images.append(image)
        category.append(names)
    return _pack(images, category)
