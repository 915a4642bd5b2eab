"""Rendering of meshes whose pictures are known."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from remov3r.backends.mesh_render import RayCaster, overview_camera, render_mesh
from remov3r.backends.textured_mesh import load_textured_mesh
from remov3r.camera import Camera
from remov3r.errors import DataError
from remov3r.geometry import inverse, project, transform
from remov3r.types import Mesh
from tests.backends.room import CAMERA, HIGH, LOW, pose, room_depth

CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float32)
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]


def box_room() -> Mesh:
    """The box of `room.py` with triangles facing inwards; red floor, blue ceiling, grey walls."""
    triangles: list[list[int]] = []
    vertices, colors, normals = [], [], []
    for quad in QUADS:
        corners = CORNERS[list(quad)]
        normal = 2 * (0.5 - corners.mean(0)) * (np.ptp(corners, axis=0) == 0)
        start = 4 * len(triangles) // 2
        turn = np.cross(corners[1] - corners[0], corners[2] - corners[0]) @ normal > 0
        order = (0, 1, 2, 3) if turn else (0, 3, 2, 1)
        a, b, c, d = (start + k for k in order)
        triangles += [[a, b, c], [a, c, d]]
        vertices.append(corners * (HIGH - LOW) + LOW)
        is_floor, is_ceiling = normal[1] < 0, normal[1] > 0
        colors.append(np.tile([1, 0, 0] if is_floor else [0, 0, 1] if is_ceiling else [0.5] * 3, (4, 1)))
        normals.append(np.tile(normal, (4, 1)))
    return Mesh(
        np.concatenate(vertices).astype(np.float32),
        np.array(triangles),
        np.concatenate(colors).astype(np.float32),
        np.concatenate(normals).astype(np.float32),
    )


@pytest.mark.parametrize("T", [np.eye(4), pose(0.3, -0.2, 0.1, 0.5, -0.4)])
def test_depth_is_exact_to_the_pixel_centre(T: np.ndarray) -> None:
    rgb, depth = render_mesh(box_room(), CAMERA, T)
    assert rgb.shape == (120, 160, 3)
    assert np.abs(depth - room_depth(T)).max() < 1e-3


def test_vertex_colours_are_shown() -> None:
    down, _ = render_mesh(box_room(), CAMERA, pose(pitch=-1.3))
    assert down[60, 80].tolist() == [255, 0, 0]
    up, _ = render_mesh(box_room(), CAMERA, pose(pitch=1.3))
    assert up[60, 80].tolist() == [0, 0, 255]
    ahead, _ = render_mesh(box_room(), CAMERA, np.eye(4))
    assert ahead[60, 80].tolist() == [128, 128, 128]


def test_shading_darkens_slanted_surfaces_only() -> None:
    rgb, _ = render_mesh(box_room(), Camera(161, 121, 130, 130, 80, 60), np.eye(4), shading=1.0)
    assert rgb[60, 80].tolist() == [128, 128, 128]
    assert rgb[60, 10, 0] < 124
    plain, _ = render_mesh(box_room(), CAMERA, np.eye(4), oversample=2)
    assert plain[60, 80].tolist() == [128, 128, 128]


def test_empty_space_is_white_and_has_no_depth() -> None:
    rgb, depth = render_mesh(box_room(), CAMERA, pose(z=-20.0))
    assert rgb[0, 0].tolist() == [255, 255, 255]
    assert depth[0, 0] == 0
    assert depth[60, 80] == pytest.approx(19.5, abs=1e-3)


def test_overview_shows_the_whole_inside_without_the_ceiling() -> None:
    mesh = box_room()
    camera, T_world_cam = overview_camera(mesh, 240, 180)
    pixels, inside = project(transform(inverse(T_world_cam), mesh.vertices_m.astype(np.float64)), camera)
    assert inside.all()
    assert np.ptp(pixels[:, 1]) > 0.6 * 180 or np.ptp(pixels[:, 0]) > 0.6 * 240
    assert T_world_cam[1, 3] < LOW[1]
    rgb, _ = render_mesh(mesh, camera, T_world_cam, cull_back_faces=True)
    assert (rgb == [0, 0, 255]).all(-1).sum() == 0
    assert (rgb == [255, 0, 0]).all(-1).mean() > 0.05
    closed, _ = render_mesh(mesh, camera, T_world_cam)
    assert (closed == [0, 0, 255]).all(-1).mean() > 0.05


def test_overview_is_upright_when_the_first_camera_was_tilted() -> None:
    mesh = box_room()
    tilt = pose(pitch=0.4)[:3, :3].astype(np.float32)
    tilted = Mesh(mesh.vertices_m @ tilt.T, mesh.triangles, mesh.colors, mesh.normals @ tilt.T)
    _, T_world_cam = overview_camera(tilted)
    up = tilt @ [0, -1, 0]
    assert abs(T_world_cam[:3, 0] @ up) < 1e-3
    assert T_world_cam[:3, 1] @ up < -0.5


def test_line_of_sight() -> None:
    mesh = box_room()
    caster = RayCaster(mesh.vertices_m, mesh.triangles)
    points = np.array([[0.0, 0, 1], [0, 0, 4]])
    assert caster.sees(points, np.zeros(3)).tolist() == [True, False]


def test_nothing_to_render_is_refused() -> None:
    empty = Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64), np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(DataError, match="triangle"):
        render_mesh(empty, CAMERA, np.eye(4))
    with pytest.raises(DataError, match="vertices"):
        overview_camera(empty)


def test_textures_of_a_glb_land_where_they_belong(tmp_path: Path) -> None:
    """A square at z = 2 whose texture has four colours, seen upright."""
    trimesh = pytest.importorskip("trimesh")
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    picture[:32, :32], picture[:32, 32:] = (255, 0, 0), (0, 255, 0)
    picture[32:, :32], picture[32:, 32:] = (0, 0, 255), (255, 255, 0)
    square = trimesh.Trimesh(
        [[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2]],
        [[0, 1, 2], [0, 2, 3]],
        process=False,
        visual=trimesh.visual.TextureVisuals(
            uv=[[0, 1], [1, 1], [1, 0], [0, 0]],  # image row 0 lies at y = -1, which a camera sees on top
            material=trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(picture)),
        ),
    )
    trimesh.Scene([square]).export(tmp_path / "square.glb")
    mesh = load_textured_mesh(tmp_path / "square.glb", texture_size=64)
    hits = RayCaster(mesh.vertices_m, mesh.triangles).cast(CAMERA, np.eye(4))
    seen = hits.fill(mesh.colors_at(hits), np.ones(3))
    assert seen[40, 60] == pytest.approx([1, 0, 0], abs=0.05)
    assert seen[40, 100] == pytest.approx([0, 1, 0], abs=0.05)
    assert seen[80, 60] == pytest.approx([0, 0, 1], abs=0.05)
    assert seen[80, 100] == pytest.approx([1, 1, 0], abs=0.05)


def test_absent_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("trimesh")
    with pytest.raises(DataError, match="no such file"):
        load_textured_mesh(tmp_path / "absent.glb")
