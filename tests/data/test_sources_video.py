"""Video files: frames, times, sidecars, and every way in which a file can be bad."""

from pathlib import Path

import numpy as np
import pytest

from remov3r.camera import Camera
from remov3r.data.calibration import write_calibration
from remov3r.data.sources import open_source, read_reference
from remov3r.errors import DataError
from remov3r.types import Frame
from tests.data.helpers import HEIGHT, WIDTH, image, write_video

CAMERA = "60,60,31.5,23.5"


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mov", "mp4v"), ("a.mkv", "mp4v")]
)
def test_frames_and_times(tmp_path: Path, name: str, codec: str) -> None:
    source = open_source(write_video(tmp_path / name, 12, codec), camera=CAMERA)
    frames = list(source)
    assert len(source) == len(frames) == 12
    assert source.camera == Camera(WIDTH, HEIGHT, 60, 60, 31.5, 23.5)
    np.testing.assert_allclose([f.timestamp_s for f in frames], np.arange(12) / 25, atol=1e-3)
    for i, frame in enumerate(frames):
        assert frame.index == i
        assert np.abs(frame.rgb.astype(int) - image(i)).mean() < 6, "RGB order, lossy codec"


def test_start_stride_and_max_frames_pick_exact_frames(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "a.avi", 20), camera=CAMERA, start=3, stride=4, max_frames=3)
    frames = list(source)
    assert [f.index for f in frames] == [3, 7, 11]
    np.testing.assert_allclose([f.timestamp_s for f in frames], [3 / 25, 7 / 25, 11 / 25], atol=1e-3)
    assert [round(f.rgb[..., 0].mean() / 10) for f in frames] == [3, 7, 11]


def test_sidecars_bring_camera_and_ground_truth(tmp_path: Path) -> None:
    video = write_video(tmp_path / "room.avi", 3)
    write_calibration(tmp_path / "room.toml", Camera(2 * WIDTH, 2 * HEIGHT, 120, 120, 63.5, 47.5))
    (tmp_path / "room.tum").write_text("0 0 0 0 0 0 0 1\n0.04 1 0 0 0 0 0 1\n")
    assert open_source(video).camera == Camera(WIDTH, HEIGHT, 60, 60, 31.5, 23.5)
    np.testing.assert_allclose(read_reference(video).T_world_cam[:, 0, 3], [0, 1])


def test_no_camera(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.avi: the camera is unknown; give --camera"):
        open_source(write_video(tmp_path / "a.avi", 2))


def test_no_ground_truth(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no ground-truth trajectory"):
        read_reference(write_video(tmp_path / "a.avi", 2))


def test_no_depth(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no depth"):
        open_source(write_video(tmp_path / "a.avi", 2), camera=CAMERA, sensor=True)


def test_missing_empty_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.mp4: no such file"):
        open_source(tmp_path / "none.mp4", camera=CAMERA)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(DataError, match=r"empty\.mp4: the file is empty"):
        open_source(tmp_path / "empty.mp4", camera=CAMERA)
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(DataError, match=r"noise\.mp4: not a readable video"):
        open_source(tmp_path / "noise.mp4", camera=CAMERA)


def test_video_without_frames(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.avi"):
        open_source(write_video(tmp_path / "none.avi", 0), camera=CAMERA)


def test_truncated_video_gives_its_frames_and_then_an_error(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", 20, "mp4v").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    frames: list[Frame] = []
    with pytest.raises(DataError, match=r"cut\.mkv: ends after frame \d+ of 20.*--max-frames"):
        frames.extend(open_source(tmp_path / "cut.mkv", camera=CAMERA))
    assert 3 < len(frames) < 20
    assert len(list(open_source(tmp_path / "cut.mkv", camera=CAMERA, max_frames=3))) == 3
