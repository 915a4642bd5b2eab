"""Blocks on disk are as good as blocks in memory, and the cap on memory holds."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from remov3r.backends import block_mesh
from remov3r.backends.block_spill import CHANNELS, VOXELS, BlockStore
from remov3r.backends.fusion import FusionConfig, TsdfVolume
from remov3r.types import Mesh
from tests.backends.room import CAMERA, pose, prediction, room_depth, sphere_depth
from tests.backends.test_fusion import assert_same_map

CONFIG = FusionConfig(voxel_m=0.04, truncation_voxels=4, min_component_triangles=20, upsample_to_width=0)
RGB = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
KEYS = [(x, -x, 3) for x in range(6)]


def full_disk(*args: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full/disk")


def room(cap: int, folder: Path | None = None) -> TsdfVolume:
    """The room seen all around, one view after the other."""
    volume = TsdfVolume(CONFIG.model_copy(update={"max_blocks": cap}), folder)
    for yaw in np.arange(0, 2 * np.pi, 0.7):
        T = pose(yaw=float(yaw))
        volume.integrate(prediction(room_depth(T)), RGB, T)
        assert volume.blocks_in_memory <= cap
    return volume


def sums(value: int) -> np.ndarray:
    return np.full((1, CHANNELS, VOXELS), value, np.int32)


def assert_same_mesh(mesh: Mesh | None, expected: Mesh | None) -> None:
    """The same vertices, normals, colours and triangles, in whatever order."""
    assert mesh is not None
    assert expected is not None
    assert len(mesh.triangles) == len(expected.triangles)
    ranks = []
    for m in (mesh, expected):
        order = np.lexsort(m.vertices_m.T)
        rank = np.empty(len(order), int)
        rank[order] = np.arange(len(order))
        corners = rank[m.triangles]
        # Start each triangle at its lowest corner: the winding counts, the start does not.
        turned = np.take_along_axis(corners, (corners.argmin(1)[:, None] + np.arange(3)) % 3, 1)
        ranks.append((order, turned[np.lexsort(turned.T)]))
    (a, triangles), (b, triangles_expected) = ranks
    assert np.array_equal(triangles, triangles_expected)
    assert np.abs(mesh.vertices_m[a] - expected.vertices_m[b]).max() < 1e-5
    assert np.abs(mesh.normals[a] - expected.normals[b]).max() < 1e-5
    assert np.abs(mesh.colors[a] - expected.colors[b]).max() < 1e-5


def test_spilled_map_is_the_map(tmp_path: Path) -> None:
    free, capped = room(10_000), room(25, tmp_path)
    assert len(free) == free.blocks_in_memory > 75
    assert capped.blocks_in_memory == 25
    assert len(list(tmp_path.rglob("*.npy"))) >= len(capped) - 25
    assert_same_map(capped, free)
    assert_same_mesh(capped.mesh(), free.mesh())
    assert capped.blocks_in_memory == 25
    assert capped.notes == ()
    T = pose(yaw=0.7)
    for volume in (free, capped):
        volume.deintegrate(prediction(room_depth(T)), RGB, T)
    assert_same_map(capped, free)
    capped.close()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("blocks", [1, 12])
def test_mesh_of_pieces_has_no_seams(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed sphere over many pieces stays closed: every edge belongs to two triangles."""
    centre, radius = np.array([0.02, 0.03, 1.2]), 0.4
    config = FusionConfig(voxel_m=0.02, truncation_voxels=4, min_views=1, min_component_triangles=100)
    volume = TsdfVolume(config)
    for yaw, pitch in [(k * np.pi / 3, 0.0) for k in range(6)] + [(0, 1.4), (0, -1.4)]:
        T = pose(yaw=yaw, pitch=pitch)
        T[:3, 3] = centre - 1.2 * T[:3, 2]
        volume.integrate(prediction(sphere_depth(centre, radius, T, CAMERA)), RGB, T)
    whole = volume.mesh()
    monkeypatch.setattr(block_mesh, "PIECE_BLOCKS", blocks)
    volume._mesh = None
    pieces = volume.mesh()
    assert_same_mesh(pieces, whole)
    assert pieces is not None
    a, b, c = pieces.triangles.T
    edges = np.sort(np.stack([np.r_[a, b, c], np.r_[b, c, a]], 1), axis=1)
    _, uses = np.unique(edges, axis=0, return_counts=True)
    assert (uses == 2).mean() > 0.99  # some edges border on what no camera saw
    assert abs(np.median(np.linalg.norm(pieces.vertices_m - centre, axis=1)) - radius) < 0.005


def test_least_recently_seen_blocks_go_first(tmp_path: Path) -> None:
    store = BlockStore(2, tmp_path)
    for key in (KEYS[0], KEYS[1], KEYS[0], KEYS[2]):
        store.add([key], sums(1))
    assert store.in_memory == 2
    assert [path.name for path in tmp_path.rglob("*.npy")] == ["1_-1_3.npy"]
    assert [int(np.array(store.read(key))[0, 0]) for key in KEYS[:3]] == [2, 1, 1]


def test_full_disk_refuses_new_blocks_and_keeps_the_old(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = BlockStore(2, tmp_path)
    store.add(KEYS[:3], np.concatenate([sums(5)] * 3))
    monkeypatch.setattr(os, "replace", full_disk)
    store.add(KEYS[:5], np.concatenate([sums(1)] * 5))
    assert store.refused == {KEYS[3], KEYS[4]}
    assert "No space left" in str(store.trouble)
    assert "/full/disk" in str(store.trouble)
    monkeypatch.undo()
    # What was refused would now lack the first observation, so it stays refused.
    store.add([KEYS[3]], sums(1))
    store.add([KEYS[3]], sums(-1))
    assert [int(np.array(store.read(key))[4, 7]) for key in KEYS[:3]] == [6, 6, 6]
    assert len(store) == 3
    assert not list(tmp_path.rglob(".writing*"))


def test_unwritable_folder_gives_a_smaller_map_that_says_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    volume = room(40, file)
    assert len(volume) == volume.blocks_in_memory == 40
    assert len(volume.notes) == 1
    assert "40 blocks" in volume.notes[0]
    assert "file" in volume.notes[0]
    assert volume.mesh() is not None


def test_taking_back_in_a_full_map_leaves_nothing_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", full_disk)
    volume = TsdfVolume(CONFIG.model_copy(update={"max_blocks": 30}))
    views = [(pose(yaw=0.5 * k), prediction(room_depth(pose(yaw=0.5 * k)))) for k in range(3)]
    for T, dense in views:
        volume.integrate(dense, RGB, T)
    for T, dense in views:
        volume.deintegrate(dense, RGB, T)
    assert len(volume) == 0


def test_damaged_block_is_told_and_the_rest_stays(tmp_path: Path) -> None:
    volume = room(25, tmp_path)
    blocks = len(volume)
    in_memory = set(volume._blocks._blocks._memory)
    for number, path in enumerate(sorted(tmp_path.rglob("*.npy"))):
        key = tuple(int(part) for part in path.stem.split("_"))
        if key not in in_memory:
            path.write_bytes(path.read_bytes()[: 50 * number])
            break
    assert volume.mesh() is not None
    assert len(volume) == blocks - 1
    assert volume.notes == ("1 blocks of the map could not be read back from disk",)
