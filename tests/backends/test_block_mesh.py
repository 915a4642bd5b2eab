"""The order of a mesh's vertices and triangles, which must not depend on threads or hash tables."""

from dataclasses import replace

import numpy as np
import pytest

from remov3r.backends import block_mesh
from remov3r.backends.block_mesh import joined
from remov3r.backends.fusion import FusionConfig, TsdfVolume
from remov3r.types import Mesh
from tests.backends.room import pose, prediction, room_depth

RGB = np.full((120, 160, 3), (200, 100, 50), dtype=np.uint8)
CONFIG = FusionConfig(voxel_m=0.04, truncation_voxels=4, min_component_triangles=20)


def random_mesh(rng: np.random.Generator) -> Mesh:
    """Vertices on a coarse lattice, so that many tie in one or two coordinates and some are at one place."""
    vertices = rng.integers(-3, 4, (400, 3)).astype(np.float32) / 4
    triangles = rng.integers(0, len(vertices), (900, 3))
    colors, normals = rng.integers(0, 3, (2, 400, 3)).astype(np.float32)
    return Mesh(vertices, triangles, colors, normals)


def shuffled(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """The same surface in another order."""
    order = rng.permutation(len(mesh.vertices_m))
    number = np.argsort(order)
    rows = rng.permutation(len(mesh.triangles))
    return Mesh(mesh.vertices_m[order], number[mesh.triangles][rows], mesh.colors[order], mesh.normals[order])


def assert_identical(a: Mesh | None, b: Mesh | None) -> None:
    """Equal to the last bit, in the same order."""
    assert a is not None
    assert b is not None
    for name in ("vertices_m", "triangles", "colors", "normals"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name


def test_the_order_depends_on_the_surface_alone() -> None:
    rng = np.random.default_rng(0)
    mesh = random_mesh(rng)
    for _ in range(5):
        assert_identical(joined([shuffled(mesh, rng)]), joined([mesh]))


def test_joining_keeps_the_surface() -> None:
    rng = np.random.default_rng(1)
    mesh = random_mesh(rng)
    whole = joined([mesh, replace(mesh, triangles=mesh.triangles[:0])])
    corners = mesh.vertices_m[mesh.triangles]
    apart = (corners != np.roll(corners, 1, axis=1)).any(2).all(1)
    got = whole.vertices_m[whole.triangles].reshape(-1, 9)
    expected = corners[apart].reshape(-1, 9)
    assert np.array_equal(got[np.lexsort(got.T)], expected[np.lexsort(expected.T)])
    assert len(np.unique(whole.vertices_m, axis=0)) == len(whole.vertices_m)


def test_a_volume_gives_the_same_mesh_however_it_came_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Order of the views, and extraction in one piece or in many."""
    views = [(pose(yaw=yaw), prediction(room_depth(pose(yaw=yaw)))) for yaw in (0.0, 0.9, 1.8, 2.7)]
    meshes = []
    for order, piece in ((views, 1500), (views[::-1], 1500), (views, 40)):
        volume = TsdfVolume(CONFIG)
        for T, dense in order:
            volume.integrate(dense, RGB, T)
        monkeypatch.setattr(block_mesh, "PIECE_BLOCKS", piece)
        meshes.append(volume.mesh())
        assert len(volume) > 40
        volume.close()
    assert_identical(meshes[0], meshes[1])
    assert_identical(meshes[0], meshes[2])
