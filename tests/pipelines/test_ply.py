"""PLY files: read back by ourselves and by the libraries that users will open them with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh

from remov3r.errors import DataError
from remov3r.pipelines.ply import read_ply, write_ply
from remov3r.types import Mesh, PointCloud

RNG = np.random.default_rng(0)
POINTS, COLORS = RNG.normal(size=(20, 3)), RNG.integers(0, 256, (20, 3)) / 255
NORMALS = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
MESH = Mesh(POINTS, RNG.permuted(np.arange(20).reshape(1, -1).repeat(7, 0), axis=1)[:, :3], COLORS, NORMALS)
CLOUD = PointCloud(POINTS, COLORS, NORMALS)


def test_mesh_round_trip(tmp_path: Path) -> None:
    write_ply(tmp_path / "mesh.ply", MESH)
    back = read_ply(tmp_path / "mesh.ply")
    assert isinstance(back, Mesh)
    np.testing.assert_allclose(back.vertices_m, MESH.vertices_m, atol=1e-6)
    np.testing.assert_array_equal(back.triangles, MESH.triangles)
    np.testing.assert_allclose(back.colors, MESH.colors, atol=1e-9)
    np.testing.assert_allclose(back.normals, MESH.normals, atol=1e-6)


def test_cloud_round_trip_even_when_empty(tmp_path: Path) -> None:
    for cloud in (CLOUD, PointCloud(POINTS[:0], COLORS[:0], NORMALS[:0])):
        write_ply(tmp_path / "cloud.ply", cloud)
        back = read_ply(tmp_path / "cloud.ply")
        assert isinstance(back, PointCloud)
        np.testing.assert_allclose(back.points_m, cloud.points_m, atol=1e-6)


def test_trimesh_reads_the_same(tmp_path: Path) -> None:
    write_ply(tmp_path / "mesh.ply", MESH)
    mesh = trimesh.load(tmp_path / "mesh.ply", process=False)
    np.testing.assert_allclose(mesh.vertices, MESH.vertices_m, atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, MESH.triangles)
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], np.rint(MESH.colors * 255))


def test_open3d_reads_the_same(tmp_path: Path) -> None:
    from remov3r.backends.open3d_import import load_open3d

    open3d = load_open3d()
    write_ply(tmp_path / "mesh.ply", MESH)
    write_ply(tmp_path / "cloud.ply", CLOUD)
    mesh = open3d.io.read_triangle_mesh(str(tmp_path / "mesh.ply"))
    cloud = open3d.io.read_point_cloud(str(tmp_path / "cloud.ply"))
    np.testing.assert_allclose(np.asarray(mesh.vertices), MESH.vertices_m, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(mesh.triangles), MESH.triangles)
    np.testing.assert_allclose(np.asarray(cloud.colors), CLOUD.colors, atol=1e-6)
    np.testing.assert_allclose(np.asarray(cloud.normals), CLOUD.normals, atol=1e-6)


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b"", lambda b: b.replace(b"nx", b"qq")])
def test_damaged_files_are_refused_by_name(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "mesh.ply"
    write_ply(path, MESH)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"mesh\.ply"):
        read_ply(path)
    with pytest.raises(DataError, match=r"none\.ply"):
        read_ply(tmp_path / "none.ply")
