"""Turn low-poly furniture models (GLB, y up) into the few boxes each that `furniture.npz` ships.

Run once: `python -m remov3r.data.synthetic.convert_furniture FOLDER OUT.npz` (needs trimesh: `remov3r[train]`).
Every part of one material is filled with voxels, and the voxels are merged greedily into boxes.
"""

from __future__ import annotations

import argparse
import logging
from itertools import permutations
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_fill_holes

from remov3r.errors import DataError, MissingDependencyError

log = logging.getLogger(__name__)
_SKIPPED = ("floor", "stairs", "paneling", "shower")  # parts of buildings
_HEIGHT_M = (  # the first prefix that fits gives a model its height; the kit is at about half scale
    ("chairDesk", 1.05), ("chair", 0.92), ("bench", 0.85), ("desk", 0.74), ("tableCoffee", 0.45),
    ("tableCross", 0.74), ("table", 0.74), ("sideTable", 0.76), ("kitchenFridgeSmall", 1.2), ("kitchenFridge", 1.8),
    ("bookcaseOpenLow", 0.85), ("bookcase", 1.9), ("bedBunk", 1.7), ("stoolBar", 0.8), ("SimpleCabinet", 0.77),
)  # fmt: skip
_SCALE = 2.05
_MOST_BOXES = 20


def merge_voxels(filled: Bool[np.ndarray, "x y z"]) -> Float[np.ndarray, "n 6"]:
    """Cover voxels with few boxes: rows (start x y z, stop x y z), the greedy cover of the best axis order."""
    best: list[list[int]] | None = None
    for order in permutations(range(3)):
        left, found = filled.copy(), []
        for start in np.argwhere(filled):
            if not left[tuple(start)]:
                continue
            stop = start + 1
            for axis in order:
                while stop[axis] < filled.shape[axis]:
                    window = [slice(a, b) for a, b in zip(start, stop)]
                    window[axis] = slice(stop[axis], stop[axis] + 1)
                    if not left[tuple(window)].all():
                        break
                    stop[axis] += 1
            left[tuple(slice(a, b) for a, b in zip(start, stop))] = False
            found.append([*start, *stop])
        if best is None or len(found) < len(best):
            best = found
    return np.array(best, float).reshape(-1, 6)


def _voxels(
    triangles: Float[np.ndarray, "t 3 3"],
    low: Float[np.ndarray, "3"],
    pitch: float,
    shape: tuple[int, int, int],
) -> Bool[np.ndarray, "x y z"]:
    """Mark the voxels that dense points on the triangles fall into, and those that they enclose."""
    grid = np.zeros(shape, bool)
    edge = np.linalg.norm(np.diff(triangles, axis=1, append=triangles[:, :1]), axis=2).max(1)
    for triangle, steps in zip(triangles, np.ceil(edge / pitch * 2).astype(int) + 1):
        i, j = np.meshgrid(*[np.linspace(0, 1, steps)] * 2)
        keep = i + j <= 1
        points = (
            triangle[0]
            + i[keep][:, None] * (triangle[1] - triangle[0])
            + j[keep][:, None] * (triangle[2] - triangle[0])
        )
        cell = np.clip(((points - low) / pitch).astype(int), 0, np.array(shape) - 1)
        grid[tuple(cell.T)] = True
    return np.asarray(binary_fill_holes(grid), bool)


def model_boxes(path: Path) -> Float[np.ndarray, "n 7"]:
    """Return boxes of one model in metres: centre x y z, size x y z, material slot; z up, back at y = 0.

    Raises:
        MissingDependencyError: trimesh is not installed.
        DataError: the file is no readable model.
    """
    try:
        import trimesh
    except ImportError as error:
        raise MissingDependencyError(
            "converting furniture needs trimesh: pip install 'remov3r[train]'"
        ) from error
    try:
        scene = trimesh.load(path, force="scene")
    except (OSError, ValueError) as error:
        raise DataError(f"furniture model {path}: cannot read: {error}") from error
    parts = [part for part in scene.dump() if len(part.faces)]
    low = np.min([p.bounds[0] for p in parts], 0)
    high = np.max([p.bounds[1] for p in parts], 0)
    target = next((h for prefix, h in _HEIGHT_M if path.stem.startswith(prefix)), None)
    scale = target / (high - low)[1] if target else _SCALE
    pitch = max(float((high - low).max()) / 56, 0.006)
    cells = np.ceil((high - low) / pitch - 1e-6).astype(int)
    shape = (int(cells[0]), int(cells[1]), int(cells[2]))
    rows = []
    for slot, part in enumerate(parts):
        boxes = merge_voxels(_voxels(np.asarray(part.triangles), low, pitch, shape))
        rows.append(np.c_[low + boxes[:, :3] * pitch, low + boxes[:, 3:] * pitch, np.full(len(boxes), slot)])
    all_rows = np.concatenate(rows)
    size = all_rows[:, 3:6] - all_rows[:, :3]
    all_rows = all_rows[np.argsort(-size.prod(1))][:_MOST_BOXES]
    first, last = all_rows[:, :3], all_rows[:, 3:6]
    center, size = (first + last) / 2, last - first
    center -= [(low[0] + high[0]) / 2, low[1], low[2]]
    swap = [0, 2, 1]
    return np.c_[center[:, swap] * scale, size[:, swap] * scale, all_rows[:, 6]]


def convert(folder: Path, out: Path) -> None:
    """Convert every model of a folder.

    Raises:
        DataError: the folder holds no model.
    """
    paths = [p for p in sorted(folder.glob("*.glb")) if not p.stem.startswith(_SKIPPED)]
    if not paths:
        raise DataError(f"furniture folder {folder}: no .glb file")
    models = [model_boxes(p) for p in paths]
    stop = np.cumsum([len(m) for m in models])
    boxes = np.concatenate(models)
    np.savez_compressed(
        out, name=np.array([p.stem for p in paths]), stop=stop, box_m=boxes[:, :6].astype(np.float16),
        slot=boxes[:, 6].astype(np.uint8),
    )  # fmt: skip
    log.info("%d models, %d boxes, %d bytes", len(models), len(boxes), out.stat().st_size)


def main() -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    convert(args.folder, args.out)


if __name__ == "__main__":
    main()
