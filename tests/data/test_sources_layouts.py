"""Data set readers on miniatures of their layouts, and on real data where it lies beside the repository."""

from pathlib import Path

import numpy as np
import pytest

from remov3r.camera import Camera
from remov3r.data.association import nearest_in_time
from remov3r.data.seven_scenes import T_COLOR_DEPTH
from remov3r.data.sources import detect_dataset, open_source, read_reference
from remov3r.data.tum import CAMERAS
from remov3r.errors import ConfigError, DataError
from remov3r.geometry import inverse
from tests.data.helpers import (
    HEIGHT,
    SHARED_DATA,
    WIDTH,
    image,
    pose,
    true_pose,
    write_folder,
    write_posed,
    write_rgb,
    write_seven_scenes,
    write_tum_sequence,
    write_video,
)


def test_each_layout_is_recognised(tmp_path: Path) -> None:
    write_seven_scenes(tmp_path / "scene" / "seq-03", 1)
    assert detect_dataset(tmp_path / "scene") == "7scenes"
    assert detect_dataset(tmp_path / "scene" / "seq-03") == "7scenes"
    assert detect_dataset(write_tum_sequence(tmp_path / "tum", 2)) == "tum"
    assert detect_dataset(write_posed(tmp_path / "posed", 1)) == "posed"
    assert detect_dataset(write_folder(tmp_path / "images", ["a.png"])) == "folder"
    assert detect_dataset(write_video(tmp_path / "v.avi", 1)) == "video"


def test_unknown_inputs(tmp_path: Path) -> None:
    (tmp_path / "notes.doc").write_text("x")
    for path, message in [
        (tmp_path, "nothing known"),
        (tmp_path / "notes.doc", "not a video"),
        (tmp_path / "no", "no such"),
    ]:
        with pytest.raises(DataError, match=message):
            open_source(path)
    with pytest.raises(ConfigError, match=r"'kitty': not one of auto, video, folder, 7scenes, tum, posed"):
        open_source(tmp_path, "kitty")
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(tmp_path / "no", "7scenes")


class TestSevenScenes:
    def test_rgb_alone_follows_the_published_convention(self, tmp_path: Path) -> None:
        source = open_source(write_seven_scenes(tmp_path / "s" / "seq-01", 3).parent)
        frames = list(source)
        assert source.name == "s/seq-01"
        assert source.camera == Camera(640, 480, 585, 585, 320, 240).resized(WIDTH, HEIGHT)
        for i, frame in enumerate(frames):
            np.testing.assert_array_equal(frame.rgb, image(i))
            assert frame.depth_m is None
            assert frame.timestamp_s == pytest.approx(i / 30)
            np.testing.assert_allclose(true_pose(frame), pose(i), atol=1e-9)

    def test_sensor_delivers_the_colour_camera(self, tmp_path: Path) -> None:
        source = open_source(write_seven_scenes(tmp_path / "seq-01", 2), sensor=True)
        frame = list(source)[1]
        assert source.camera.fx == pytest.approx(51.7)
        assert frame.depth_m is not None
        np.testing.assert_allclose(true_pose(frame), pose(1) @ inverse(T_COLOR_DEPTH), atol=1e-9)
        assert np.median(frame.depth_m[frame.depth_m > 0]) == pytest.approx(1.01, abs=0.02)
        reference = read_reference(tmp_path / "seq-01", sensor=True)
        np.testing.assert_allclose(reference.T_world_cam[1], true_pose(frame))

    def test_own_focal_length(self, tmp_path: Path) -> None:
        folder = write_seven_scenes(tmp_path / "seq-01", 1)
        assert open_source(folder, camera="52.5,52.5,32,24", sensor=True).camera.fx == 52.5

    def test_reference(self, tmp_path: Path) -> None:
        reference = read_reference(write_seven_scenes(tmp_path / "seq-01", 4))
        np.testing.assert_allclose(reference.timestamps_s, np.arange(4) / 30)
        np.testing.assert_allclose(reference.T_world_cam, [pose(i) for i in range(4)], atol=1e-9)

    def test_rotations_come_out_orthonormal(self, tmp_path: Path) -> None:
        folder = write_seven_scenes(tmp_path / "seq-01", 1)
        bent = pose(0)
        bent[:3, :3] *= 1 - 2e-4
        np.savetxt(folder / "frame-000000.pose.txt", bent)
        R = read_reference(folder).T_world_cam[0, :3, :3]
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)

    @pytest.mark.parametrize(
        ("value", "message"), [(np.nan, "NaN"), (np.inf, "NaN or inf"), (3.0, "not a rigid pose")]
    )
    def test_bad_pose_names_its_file(self, tmp_path: Path, value: float, message: str) -> None:
        folder = write_seven_scenes(tmp_path / "seq-01", 3)
        bad = pose(2)
        bad[0, 0] = value
        np.savetxt(folder / "frame-000002.pose.txt", bad)
        with pytest.raises(DataError, match=rf"frame-000002\.pose\.txt: .*{message}"):
            open_source(folder)

    @pytest.mark.parametrize(
        ("body", "message"), [("1 2 3", "16 numbers, got 3"), ("a " * 16, "not a number")]
    )
    def test_damaged_pose_file(self, tmp_path: Path, body: str, message: str) -> None:
        folder = write_seven_scenes(tmp_path / "seq-01", 2)
        (folder / "frame-000001.pose.txt").write_text(body)
        with pytest.raises(DataError, match=rf"frame-000001\.pose\.txt.*{message}"):
            open_source(folder)

    def test_pose_missing_for_one_frame_or_for_all(self, tmp_path: Path) -> None:
        folder = write_seven_scenes(tmp_path / "seq-01", 2)
        (folder / "frame-000001.pose.txt").unlink()
        with pytest.raises(DataError, match=r"frame-000001\.pose\.txt: no such file"):
            open_source(folder)
        (folder / "frame-000000.pose.txt").unlink()
        assert next(iter(open_source(folder))).T_world_cam is None

    def test_depth_missing_or_of_the_wrong_kind(self, tmp_path: Path) -> None:
        folder = write_seven_scenes(tmp_path / "seq-01", 2)
        write_rgb(folder / "frame-000001.depth.png", image(0))
        with pytest.raises(DataError, match=r"frame-000001\.depth\.png: depth must be a 16-bit"):
            list(open_source(folder, sensor=True))
        (folder / "frame-000000.depth.png").unlink()
        with pytest.raises(DataError, match=r"frame-000000\.depth\.png: cannot be read"):
            open_source(folder, sensor=True)
        assert len(list(open_source(folder))) == 2, "depth is not needed for RGB alone"

    def test_several_sequences_or_none(self, tmp_path: Path) -> None:
        for name in ("seq-01", "seq-02"):
            write_seven_scenes(tmp_path / name, 1)
        with pytest.raises(DataError, match=r"several sequences \(seq-01, seq-02\)"):
            open_source(tmp_path)
        (tmp_path / "none").mkdir()
        with pytest.raises(DataError, match=r"no frame-XXXXXX\.color\.png"):
            open_source(tmp_path / "none", "7scenes")


class TestTum:
    def test_association(self, tmp_path: Path) -> None:
        source = open_source(write_tum_sequence(tmp_path / "rgbd_dataset_freiburg3_x", 4), sensor=True)
        frames = list(source)
        assert [f.index for f in frames] == [0, 2, 3], "frame 1 has no depth near it"
        assert frames[1].timestamp_s == pytest.approx(100 + 2 / 30, abs=1e-6)
        assert frames[1].depth_m is not None
        assert frames[1].depth_m[5, 5] == pytest.approx(1.02)
        assert frames[1].depth_m[0, 0] == 0
        assert true_pose(frames[1])[0, 3] == pytest.approx(0.07), (
            "ground truth at 100.07 s is nearest to 100.067"
        )
        assert source.camera == CAMERAS["freiburg3"].resized(WIDTH, HEIGHT)

    def test_rgb_alone_keeps_every_image(self, tmp_path: Path) -> None:
        source = open_source(write_tum_sequence(tmp_path / "rgbd_dataset_freiburg1_x", 4))
        assert len(list(source)) == len(source) == 4
        assert source.camera.distortion == "none"
        assert source.camera.fx == pytest.approx(51.73)
        assert len(read_reference(tmp_path / "rgbd_dataset_freiburg1_x")) == 100

    def test_unknown_camera(self, tmp_path: Path) -> None:
        folder = write_tum_sequence(tmp_path / "own", 2)
        with pytest.raises(DataError, match="--camera"):
            open_source(folder)
        assert open_source(folder, camera="60,60,32,24").camera.fx == 60
        assert len(read_reference(folder)) == 100

    def test_damaged_list_and_missing_image(self, tmp_path: Path) -> None:
        folder = write_tum_sequence(tmp_path / "own", 2)
        (folder / "rgb" / "100.033333.png").unlink()
        with pytest.raises(DataError, match=r"100\.033333\.png: cannot be read"):
            list(open_source(folder, camera="60,60,32,24"))
        (folder / "rgb.txt").write_text("100.0\n")
        with pytest.raises(DataError, match=r"rgb\.txt, line 1"):
            open_source(folder, camera="60,60,32,24")

    def test_nearest_in_time(self) -> None:
        near = nearest_in_time(np.array([0.0, 1.0, 2.0]), np.array([0.019, 0.99, 1.5]), 0.02)
        assert near.tolist() == [0, 1, -1]


class TestPosedFolder:
    def test_frames(self, tmp_path: Path) -> None:
        source = open_source(write_posed(tmp_path / "room", 3), sensor=True)
        frames = list(source)
        assert source.camera == Camera(WIDTH, HEIGHT, 60, 61, 31.5, 23.5)
        assert [f.timestamp_s for f in frames] == [0, 0.1, 0.2], "frame numbers 0 3 6 at 30 a second"
        assert frames[2].depth_m is not None
        assert frames[2].depth_m[3, 3] == pytest.approx(1.02)
        np.testing.assert_allclose(true_pose(frames[2]), pose(2), atol=1e-9)

    def test_without_poses_depth_and_frame_numbers(self, tmp_path: Path) -> None:
        folder = write_posed(tmp_path / "room", 2)
        (folder / "poses.txt").unlink()
        (folder / "frames.txt").write_text("left1\nleft2\n")
        frame = list(open_source(folder, fps=10))[1]
        assert (frame.timestamp_s, frame.depth_m, frame.T_world_cam) == (0.1, None, None)
        with pytest.raises(DataError, match="no ground-truth trajectory"):
            read_reference(folder)

    def test_bad_files(self, tmp_path: Path) -> None:
        folder = write_posed(tmp_path / "room", 3)
        lines = (folder / "poses.txt").read_text().splitlines()
        bad = "nan " + lines[1].split(maxsplit=1)[1]
        (folder / "poses.txt").write_text("\n".join([lines[0], bad, lines[2]]))
        with pytest.raises(DataError, match=r"poses\.txt, line 2: .*NaN"):
            open_source(folder)
        (folder / "poses.txt").write_text(lines[0])
        with pytest.raises(DataError, match="1 poses for 3 images"):
            open_source(folder)
        (folder / "intrinsics.txt").write_text("60 60 32\n")
        with pytest.raises(DataError, match=r"intrinsics\.txt: need one line"):
            open_source(folder)


class TestImageFolder:
    def test_natural_order_and_times(self, tmp_path: Path) -> None:
        folder = write_folder(tmp_path / "images", ["img1.png", "img2.png", "img10.jpg"])
        (folder / "readme.txt").write_text("not an image")
        frames = list(open_source(folder, camera="60,60,32,24", fps=10))
        assert [f.timestamp_s for f in frames] == [0, 0.1, 0.2]
        assert [round(f.rgb[..., 0].mean() / 10) for f in frames] == [0, 1, 2]

    @pytest.mark.parametrize(
        "names",
        [["1305031102.25.png", "1305031102.50.png"], ["1305031102250000000.png", "1305031102500000000.png"]],
    )
    def test_times_from_names(self, tmp_path: Path, names: list[str]) -> None:
        frames = list(open_source(write_folder(tmp_path / "images", names), camera="60,60,32,24"))
        assert [f.timestamp_s for f in frames] == pytest.approx([1305031102.25, 1305031102.5], abs=1e-6)

    def test_empty_and_unreadable_images_and_no_camera(self, tmp_path: Path) -> None:
        folder = write_folder(tmp_path / "images", ["0.png", "1.png", "2.png"])
        with pytest.raises(DataError, match="images: the camera is unknown"):
            open_source(folder)
        (folder / "1.png").write_bytes(b"")
        with pytest.raises(DataError, match=r"1\.png: not a readable image \(0 bytes\)"):
            list(open_source(folder, camera="60,60,32,24"))
        (folder / "1.png").write_bytes(b"not an image")
        with pytest.raises(DataError, match=r"1\.png: not a readable image"):
            list(open_source(folder, camera="60,60,32,24"))


@pytest.mark.parametrize("sensor", [False, True])
def test_real_seven_scenes(tmp_path: Path, sensor: bool) -> None:
    real = SHARED_DATA / "7scenes" / "redkitchen"
    folder = real if real.exists() else write_seven_scenes(tmp_path / "seq-01", 12)
    source = open_source(folder, stride=5, max_frames=2, sensor=sensor)
    frames = list(source)
    assert [f.index for f in frames] == [0, 5]
    assert source.camera.fx / source.camera.width == pytest.approx((517 if sensor else 585) / 640)
    assert (frames[0].depth_m is not None) == sensor
    assert true_pose(frames[0]).shape == (4, 4)
