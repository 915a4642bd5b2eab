"""The surface of a voxel volume, extracted piece by piece so that memory stays small, without seams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int, Shaped
from scipy.sparse.csgraph import connected_components

from remov3r.backends.block_spill import BLOCK, BlockStore
from remov3r.backends.open3d_import import load_open3d
from remov3r.types import Mesh

PIECE_BLOCKS = 1500  # meshed at a time (with their neighbours), at about 150 kB each

Corner = Int[np.ndarray, " 3"]


def extract_mesh(
    blocks: BlockStore, voxel_m: float, min_weight: float, min_component_triangles: int
) -> Mesh | None:
    """Extract the zero crossing of the distances, with colours and normals; None where there is none.

    Args:
        min_weight: voxels need more than this, in the units of the store's weights.
        min_component_triangles: smaller loose pieces of surface are dropped.
    """
    keys = blocks.keys()
    if not len(keys):
        return None
    parts = []
    for low, high in _boxes(keys, keys.min(0) - 1, keys.max(0) + 2):
        # A cube reaches into the next block, and the normals at its corners one voxel beyond.
        around = keys[((keys >= low - 1) & (keys <= high)).all(1)]
        part = _marching_cubes(blocks, around, voxel_m, min_weight)
        if part is not None and (part := _inside(part, low, high, voxel_m)) is not None:
            parts.append(part)
    if not parts:
        return None
    return without_small_pieces(joined(parts), min_component_triangles)


def _boxes(keys: Int[np.ndarray, "n 3"], low: Corner, high: Corner) -> Iterator[tuple[Corner, Corner]]:
    """Halve a box (its end not included) until each part holds few enough of the keys."""
    axis = int(np.ptp(keys, axis=0).argmax())
    first, last = int(keys[:, axis].min()), int(keys[:, axis].max())
    if len(keys) <= PIECE_BLOCKS or first == last:
        yield low, high
        return
    middle = max(int(np.median(keys[:, axis])), first + 1)
    below = keys[:, axis] < middle
    end, start = high.copy(), low.copy()
    end[axis] = start[axis] = middle
    yield from _boxes(keys[below], low, end)
    yield from _boxes(keys[~below], start, high)


def _marching_cubes(
    blocks: BlockStore, keys: Int[np.ndarray, "n 3"], voxel_m: float, min_weight: float
) -> Mesh | None:
    o3d = load_open3d()
    core = o3d.core
    grid: Any = o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"), (core.float32,) * 3, ((1,), (1,), (3,)), voxel_m, BLOCK, len(keys)
    )
    table = grid.hashmap()
    coordinates = core.Tensor(np.ascontiguousarray(keys, np.int32))
    table.activate(coordinates)
    slots = table.find(coordinates)[0].numpy()
    layers = [grid.attribute(name).numpy() for name in ("tsdf", "weight", "color")]
    for slot, means in zip(slots, _means(blocks, keys)):
        for layer, values in zip(layers, means):
            layer[slot] = values
    raw = grid.extract_triangle_mesh(weight_threshold=min_weight)
    if "positions" not in raw.vertex or "indices" not in raw.triangle or not len(raw.triangle.indices):
        return None
    return Mesh(
        raw.vertex.positions.numpy().astype(np.float32),
        raw.triangle.indices.numpy().astype(np.int64),
        np.clip(raw.vertex.colors.numpy(), 0, 1).astype(np.float32),
        raw.vertex.normals.numpy().astype(np.float32),
    )


def _means(
    blocks: BlockStore, keys: Int[np.ndarray, "n 3"]
) -> Iterator[tuple[Float[np.ndarray, "..."], ...]]:
    """Mean distance, weight and mean colour (0..255) of the voxels of each block."""
    shape = (BLOCK, BLOCK, BLOCK)
    for key in map(tuple, keys.tolist()):
        block = blocks.read(key)
        sums = np.zeros((5, *shape), np.float32) if block is None else block.reshape(5, *shape)
        weight = sums[0].astype(np.float32)
        share = 1 / np.maximum(weight, 1)
        # A surface right through a voxel would give triangles without area: half a unit off it.
        distance = np.where(sums[1] == 0, np.float32(0.5), sums[1].astype(np.float32)) * share
        color = (sums[2:] * (256 * share)).transpose(1, 2, 3, 0)
        yield distance[..., None], weight[..., None], color


def _inside(mesh: Mesh, low: Corner, high: Corner, voxel_m: float) -> Mesh | None:
    """Keep the triangles whose cube belongs to a box of blocks; each cube's triangles lie within it."""
    middle = mesh.vertices_m[mesh.triangles].mean(1, dtype=np.float64)
    block = np.floor(middle / (voxel_m * BLOCK))
    return _with_triangles(mesh, mesh.triangles[((block >= low) & (block < high)).all(1)])


def joined(parts: list[Mesh]) -> Mesh:
    """Put pieces together, in an order that depends on the surface alone: Open3D's differs from run to run.

    Vertices at the same place (bit for bit, as on seams) become one.
    """
    first = np.cumsum([0] + [len(part.vertices_m) for part in parts])
    vertices = np.concatenate([part.vertices_m for part in parts]) + np.float32(0)  # no -0
    colors = np.concatenate([part.colors for part in parts])
    normals = np.concatenate([part.normals for part in parts])
    bits = vertices.view(np.uint32).astype(np.uint64)
    order = _sorted_by((bits[:, 0] << np.uint64(32)) | bits[:, 1], vertices[:, 2], *colors.T, *normals.T)
    new = np.ones(len(order), bool)
    new[1:] = (vertices[order[1:]] != vertices[order[:-1]]).any(1)
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    kept = order[new]
    triangles = number[np.concatenate([part.triangles + n for part, n in zip(parts, first)])]
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (c != a)]
    a, b, c = triangles.T
    return Mesh(vertices[kept], triangles[_sorted_by(a * len(kept) + b, c)], colors[kept], normals[kept])


def _sorted_by(key: Shaped[np.ndarray, " n"], *further: Shaped[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Order by a key of 64 bits, then what ties by the next one, and so on: few ties make it fast."""
    order = np.argsort(key)
    places, groups = np.arange(len(order)), key[order]
    for column in further:
        if not len(places):
            break
        same = np.concatenate([[False], groups[1:] == groups[:-1], [False]])
        tied = same[1:] | same[:-1]
        places, groups = places[tied], np.cumsum(~same[:-1])[tied]
        rows = order[places]
        within = np.lexsort((column[rows], groups))
        order[places] = rows[within]
        values = column[order[places]]
        changes = (groups[1:] != groups[:-1]) | (values[1:] != values[:-1])
        groups = np.concatenate([np.zeros(len(places[:1]), np.int64), np.cumsum(changes)])
    return order


def without_small_pieces(mesh: Mesh, min_triangles: int) -> Mesh | None:
    """Drop connected pieces of fewer triangles, and vertices that none uses; None if nothing is left."""
    n = len(mesh.vertices_m)
    a, b, c = mesh.triangles.T
    links = sp.coo_array((np.ones(2 * len(a), dtype=np.int8), (np.r_[a, b], np.r_[b, c])), shape=(n, n))
    _, piece = connected_components(links.tocsr(), directed=False)
    of_triangle = piece[a]
    return _with_triangles(
        mesh, mesh.triangles[np.bincount(of_triangle, minlength=n)[of_triangle] >= min_triangles]
    )


def _with_triangles(mesh: Mesh, triangles: Int[np.ndarray, "t 3"]) -> Mesh | None:
    """Keep some triangles and the vertices that they use; None where there are none."""
    if not len(triangles):
        return None
    used = np.zeros(len(mesh.vertices_m), dtype=bool)
    used[triangles] = True
    renumbered = np.cumsum(used) - 1
    return replace(
        mesh,
        vertices_m=mesh.vertices_m[used],
        triangles=renumbered[triangles],
        colors=mesh.colors[used],
        normals=mesh.normals[used],
    )
