"""Rooms, textures, paths, the source and the shards of the synthetic world."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from remov3r.camera import Camera
from remov3r.data.synthetic.benchmark import benchmark_rendering, with_objects
from remov3r.data.synthetic.models import furniture_models
from remov3r.data.synthetic.paths import PathConfig, clearance_m, desk_scan, handheld_path
from remov3r.data.synthetic.sensor import CLEAN
from remov3r.data.synthetic.source import SyntheticSource
from remov3r.data.synthetic.textures import build_atlas
from remov3r.data.synthetic.world import SyntheticWorld, WorldConfig
from remov3r.errors import DataError, ShapeError
from remov3r.geometry import inverse, project, rotation_angle_rad, transform, unproject
from remov3r.protocols import FrameSource
from remov3r.training.render import half_depth_mm, render_shards

CAMERA = Camera(96, 72, 85.0, 85.0, 47.5, 35.5)


@pytest.fixture(scope="module")
def world() -> SyntheticWorld:
    return SyntheticWorld(WorldConfig(texture_px=64, sensor=CLEAN))


def test_same_seed_same_pictures(world: SyntheticWorld) -> None:
    room = world.room(3)
    T = handheld_path(room, 3, 4)
    a = world.render(room, CAMERA, T, seed=1)
    b = SyntheticWorld(world.config).render(world.room(3), CAMERA, T, seed=1)
    assert np.array_equal(a.rgb, b.rgb)
    assert np.array_equal(a.depth_m, b.depth_m)
    other = world.room(4)
    assert other.solids.center_m.shape != room.solids.center_m.shape or not torch.equal(
        other.solids.center_m, room.solids.center_m
    )


def test_rooms_are_furnished_and_everything_is_inside(world: SyntheticWorld) -> None:
    for seed in range(12):
        room = world.room(seed)
        low, high = room.solids.shell_m
        assert 30 < len(room.solids.shape) < 600
        assert ((room.solids.center_m > low - 0.3) & (room.solids.center_m < high + 0.3)).all()
        assert torch.isfinite(room.surfaces.table).all()
        assert room.surfaces.table.shape[1] == 6 * (len(room.solids.shape) + 1)


def test_pictures_are_neither_black_nor_flat(world: SyntheticWorld) -> None:
    for seed in range(6):
        room = world.room(seed)
        clip = world.render(room, CAMERA, handheld_path(room, seed, 2))
        assert 15 < clip.rgb.mean() < 235
        assert clip.rgb.std() > 10
        assert (clip.depth_m > 0.02).all()
        assert clip.depth_m.max() < 20


def test_reprojection_between_views_keeps_depth_and_colour(world: SyntheticWorld) -> None:
    room = world.room(5)
    T = handheld_path(room, 5, 20)[[0, 12]]
    clip = world.render(room, CAMERA, T)
    points = transform(inverse(T[1]) @ T[0], unproject(clip.depth_m[0], CAMERA).astype(float).reshape(-1, 3))
    uv, inside = project(points, CAMERA)
    at = np.round(uv[inside]).astype(int)
    depth, rgb = clip.depth_m[1][at[:, 1], at[:, 0]], clip.rgb[1][at[:, 1], at[:, 0]].astype(float)
    relative = np.abs(depth - points[inside, 2]) / points[inside, 2]
    assert inside.mean() > 0.5
    assert np.median(relative) < 0.01
    same = relative < 0.02
    assert same.mean() > 0.8
    difference = np.abs(rgb - clip.rgb[0].reshape(-1, 3)[inside])[same].mean(1)
    assert np.median(difference) < 8


def test_handheld_paths_are_smooth_and_clear(world: SyntheticWorld) -> None:
    for seed in range(6):
        room = world.room(seed)
        T = handheld_path(room, seed, 150)
        assert T.shape == (150, 4, 4)
        assert np.allclose(T[:, :3, :3] @ T[:, :3, :3].transpose(0, 2, 1), np.eye(3), atol=1e-9)
        assert np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1).max() < 0.08
        assert np.degrees(rotation_angle_rad(inverse(T[:-1]) @ T[1:])).max() < 5
        assert clearance_m(room, T[:, :3, 3]).min() > 0.03
        assert (T[:, 2, 1] < 0).all()  # the camera's y axis points down


def test_returning_path_ends_where_it_began(world: SyntheticWorld) -> None:
    T = handheld_path(world.room(1), 1, 200, config=PathConfig(returning=True))
    assert np.linalg.norm(T[-1, :3, 3] - T[0, :3, 3]) < 0.05
    assert np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1).sum() > 0.5


def test_desk_scan_circles_at_arm_length(world: SyntheticWorld) -> None:
    scans = [(room, s) for k in range(8) if (s := desk_scan(room := world.room(k), k, 40)) is not None]
    assert scans
    for room, T in scans:
        assert clearance_m(room, T[:, :3, 3]).min() > 0.1


def test_clearance_of_known_points(world: SyntheticWorld) -> None:
    room = world.room(0)
    center = room.solids.center_m[:1].numpy().astype(float)
    low = room.solids.shell_m[0].numpy().astype(float)
    assert clearance_m(room, center)[0] < 0
    assert clearance_m(room, np.array([[low[0] - 1, 0, 1.0]]))[0] <= -1 + 1e-6


def test_chosen_views_are_distinct_and_at_indoor_distances(world: SyntheticWorld) -> None:
    found = [
        T for seed in range(8) if (T := world.choose_views(world.room(seed), CAMERA, 3, seed)) is not None
    ]
    assert len(found) >= 5
    for T in found:
        assert T.shape == (3, 4, 4)
        assert np.linalg.norm(T[0] - T[1]) > 0.05


def test_textures_from_a_folder_are_used_by_class(tmp_path: Path) -> None:
    (tmp_path / "WoodFloor").mkdir()
    cv2.imwrite(str(tmp_path / "WoodFloor" / "a.png"), np.full((40, 60, 3), (10, 20, 200), np.uint8))
    plain, dressed = build_atlas(0, 32), build_atlas(0, 32, tmp_path)
    new = len(plain.category)
    assert len(dressed.category) == new + 1
    assert new in dressed.of("floor")
    assert new in dressed.of("wood")
    half = torch.full((1,), 0.5)
    colour = dressed.sample(torch.tensor([new]), half, half, torch.ones(1))
    assert colour[0, :3].tolist() == [200, 20, 10]


def test_texture_sampling_interpolates_and_mirrors(tmp_path: Path) -> None:
    ramp = np.repeat(np.repeat(np.arange(8, dtype=np.uint8)[None, :, None] * 16, 8, 0), 3, 2)
    cv2.imwrite(str(tmp_path / "ramp.png"), ramp)
    atlas = build_atlas(0, 8, tmp_path)
    texture = torch.full((4,), len(atlas.category) - 1)
    u = torch.tensor([0.5 / 8, 1.0 / 8, 2 - 0.5 / 8, -1.0 / 8])
    colour = atlas.sample(texture, u, torch.full((4,), 0.5), torch.ones(4))[:, 0]
    assert colour.tolist() == pytest.approx([0, 8, 0, 8])
    coarse = atlas.sample(texture[:1], torch.tensor([0.5]), torch.tensor([0.5]), torch.tensor([64.0]))
    assert coarse[0, 0] == pytest.approx(56, abs=2)


def test_furniture_models_stand_on_the_ground_at_real_size() -> None:
    models = {m.name: m for m in furniture_models()}
    assert len(models) > 100
    for m in models.values():
        assert 0.03 < m.height_m < 2.3
        assert (m.center_m - m.size_m / 2)[:, 2].min() > -0.05
        assert max(m.footprint_m) < 3.3
    assert 0.85 < models["chair"].height_m < 1.0
    assert 0.7 < models["table"].height_m < 0.8
    assert 1.6 < models["bookcaseOpen"].height_m < 2.0


def test_bad_textures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no readable"):
        build_atlas(0, 32, tmp_path)
    with pytest.raises(DataError, match="power of two"):
        build_atlas(0, 33)


def test_render_refuses_wrong_poses(world: SyntheticWorld) -> None:
    with pytest.raises((ShapeError, TypeError)):  # the latter from jaxtyping where it is switched on
        world.render(world.room(0), CAMERA, np.eye(4))


def test_source_streams_frames_with_truth(world: SyntheticWorld) -> None:
    source: FrameSource = SyntheticSource(2, 5, CAMERA, world=world, black=(1, 2), blank=(3, 4))
    frames = list(source)
    assert len(source) == len(frames) == 5
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert frames[4].timestamp_s == pytest.approx(4 / 30)
    assert frames[0].rgb.shape == (72, 96, 3)
    assert frames[0].depth_m is not None
    assert frames[0].T_world_cam is not None
    assert frames[1].rgb.max() < 20
    assert frames[3].rgb.std() < 5
    assert frames[1].depth_m is not None
    assert not frames[1].depth_m.any()
    again = list(SyntheticSource(2, 5, CAMERA, world=world, black=(1, 2), blank=(3, 4)))
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(frames, again))


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short_sources(world: SyntheticWorld, frames: int) -> None:
    assert len(list(SyntheticSource(1, frames, CAMERA, world=world))) == frames


def test_static_source_and_bad_arguments(world: SyntheticWorld) -> None:
    source = SyntheticSource(2, 4, CAMERA, world=world, motion="static")
    assert np.ptp(source.T_world_cam, axis=0).max() == 0
    with pytest.raises(DataError, match="at least 1"):
        SyntheticSource(2, 0, world=world)
    with pytest.raises(DataError, match="distortion"):
        SyntheticSource(2, 4, Camera(96, 72, 85, 85, 47, 35, "radtan", (0.1, 0, 0, 0)), world=world)


def test_half_size_depth_is_exact_on_a_slanted_plane() -> None:
    camera = Camera(64, 48, 60.0, 60.0, 31.0, 23.0)
    half = camera.resized(32, 24)

    def plane(c: Camera) -> np.ndarray:
        u, v = np.meshgrid((np.arange(c.width) - c.cx) / c.fx, (np.arange(c.height) - c.cy) / c.fy)
        return 1 / (0.4 + 0.2 * u - 0.1 * v)

    assert np.abs(half_depth_mm(plane(camera)[None])[0] / 1000 - plane(half)).max() < 6e-4


@pytest.mark.parametrize("frames", [3, 6])
def test_shards_have_the_agreed_layout_and_resume(tmp_path: Path, frames: int) -> None:
    world = SyntheticWorld(WorldConfig(texture_px=32))
    assert render_shards(world, tmp_path / "set", 2, frames, seed=1) == 2
    assert render_shards(world, tmp_path / "set", 1, frames, seed=1) == 1
    paths = sorted((tmp_path / "set").iterdir())
    assert [p.name for p in paths] == ["set-00000.npz", "set-00001.npz"]
    with np.load(paths[0]) as shard:
        assert shard["rgb"].shape == (2, frames, 192, 256, 3)
        assert shard["rgb"].dtype == np.uint8
        assert shard["depth_mm"].shape == (2, frames, 96, 128)
        assert shard["depth_mm"].dtype == np.uint16
        assert shard["K"].shape == (2, frames, 3, 3)
        assert shard["T_world_cam"].shape == (2, frames, 4, 4)
        assert np.isfinite(shard["T_world_cam"]).all()
        assert ((shard["K"][:, :, 0, 0] > 180) & (shard["K"][:, :, 0, 0] < 310)).all()
        first = shard["rgb"][0]
    with np.load(paths[1]) as shard:
        assert not np.array_equal(first, shard["rgb"][0])


def test_unwritable_shard_folder_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot create"):
        render_shards(SyntheticWorld(WorldConfig(texture_px=32)), tmp_path / "file" / "x", 1, 3, seed=1)


def test_benchmark_reports_what_it_measured(world: SyntheticWorld) -> None:
    room = world.room(0)
    few = with_objects(room, 10)
    assert len(few.solids.shape) == 10
    assert few.surfaces.table.shape == (12, 66)
    assert torch.equal(few.surfaces.texture[-6:], room.surfaces.texture[-6:])
    speed = benchmark_rendering(32, 24, 10, 4)
    assert speed.frames_per_s > 0
    assert (speed.width, speed.objects, speed.sensor) == (32, 10, False)
