"""Rendered training clips: a small room model stands in for the house."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from remov3r.data.sources import open_source
from remov3r.errors import DataError
from remov3r.eval.protocols import Protocol, ProtocolSequence
from remov3r.geometry import inverse
from remov3r.pipelines.benchmark import cases_of
from remov3r.pipelines.render_house import HouseConfig, main, read_path, render_clips, varied_path
from remov3r.training.shards import Clips, open_shard

trimesh = pytest.importorskip("trimesh")
CONFIG = HouseConfig(clips=2, frames=3, stride_min=2, stride_max=4, clips_per_shard=1, yaw_rad=0.2, seed=1)


def write_house(folder: Path) -> None:
    """Write a 6×6×3 m room with a table (z up), and a path along y that looks along y."""
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[180, 120, 90, 255])
    parts = []
    for size, centre in (
        ((6, 6, 3), (0, 0, 1.5)),
        ((6.1, 6.1, 0.01), (0, 0, 0.0)),
        ((1, 1, 0.8), (0, 2, 0.4)),
    ):
        box = trimesh.creation.box(size)
        box.apply_translation(centre)
        uv = np.zeros((len(box.vertices), 2))
        box.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
        parts.append(box)
    trimesh.Scene(parts).export(folder / "small_house.glb")
    poses = []
    for y in np.linspace(-1.5, 0, 20):
        T = np.eye(4)
        T[:3, :3] = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # x right, y down, z along the world's y
        T[:3, 3] = 0, y, 1.4
        poses.append(T.ravel())
    np.savetxt(folder / "path_1.txt", poses)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Clips]:
    """Two one-clip shards of the stand-in house."""
    folder = tmp_path_factory.mktemp("house")
    write_house(folder)
    files = render_clips(folder / "small_house.glb", [folder / "path_1.txt"], [], folder / "out", CONFIG)
    assert [f.name for f in files] == ["house-00000.npz", "house-00001.npz"]
    return [open_shard(f) for f in files]


def test_layout_and_range(shards: list[Clips]) -> None:
    for clips in shards:
        assert clips.rgb.shape == (1, 3, 192, 256, 3)
        assert clips.depth_mm.shape == (1, 3, 96, 128)
        assert (clips.depth_mm > 0).mean() > 0.95
        assert 350 < np.percentile(clips.depth_mm, 5) < clips.depth_mm.max() < 8000
        assert 40 < clips.rgb.mean() < 160
        assert (clips.K[..., 0, 0] >= CONFIG.focal_min_px).all()
    assert not np.array_equal(shards[0].rgb, shards[1].rgb)


def test_depth_and_poses_agree(shards: list[Clips]) -> None:
    """Depth of one frame, moved to the next by the poses, is what that frame measured."""
    clips = shards[0]
    K = clips.K[0, 0].astype(np.float64)
    v, u = np.mgrid[:96, :128]
    # Pixel (i, j) of depth lies at (2i + 0.5, 2j + 0.5) of the colour image.
    rays = np.stack(
        [(2 * u + 0.5 - K[0, 2]) / K[0, 0], (2 * v + 0.5 - K[1, 2]) / K[1, 1], np.ones(u.shape)], -1
    )
    points = rays * clips.depth_mm[0, 0, ..., None] / 1000
    T = inverse(clips.T_world_cam[0, 1].astype(np.float64)) @ clips.T_world_cam[0, 0]
    moved = points.reshape(-1, 3) @ T[:3, :3].T + T[:3, 3]
    column = np.rint((K[0, 0] * moved[:, 0] / moved[:, 2] + K[0, 2] - 0.5) / 2).astype(int)
    row = np.rint((K[1, 1] * moved[:, 1] / moved[:, 2] + K[1, 2] - 0.5) / 2).astype(int)
    seen = (column >= 0) & (column < 128) & (row >= 0) & (row < 96)
    assert seen.mean() > 0.3
    measured = clips.depth_mm[0, 1][row[seen], column[seen]] / 1000
    assert np.median(np.abs(measured - moved[seen, 2]) / measured) < 0.01


def test_same_seed_gives_the_same_poses() -> None:
    path = np.tile(np.eye(4), (50, 1, 1))
    path[:, 1, 3] = np.arange(50)
    a, b = (varied_path(path, CONFIG, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(a, b)
    steps = np.abs(np.diff(a[:, 1, 3]))
    assert ((steps >= 2) & (steps <= 4)).all()
    assert 1.2 <= a[:, 2, 3].mean() <= 1.6
    assert np.allclose(a[:, :3, :3] @ np.swapaxes(a[:, :3, :3], 1, 2), np.eye(3))


def test_short_path_takes_shorter_strides() -> None:
    poses = varied_path(np.tile(np.eye(4), (3, 1, 1)), CONFIG, np.random.default_rng(0))
    assert poses.shape == (3, 4, 4)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_house(tmp_path)
    (tmp_path / "tiles").mkdir()
    cv2.imwrite(str(tmp_path / "tiles" / "a.jpg"), np.full((32, 32, 3), 90, np.uint8))
    options = (
        f"--house {tmp_path} --textures {tmp_path / 'tiles'} --out {tmp_path / 'out'} --clips 1 --frames 1"
    )
    monkeypatch.setattr("sys.argv", ["render_house", *options.split()])
    main()
    assert len(open_shard(tmp_path / "out" / "house-00000.npz")) == 1


def test_bad_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("1 2 3\n")
    with pytest.raises(DataError, match=r"bad\.txt"):
        read_path(tmp_path / "bad.txt")
    with pytest.raises(DataError, match=r"absent\.txt"):
        read_path(tmp_path / "absent.txt")


def test_a_walk_through_the_house_is_rendered_once_for_a_protocol(tmp_path: Path) -> None:
    (tmp_path / "data/house").mkdir(parents=True)
    write_house(tmp_path / "data/house")
    protocol = Protocol(
        name="walk",
        version=1,
        description="",
        dataset="posed",
        sequences=(
            ProtocolSequence(path="house", house_path=1),
            ProtocolSequence(path="mansion", house_path=1),
        ),
        align="se3",
        metrics=("trajectory",),
    )
    walk, missing = cases_of(protocol, tmp_path / "data", tmp_path / "runs")
    assert walk.name == "house path 1"
    assert missing.path is None
    assert walk.path is not None
    frames = list(open_source(walk.path, "posed", sensor=True))
    assert len(frames) == 20
    depth_m = frames[0].depth_m
    assert depth_m is not None
    assert depth_m[120, 160] == pytest.approx(4.5, abs=0.01)  # to the wall at y = 3, over the table
    assert frames[0].rgb.std() > 3
    before = (walk.path / "poses.txt").stat().st_mtime_ns
    again = next(iter(cases_of(protocol, tmp_path / "data", tmp_path / "runs")))
    assert again.path == walk.path
    assert (walk.path / "poses.txt").stat().st_mtime_ns == before
