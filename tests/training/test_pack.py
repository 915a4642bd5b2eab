"""Packing: pixels, depth and intrinsics land where they should; bad folders are named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from remov3r.errors import DataError
from remov3r.training.pack import Packing, main, pack_folder, read_folder
from remov3r.training.shards import open_shard

WIDTH, HEIGHT = 60, 40


def make_folder(folder: Path, count: int = 5, poses: bool = True) -> Path:
    """Frames 60×40 whose depth encodes row and column, and whose colour encodes the frame."""
    (folder / "rgb").mkdir(parents=True)
    (folder / "depth").mkdir()
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    depth = (1000 + 100 * v + u).astype(np.uint16)
    depth[0, :] = 65535
    for i in range(count):
        rgb = np.full((HEIGHT, WIDTH, 3), (10 * i, 100, 200), np.uint8)
        cv2.imwrite(str(folder / "rgb" / f"{i:06d}.png"), rgb[..., ::-1])
        cv2.imwrite(str(folder / "depth" / f"{i:06d}.png"), depth)
    (folder / "intrinsics.txt").write_text(f"# fx fy cx cy width height\n50 50 29.5 19.5 {WIDTH} {HEIGHT}\n")
    if poses:
        T = np.tile(np.eye(4), (count, 1, 1))
        T[:, 0, 3] = np.arange(count)
        np.savetxt(folder / "poses.txt", T.reshape(count, 16))
    return folder


def test_clips_hold_the_right_frames_and_geometry(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "room")
    paths = pack_folder(folder, tmp_path / "out", Packing(24, 18, frames=2, stride=2, step=1))
    assert [p.name for p in paths] == ["room-00000.npz"]
    clips = open_shard(paths[0])
    assert clips.rgb.shape == (3, 2, 18, 24, 3)
    assert clips.rgb[1, :, 9, 9].tolist() == [[10, 100, 200], [30, 100, 200]]
    assert clips.T_world_cam[1, :, 0, 3].tolist() == [1, 3]
    # 4:3 out of 60×40 is 53×40; the principal point stays in the middle of the image
    assert clips.K[0, 0, 0, 2] == pytest.approx(11.5, abs=0.3)
    assert clips.K[0, 0, 0, 0] == pytest.approx(50 * 24 / 53)
    assert clips.K[0, 0, 1, 1] == pytest.approx(50 * 18 / 40)
    depth = clips.depth_mm[0, 0].astype(int)
    assert depth.shape == (9, 12)
    rows, columns = (depth - 1000) // 100, (depth - 1000) % 100
    wanted = (np.arange(9) + 0.5) * 40 / 9 - 0.5
    assert np.abs(rows[:, 5] - wanted).max() <= 0.5
    assert np.abs(columns[5] - (3 + (np.arange(12) + 0.5) * 53 / 12 - 0.5)).max() <= 0.5


def test_far_and_marked_depth_is_missing(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "room", count=1)
    shard = open_shard(pack_folder(folder, tmp_path / "out", Packing(60, 40, max_depth_m=3.0))[0])
    assert int(shard.depth_mm.max()) < 3000
    assert (shard.depth_mm[0, 0, 0] == 0).all()


def test_single_frames_without_poses(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "stills", poses=False)
    assert main([str(folder), "--out", str(tmp_path / "out"), "--size", "48x32"]) == 0
    shard = open_shard(tmp_path / "out" / "stills-00000.npz")
    assert len(shard) == 5
    assert np.isnan(shard.T_world_cam).all()


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        read_folder(tmp_path)
    folder = make_folder(tmp_path / "room")
    with pytest.raises(DataError, match="one clip spans 9"):
        pack_folder(folder, tmp_path / "out", Packing(24, 18, frames=3, stride=4))
    (folder / "depth" / "000003.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"000003\.png: unreadable"):
        pack_folder(folder, tmp_path / "out", Packing(24, 18))
    (folder / "depth" / "000003.png").unlink()
    with pytest.raises(DataError, match=r"000003\.png: missing"):
        read_folder(folder)
    (make_folder(tmp_path / "two") / "poses.txt").write_text("nan " * 16 + "\n")
    with pytest.raises(DataError, match="for 5 images"):
        read_folder(tmp_path / "two")
    assert main([str(tmp_path / "two"), "--out", str(tmp_path / "out")]) == 1
