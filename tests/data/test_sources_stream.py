"""The streamed source: selection, laziness, sizes, empty depth, undistortion."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from remov3r.camera import Camera
from remov3r.data.sources import open_source
from remov3r.data.stream import StreamedSource
from remov3r.errors import ConfigError, DataError
from remov3r.types import Frame, Pose, Trajectory
from tests.data.helpers import HEIGHT, WIDTH, image, plane_frames, write_folder, write_rgb, write_seven_scenes


class Recorded:
    """A stored sequence held in memory that notes what is read, and in which thread."""

    name = "recorded"

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames
        self.camera = frames[0].camera
        self.read: list[int] = []
        self.threads: set[int] = set()

    def __len__(self) -> int:
        return len(self._frames)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        for i in indices:
            self.read.append(i)
            self.threads.add(threading.get_ident())
            yield self._frames[i]

    def poses(self) -> dict[int, Pose | None]:
        return {i: frame.T_world_cam for i, frame in enumerate(self._frames)}

    def reference(self) -> Trajectory | None:
        return None


def test_reads_only_a_few_frames_ahead_and_in_another_thread() -> None:
    stored = Recorded(plane_frames(50))
    stream = iter(StreamedSource(stored, range(50), ahead=4))
    assert stored.read == [], "nothing is read before it is asked for"
    for _ in range(3):
        next(stream)
    assert len(stored.read) <= 3 + 4 + 1
    assert threading.get_ident() not in stored.threads
    assert sum(1 for _ in stream) == 47


def test_a_stream_left_early_ends_its_thread() -> None:
    before = threading.active_count()
    for frame in StreamedSource(Recorded(plane_frames(50)), range(50)):
        if frame.index == 5:
            break
    assert threading.active_count() == before


def test_a_source_can_be_read_again_and_in_part() -> None:
    source = StreamedSource(Recorded(plane_frames(10)), range(2, 10, 3))
    assert len(source) == 3
    for _ in range(2):
        assert [f.index for f in source] == [2, 5, 8]
    assert [f.index for f in source.frames([0, 9])] == [0, 9]
    with pytest.raises(DataError, match="holds 10 frames, there is no frame 10"):
        source.frames([0, 10])


@pytest.mark.parametrize(
    ("start", "stride", "max_frames", "expected"),
    [(2, 1, None, [2, 3, 4]), (0, 2, None, [0, 2, 4]), (0, 1, 2, [0, 1]), (1, 3, 9, [1, 4])],
)
def test_selection(
    tmp_path: Path, start: int, stride: int, max_frames: int | None, expected: list[int]
) -> None:
    folder = write_folder(tmp_path / "images", [f"{i}.png" for i in range(5)])
    source = open_source(folder, "folder", "60,60,32,24", start, stride, max_frames)
    assert [f.index for f in source] == expected
    assert len(source) == len(expected)


@pytest.mark.parametrize(
    ("start", "stride", "count", "fps"), [(-1, 1, 1, 9), (0, 0, 1, 9), (0, 1, 0, 9), (0, 1, 1, 0)]
)
def test_selection_out_of_range(tmp_path: Path, start: int, stride: int, count: int, fps: int) -> None:
    folder = write_folder(tmp_path / "images", ["0.png"])
    with pytest.raises(ConfigError):
        open_source(folder, "folder", "60,60,32,24", start, stride, count, fps=float(fps))


def test_start_behind_the_end(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 1 frames, so --start 1 leaves none"):
        open_source(write_folder(tmp_path / "images", ["0.png"]), "folder", "60,60,32,24", start=1)


def test_one_frame_is_enough(tmp_path: Path) -> None:
    assert len(list(open_source(write_seven_scenes(tmp_path / "seq-01", 1)))) == 1


def test_another_size_in_mid_sequence(tmp_path: Path) -> None:
    folder = write_seven_scenes(tmp_path / "seq-01", 4)
    write_rgb(folder / "frame-000002.color.png", image(2, 32, 24))
    stream = iter(open_source(folder))
    assert [next(stream).index, next(stream).index] == [0, 1]
    with pytest.raises(DataError, match=rf"frame 2: the image is 32x24, all others are {WIDTH}x{HEIGHT}"):
        next(stream)


def test_depth_without_a_valid_pixel(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_seven_scenes(tmp_path / "seq-01", 3)
    cv2.imwrite(str(folder / "frame-000001.depth.png"), np.full((HEIGHT, WIDTH), 65535, np.uint16))
    frames = list(open_source(folder, sensor=True))
    assert frames[1].depth_m is not None
    assert not frames[1].depth_m.any(), "later frames can still be tracked"
    assert "frame 1: the depth image holds no valid pixel" in caplog.text
    with pytest.raises(DataError, match=r"frame 1: the depth image holds no valid pixel.*--start"):
        list(open_source(folder, sensor=True, start=1))


def test_lens_distortion_is_removed_from_colour_and_depth() -> None:
    lens = Camera(WIDTH, HEIGHT, 60, 60, 31.5, 23.5, "radtan", (0.2, 0.0, 0.0, 0.0))
    frame = replace(plane_frames(1)[0], camera=lens)
    depth = np.where(np.arange(WIDTH) < WIDTH // 2, 1.0, 3.0) * np.ones((HEIGHT, 1))
    (out,) = StreamedSource(Recorded([replace(frame, depth_m=depth.astype(np.float32))]), [0])
    assert out.camera == lens.without_distortion()
    assert out.depth_m is not None
    assert set(np.unique(out.depth_m)) <= {0.0, 1.0, 3.0}, "no depth is made up at edges"
    u, v = 55, 30
    x, y = (u - 31.5) / 60, (v - 23.5) / 60
    bent = 1 + 0.2 * (x * x + y * y)
    source_u = 31.5 + 60 * x * bent
    assert out.rgb[v, u, 1] == pytest.approx(250 * source_u / (WIDTH - 1), abs=3)
