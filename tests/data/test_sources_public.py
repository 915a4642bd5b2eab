"""ScanNet, Replica and Virtual KITTI 2 on miniatures of their layouts; scenes and splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from remov3r.data.scenes import find_sequences
from remov3r.data.sources import detect_dataset, open_source, read_reference
from remov3r.data.splits import frame_range, held_out_scenes
from remov3r.errors import DataError
from tests.data.layouts import (
    CAMERA,
    pose_of,
    room_frames,
    world_points,
    write_posed,
    write_replica,
    write_scannet,
    write_vkitti2,
)

FRAMES = room_frames(12)


def test_each_layout_is_recognised(tmp_path: Path) -> None:
    assert detect_dataset(write_scannet(tmp_path / "scene0000_00", FRAMES[:1])) == "scannet"
    assert detect_dataset(write_replica(tmp_path / "room0", FRAMES[:1])) == "replica"
    assert detect_dataset(write_vkitti2(tmp_path / "Scene01" / "clone", FRAMES[:1])) == "vkitti2"


@pytest.mark.parametrize(
    ("write", "name", "depth_off_m"),
    [(write_scannet, "scene0000_00", 6e-4), (write_replica, "room0", 1e-3), (write_vkitti2, "clone", 6e-3)],
)
def test_points_lie_on_the_walls(tmp_path: Path, write: object, name: str, depth_off_m: float) -> None:
    assert callable(write)
    source = open_source(write(tmp_path / "Scene01" / name, FRAMES), sensor=True)
    frames = list(source)
    assert [f.index for f in frames] == list(range(12))
    np.testing.assert_allclose(source.camera.K, CAMERA.K, atol=1e-5)
    for frame, true in zip(frames, FRAMES):
        np.testing.assert_allclose(pose_of(frame), pose_of(true), atol=1e-6)
        known = frame.depth_m
        assert known is not None
        assert true.depth_m is not None
        inner = (slice(1, -1), slice(1, -1))
        np.testing.assert_allclose(known[inner], true.depth_m[inner], atol=depth_off_m)
        assert np.abs(frame.rgb.astype(int) - true.rgb).mean() < 12, "JPEG apart, the same picture"
        off_m = np.abs(np.abs(world_points(frame)[inner]) - [2, 1.5, 2.5]).min(-1)
        assert off_m.max() < 4 * depth_off_m


class TestScanNet:
    def test_order_times_and_lost_poses(self, tmp_path: Path) -> None:
        source = open_source(write_scannet(tmp_path / "scene0000_00", FRAMES, lost=(2, 3)))
        frames = list(source)
        assert [round(f.timestamp_s * 30) for f in frames] == list(range(12)), "10 comes after 9"
        assert [f.T_world_cam is None for f in frames] == [i in (2, 3) for i in range(12)]
        assert [p is None for p in source.poses().values()] == [i in (2, 3) for i in range(12)]
        assert source.camera.width == 2 * CAMERA.width, "colour alone comes at its own size"
        assert source.camera.fx == pytest.approx(2 * CAMERA.fx)
        assert frames[0].depth_m is None
        reference = read_reference(tmp_path / "scene0000_00")
        assert reference.frame_index.tolist() == [0, 1, *range(4, 12)]
        np.testing.assert_allclose(reference.T_world_cam[2], pose_of(FRAMES[4]), atol=1e-6)

    def test_all_poses_lost(self, tmp_path: Path) -> None:
        folder = write_scannet(tmp_path / "s", FRAMES[:2], lost=(0, 1))
        with pytest.raises(DataError, match="no ground-truth trajectory"):
            read_reference(folder)

    @pytest.mark.parametrize(
        ("file", "text", "message"),
        [
            ("pose/1.txt", "-inf " + "1 " * 15, r"1\.txt: .*NaN or inf"),
            ("pose/1.txt", "2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1", r"1\.txt: not a rigid pose"),
            ("pose/1.txt", "1 2", r"1\.txt: a pose needs 16 numbers, got 2"),
            ("intrinsic/intrinsic_color.txt", "70 0 40\n0 70", r"intrinsic_color\.txt: need a 4x4"),
            ("intrinsic/intrinsic_color.txt", "1170 0 648\n0 1170 484\n0 0 1", "another size"),
        ],
    )
    def test_damaged_files_are_named(self, tmp_path: Path, file: str, text: str, message: str) -> None:
        folder = write_scannet(tmp_path / "s", FRAMES[:2])
        (folder / file).write_text(text)
        with pytest.raises(DataError, match=message):
            open_source(folder)

    def test_missing_files_are_named(self, tmp_path: Path) -> None:
        folder = write_scannet(tmp_path / "s", FRAMES[:2])
        (folder / "depth" / "1.png").unlink()
        with pytest.raises(DataError, match=r"depth/1\.png: cannot be read"):
            list(open_source(folder, sensor=True))
        (folder / "pose" / "0.txt").unlink()
        with pytest.raises(DataError, match=r"pose/0\.txt: cannot be read"):
            open_source(folder)

    def test_own_camera(self, tmp_path: Path) -> None:
        folder = write_scannet(tmp_path / "s", FRAMES[:1])
        (folder / "intrinsic" / "intrinsic_color.txt").unlink()
        assert open_source(folder, camera="140,142,79.5,59.5").camera.fx == 140
        assert open_source(folder, camera="70,71,39.5,29.5", sensor=True).camera == CAMERA


class TestReplica:
    def test_known_scale_without_the_calibration_file(self, tmp_path: Path) -> None:
        small = [f for f in room_frames(1, CAMERA.resized(120, 68))]
        folder = write_replica(tmp_path / "room0", small)
        (tmp_path / "cam_params.json").unlink()
        source = open_source(folder, sensor=True)
        assert source.camera.fx == pytest.approx(60), "f = 600 at 1200 pixels"
        frame = next(iter(source))
        assert frame.depth_m is not None
        assert small[0].depth_m is not None
        np.testing.assert_allclose(frame.depth_m, small[0].depth_m, atol=1e-3)

    def test_bad_files(self, tmp_path: Path) -> None:
        folder = write_replica(tmp_path / "room0", FRAMES[:3])
        (tmp_path / "cam_params.json").write_text('{"camera": {"w": 80}}')
        with pytest.raises(DataError, match=r"cam_params\.json: need camera: w, h"):
            open_source(folder)
        (tmp_path / "cam_params.json").unlink()
        np.savetxt(folder / "traj.txt", np.eye(4).reshape(1, 16))
        with pytest.raises(DataError, match="1 poses for 3 images"):
            open_source(folder, camera="70,71,39.5,29.5")


class TestVirtualKitti2:
    def test_name_and_rate(self, tmp_path: Path) -> None:
        source = open_source(write_vkitti2(tmp_path / "Scene01" / "clone", FRAMES))
        assert source.name == "Scene01/clone"
        assert [f.timestamp_s for f in source][:2] == [0, 0.1]
        assert len(read_reference(tmp_path / "Scene01" / "clone")) == 12

    def test_bad_tables(self, tmp_path: Path) -> None:
        folder = write_vkitti2(tmp_path / "Scene01" / "clone", FRAMES[:3])
        table = (folder / "extrinsic.txt").read_text().splitlines()
        for lines, message in (
            (table[:-2], "no row for frame 2"),
            ([*table[:-1], "1 2 3"], "rows of 18 numbers"),
            ([table[0], "0 0" + " 3" * 16, *table[2:]], r"extrinsic\.txt, frame 0: not a rigid pose"),
        ):
            (folder / "extrinsic.txt").write_text("\n".join(lines))
            with pytest.raises(DataError, match=message):
                open_source(folder)
        (folder / "intrinsic.txt").write_text("title\n0 0 70 70 39 29\n1 0 71 70 39 29\n2 0 70 70 39 29\n")
        with pytest.raises(DataError, match="changes from frame to frame"):
            open_source(folder)


def test_sequences_and_their_scenes_are_found(tmp_path: Path) -> None:
    write_scannet(tmp_path / "scans" / "scene0001_00", FRAMES[:1])
    write_scannet(tmp_path / "scans" / "scene0001_01", FRAMES[:1])
    write_vkitti2(tmp_path / "vkitti2" / "Scene01" / "clone", FRAMES[:1])
    write_posed(tmp_path / "desk", FRAMES[:1])
    found = find_sequences(tmp_path)
    assert [(f.dataset, f.scene) for f in found] == [
        ("posed", "desk"),
        ("scannet", "scene0001"),
        ("scannet", "scene0001"),
        ("vkitti2", "Scene01"),
    ]
    assert [f.scene for f in find_sequences(tmp_path / "desk")] == ["desk"]
    assert len(find_sequences(tmp_path, "scannet")) == 2
    with pytest.raises(DataError, match=r"no sequence with depth.*\(tum\)"):
        find_sequences(tmp_path, "tum")


class TestSplits:
    def test_scenes_are_held_out_whole_and_always_the_same(self) -> None:
        scenes = [f"scene{i:04d}" for i in range(50)]
        tested = held_out_scenes(scenes, "scenes")
        assert len(tested) == 10
        assert tested == held_out_scenes(scenes[::-1] + scenes[:5], "scenes")
        assert len(held_out_scenes(["a", "b"], "scenes")) == 1
        assert held_out_scenes(["a"], "scenes") == frozenset()

    def test_listed_scenes(self, tmp_path: Path) -> None:
        (tmp_path / "val.txt").write_text("scene0003_00\nscene0003_01\nscene0777_00\n")
        assert held_out_scenes(["scene0003", "scene0004"], str(tmp_path / "val.txt")) == {"scene0003"}
        with pytest.raises(DataError, match="none of the scenes"):
            held_out_scenes(["scene0004"], str(tmp_path / "val.txt"))

    def test_frames(self) -> None:
        assert list(frame_range(10, "train")) == list(range(8))
        assert list(frame_range(10, "test")) == [8, 9]
        assert [*frame_range(7, "train"), *frame_range(7, "test")] == list(frame_range(7, "all"))
