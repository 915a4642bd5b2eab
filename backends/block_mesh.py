"""The surface of a voxel volume, extracted piece by piece so that memory stays small, without seams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

from remov3r.backends.block_spill import BLOCK, BlockStore
from remov3r.backends.open3d_import import load_open3d
from remov3r.types import Mesh

PIECE = 8  # blocks per side of a piece; at most (PIECE + 2)³ blocks are in memory besides those of the store


def extract_mesh(
    blocks: BlockStore, voxel_m: float, min_weight: float, min_component_triangles: int
) -> Mesh | None:
    """Extract the zero crossing of the distances, with colours and normals; None where there is none.

    Args:
        min_weight: voxels need more than this, in the units of the store's weights.
        min_component_triangles: smaller loose pieces of surface are dropped.
    """
    keys = blocks.keys()
    parts = []
    for piece in np.unique(keys // PIECE, axis=0):
        low = piece * PIECE
        # A cube reaches into the next block, and the normals at its corners one voxel beyond.
        around = keys[((keys >= low - 1) & (keys <= low + PIECE)).all(1)]
        part = _marching_cubes(blocks, around, voxel_m, min_weight)
        if part is not None and (part := _inside(part, low, voxel_m)) is not None:
            parts.append(part)
    if not parts:
        return None
    return without_small_pieces(_joined(parts), min_component_triangles)


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
        color = np.moveaxis(sums[2:] * (256 * share), 0, -1)
        yield (sums[1] * share)[..., None], weight[..., None], color


def _inside(mesh: Mesh, low: Int[np.ndarray, " 3"], voxel_m: float) -> Mesh | None:
    """Keep the triangles whose cube belongs to a piece; each cube's triangles lie within it."""
    middle = mesh.vertices_m[mesh.triangles].mean(1, dtype=np.float64)
    block = np.floor(middle / (voxel_m * BLOCK))
    return _with_triangles(mesh, mesh.triangles[((block >= low) & (block < low + PIECE)).all(1)])


def _joined(parts: list[Mesh]) -> Mesh:
    """Put pieces together; vertices at the same place (bit for bit, as on seams) become one."""
    first = np.cumsum([0] + [len(part.vertices_m) for part in parts])
    vertices = np.concatenate([part.vertices_m for part in parts]) + np.float32(0)  # no -0
    order = np.lexsort(vertices.T)
    new = np.ones(len(order), bool)
    new[1:] = (vertices[order[1:]] != vertices[order[:-1]]).any(1)
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    kept = order[new]
    triangles = number[np.concatenate([part.triangles + n for part, n in zip(parts, first)])]
    a, b, c = triangles.T
    return Mesh(
        vertices[kept],
        triangles[(a != b) & (b != c) & (c != a)],
        np.concatenate([part.colors for part in parts])[kept],
        np.concatenate([part.normals for part in parts])[kept],
    )


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
