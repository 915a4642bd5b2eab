"""Bonn, ICL-NUIM, EuRoC, KITTI and the exports of Waymo and RobotCar on miniatures of their layouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from remov3r.camera import Camera
from remov3r.data.bonn import CAMERA as BONN_CAMERA
from remov3r.data.bonn import T_MARKERS_CAM
from remov3r.data.check import check_sequence
from remov3r.data.icl_nuim import CAMERA as ICL_CAMERA
from remov3r.data.scenes import find_sequences
from remov3r.data.sources import DEPTH_SETS, detect_dataset, open_source, read_reference
from remov3r.errors import DataError
from remov3r.eval.protocols import load_protocol
from remov3r.geometry import inverse
from remov3r.types import Frame
from tests.data.layouts import CAMERA, pose_of, room_frame, room_frames, room_pose, world_points
from tests.data.more_layouts import (
    FLIP_Y,
    LENS,
    projection,
    write_bonn,
    write_euroc,
    write_icl_export,
    write_icl_own,
    write_kitti_odometry,
    write_kitti_raw,
    write_kitti_selection,
    write_robotcar,
    write_tum_like,
    write_waymo,
)

SMALL_ICL = ICL_CAMERA.resized(80, 60)
SMALL_BONN = BONN_CAMERA.resized(80, 60)
FRAMES = room_frames(6)
ICL_FRAMES = room_frames(6, SMALL_ICL)
BONN_FRAMES = room_frames(6, SMALL_BONN)


@dataclass(frozen=True)
class Layout:
    """How to write a miniature, and what to expect of it.

    Attributes:
        below: path of the sequence in the data folder.
        unknown: frames without a pose.
        depth_off_m: None without depth.
        shifted: the world's origin is moved, so that only relative poses compare.
        missing, cut, shuffled: files to remove, to cut short and whose lines to exchange.
    """

    dataset: str
    write: Callable[[Path, list[Frame]], Path]
    below: str
    frames: list[Frame]
    unknown: tuple[int, ...] = ()
    depth_off_m: float | None = None
    shifted: bool = False
    missing: tuple[str, ...] = ()
    cut: str = ""
    shuffled: str = ""


LAYOUTS = {
    "bonn": Layout(
        "bonn", write_bonn, "rgbd_bonn_crowd2", BONN_FRAMES, depth_off_m=2e-4, missing=("rgb.txt", "depth.txt"),
        cut="rgb/1000000000.06667.png", shuffled="rgb.txt",
    ),
    "icl export": Layout(
        "icl-nuim", write_icl_export, "living_room_traj0_frei_png", ICL_FRAMES, (0,), 2e-4,
        missing=("rgb/3.png", "depth/3.png"), cut="depth/3.png", shuffled="associations.txt",
    ),
    "icl own": Layout(
        "icl-nuim", write_icl_own, "living_room_traj0_loop", ICL_FRAMES, depth_off_m=1e-5,
        missing=("scene_00_0003.depth", "scene_00_0003.txt"), cut="scene_00_0003.depth",
    ),
    "euroc": Layout(
        "euroc", write_euroc, "MH_01_easy", FRAMES, (0,), missing=("mav0/cam0/sensor.yaml",),
        cut="mav0/cam0/data/1403636579913555584.png", shuffled="mav0/cam0/data.csv",
    ),
    "kitti odometry": Layout(
        "kitti-odometry", write_kitti_odometry, "sequences/00", FRAMES, missing=("calib.txt", "times.txt"),
        cut="image_2/000003.png", shuffled="times.txt",
    ),
    "kitti": Layout(
        "kitti", write_kitti_raw, "2011_09_26/2011_09_26_drive_0002_sync", FRAMES, depth_off_m=2e-3, shifted=True,
        missing=("oxts/data/0000000003.txt", "../calib_cam_to_cam.txt", "image_02/timestamps.txt"),
        cut="proj_depth/groundtruth/image_02/0000000003.png", shuffled="image_02/timestamps.txt",
    ),
    "kitti selection": Layout(
        "kitti-selection", write_kitti_selection, "val_selection_cropped", FRAMES, tuple(range(6)), 2e-3,
        missing=("intrinsics/2011_09_26_drive_0002_sync_image_0000000003_image_02.txt",),
        cut="image/2011_09_26_drive_0002_sync_image_0000000003_image_02.png",
    ),
    "waymo": Layout(
        "waymo", write_waymo, "016", FRAMES, shifted=True, missing=("ego_pose/003.txt", "extrinsics/0.txt"),
        cut="images/003_0.png",
    ),
    "robotcar": Layout(
        "robotcar", write_robotcar, "2014-12-12-10-45-15", FRAMES, (0,), shifted=True,
        missing=("models/stereo_narrow_left.txt", "extrinsics/ins.txt"),
        cut="stereo/centre/1418381798273898.png", shuffled="gps/ins.csv",
    ),
}  # fmt: skip
EACH = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def read_all(folder: Path, dataset: str = "auto") -> list[Frame]:
    kind = detect_dataset(folder) if dataset == "auto" else dataset
    return list(open_source(folder, kind, sensor=kind in DEPTH_SETS))


@EACH
def test_camera_poses_and_depth(tmp_path: Path, layout: Layout) -> None:
    folder = layout.write(tmp_path / layout.below, layout.frames)
    assert detect_dataset(folder) == layout.dataset
    source = open_source(folder, sensor=layout.depth_off_m is not None)
    frames = list(source)
    np.testing.assert_allclose(source.camera.K, layout.frames[0].camera.K, atol=1e-9)
    times = np.array([f.timestamp_s for f in frames])
    assert (np.diff(times) > 0.03).all()
    assert [f.index for f in frames] == ([1, 2, 3, 4] if layout.dataset == "kitti" else list(range(6)))
    known = [f for f in frames if f.T_world_cam is not None]
    assert [f.index for f in frames if f.T_world_cam is None] == list(layout.unknown)
    for frame in known:
        first = (pose_of(known[0]), pose_of(layout.frames[known[0].index]))
        read, true = pose_of(frame), pose_of(layout.frames[frame.index])
        if layout.shifted:
            np.testing.assert_allclose(read[:3, :3], true[:3, :3], atol=1e-6)
            read, true = inverse(first[0]) @ read, inverse(first[1]) @ true
        np.testing.assert_allclose(read, true, atol=1e-6)
    for frame in frames:
        written = layout.frames[frame.index]
        if layout.dataset == "bonn":
            continue  # undistorted: see TestBonn
        if layout.dataset != "euroc":
            np.testing.assert_array_equal(frame.rgb, written.rgb)
        if layout.depth_off_m is None:
            assert frame.depth_m is None
        else:
            assert frame.depth_m is not None
            assert written.depth_m is not None
            assert frame.depth_m.dtype == np.float32
            np.testing.assert_allclose(frame.depth_m, written.depth_m, atol=layout.depth_off_m)
    if known:
        reference = read_reference(folder)
        np.testing.assert_allclose(
            reference.T_world_cam[-1][:3, :3], pose_of(layout.frames[-1])[:3, :3], atol=1e-6
        )
        assert len(reference) == 6 - len(layout.unknown)


@EACH
def test_the_checker_finds_nothing_wrong(tmp_path: Path, layout: Layout) -> None:
    camera = layout.frames[0].camera
    folder = layout.write(tmp_path / layout.below, room_frames(12, camera))
    (found,) = find_sequences(tmp_path, with_depth=False)
    assert (found.path, found.dataset) == (folder, layout.dataset)
    findings = check_sequence(folder, layout.dataset)
    assert [f for f in findings if f.level == "error"] == []
    if layout.depth_off_m is None:
        with pytest.raises(DataError, match="no sequence with depth"):
            find_sequences(tmp_path)
        with pytest.raises(DataError, match="has no depth images; leave out the sensor"):
            open_source(folder, sensor=True)
    elif layout.unknown != tuple(range(6)):
        assert any(f.trap == "reprojection" for f in findings), "depth and poses were compared"


@EACH
def test_missing_files_are_named(tmp_path: Path, layout: Layout) -> None:
    for number, file in enumerate(layout.missing):
        folder = layout.write(tmp_path / str(number) / layout.below, layout.frames)
        (folder / file).unlink()
        with pytest.raises(DataError, match=Path(file).name.replace(".", r"\.")) as raised:
            read_all(folder, layout.dataset)
        assert "\n" not in str(raised.value)


@EACH
def test_a_truncated_file_is_named(tmp_path: Path, layout: Layout) -> None:
    folder = layout.write(tmp_path / layout.below, layout.frames)
    content = (folder / layout.cut).read_bytes()
    (folder / layout.cut).write_bytes(content[: len(content) // 2])
    name = Path(layout.cut).name.replace(".", r"\.")
    with pytest.raises(DataError, match=rf"{name}: (not a readable image|\d+ distances for 80x60 pixels)"):
        read_all(folder)
    assert any(f.trap == "truncated file" for f in check_sequence(folder, layout.dataset))


@pytest.mark.parametrize("layout", [x for x in LAYOUTS.values() if x.shuffled])
def test_shuffled_times_are_refused(tmp_path: Path, layout: Layout) -> None:
    folder = layout.write(tmp_path / layout.below, layout.frames)
    lines = (folder / layout.shuffled).read_text().splitlines()
    lines[3], lines[4] = lines[4], lines[3]
    (folder / layout.shuffled).write_text("\n".join(lines))
    with pytest.raises(
        DataError, match=rf"{Path(layout.shuffled).name}, line 5: .* does not come after .*shuffled"
    ):
        read_all(folder)


@pytest.mark.parametrize("write", [write_euroc, write_waymo])
def test_the_lens_is_undone(tmp_path: Path, write: Callable[[Path, list[Frame]], Path]) -> None:
    raw = room_frames(2, replace(CAMERA, distortion="radtan", coefficients=LENS))
    source = open_source(write(tmp_path / "s", raw))
    assert source.camera == CAMERA
    inner = (slice(12, -12), slice(12, -12))
    for frame, true, distorted in zip(source, room_frames(2), raw):
        picture = true.rgb
        if write is write_euroc:
            assert (frame.rgb == frame.rgb[..., :1]).all(), "grey becomes RGB of three equal channels"
            picture = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
        off, before = (
            np.abs(a[inner].astype(int) - picture[inner]).mean() for a in (frame.rgb, distorted.rgb)
        )
        assert off < min(4, 0.3 * before)


class TestTum:
    def test_a_dynamic_sequence_is_read_like_any_other(self, tmp_path: Path) -> None:
        frames = room_frames(4)
        folder = write_tum_like(
            tmp_path / "rgbd_dataset_freiburg3_walking_xyz", frames, [pose_of(f) for f in frames]
        )
        source = open_source(folder, sensor=True)
        assert detect_dataset(folder) == "tum"
        assert source.camera == Camera(640, 480, 535.4, 539.2, 320.1, 247.6).resized(80, 60)
        for frame, true in zip(source, frames):
            np.testing.assert_allclose(pose_of(frame), pose_of(true), atol=1e-9)


class TestBonn:
    def test_picture_and_depth_are_undistorted(self, tmp_path: Path) -> None:
        folder = write_bonn(tmp_path / "rgbd_bonn_crowd2", BONN_FRAMES)
        source = open_source(folder, sensor=True)
        assert source.camera == SMALL_BONN.without_distortion()
        inner = (slice(5, -5), slice(5, -5))
        for frame, true in zip(source, room_frames(6, SMALL_BONN.without_distortion())):
            assert frame.depth_m is not None
            assert true.depth_m is not None
            assert np.abs(frame.rgb[inner].astype(int) - true.rgb[inner]).mean() < 4
            assert np.median(np.abs(frame.depth_m[inner] - true.depth_m[inner])) < 5e-3

    def test_markers(self) -> None:
        """The published matrix is this rotation times 1.0593."""
        R = T_MARKERS_CAM[:3, :3]
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(R) == pytest.approx(1)
        np.testing.assert_allclose(1.0593 * R[0], [1.0157, 0.1828, -0.2389], atol=3e-4)
        np.testing.assert_allclose(T_MARKERS_CAM[:3, 3], [0.0113, -0.0098, 0.0111])


class TestIclNuim:
    def test_pixels_are_those_of_the_published_projection(self, tmp_path: Path) -> None:
        """A point in POV-Ray's left-handed world falls on the pixel that K with fy = -480 says."""
        folder = write_icl_own(tmp_path / "s", ICL_FRAMES[:2])
        frame = read_all(folder)[1]
        points = world_points(frame).reshape(-1, 3)
        T_pov = FLIP_Y @ pose_of(ICL_FRAMES[1]) @ FLIP_Y
        local = (points * [1, -1, 1] - T_pov[:3, 3]) @ T_pov[:3, :3]
        c = SMALL_ICL
        u = c.fx * local[:, 0] / local[:, 2] + c.cx
        v = -c.fy * local[:, 1] / local[:, 2] + c.cy
        x, y = np.meshgrid(np.arange(80), np.arange(60))
        np.testing.assert_allclose(u, x.ravel(), atol=1e-3)
        np.testing.assert_allclose(v, y.ravel(), atol=1e-3)

    def test_damaged_camera(self, tmp_path: Path) -> None:
        folder = write_icl_own(tmp_path / "s", ICL_FRAMES[:2])
        (folder / "scene_00_0001.txt").write_text("cam_pos = [0, 0, 1]';\n")
        with pytest.raises(DataError, match=r"scene_00_0001\.txt: lacks cam_dir, cam_up"):
            open_source(folder)

    def test_bad_association(self, tmp_path: Path) -> None:
        folder = write_icl_export(tmp_path / "s", ICL_FRAMES[:2])
        (folder / "associations.txt").write_text("1 depth/1.png 1 rgb/1.png\n2 depth/2.png\n")
        with pytest.raises(DataError, match=r"associations\.txt, line 2: need `n depth"):
            open_source(folder)


class TestKitti:
    def test_pixels_are_those_of_the_published_projection(self, tmp_path: Path) -> None:
        """P2 times a point in camera 0's frame, by the poses as stored, is the pixel of the delivered camera."""
        folder = write_kitti_odometry(tmp_path / "sequences" / "00", FRAMES)
        frame = read_all(folder)[4]
        rows = np.loadtxt(tmp_path / "poses" / "00.txt").reshape(-1, 3, 4)
        T_world_cam0 = np.vstack([rows[4], [0, 0, 0, 1]])
        points = np.random.default_rng(0).uniform([-1, -1, 3], [1, 1, 9], (20, 3)) @ pose_of(frame)[:3, :3].T
        homogeneous = np.column_stack([points + pose_of(frame)[:3, 3], np.ones(20)])
        published = homogeneous @ (projection(CAMERA) @ inverse(T_world_cam0)).T
        local = homogeneous @ inverse(pose_of(frame)).T
        delivered = local[:, :3] @ CAMERA.K.T
        np.testing.assert_allclose(
            published[:, :2] / published[:, 2:], delivered[:, :2] / delivered[:, 2:], atol=1e-6
        )

    def test_without_poses_and_bad_counts(self, tmp_path: Path) -> None:
        folder = write_kitti_odometry(tmp_path / "sequences" / "11", FRAMES)
        poses = tmp_path / "poses" / "11.txt"
        poses.write_text("\n".join(poses.read_text().splitlines()[:4]))
        with pytest.raises(DataError, match=r"11\.txt: 4 poses for 6 images"):
            open_source(folder)
        poses.unlink()
        assert read_all(folder)[0].T_world_cam is None
        with pytest.raises(DataError, match="no ground-truth trajectory"):
            read_reference(folder)

    def test_a_drive_without_annotated_depth(self, tmp_path: Path) -> None:
        folder = write_kitti_raw(tmp_path / "2011_09_26" / "2011_09_26_drive_0002_sync", FRAMES)
        for file in (folder / "proj_depth" / "groundtruth" / "image_02").iterdir():
            file.unlink()
        with pytest.raises(DataError, match="holds depth of none of the images"):
            open_source(folder, sensor=True)
        assert len(list(open_source(folder))) == 6

    def test_pictures_of_several_cameras_become_those_of_the_first(self, tmp_path: Path) -> None:
        other = Camera(80, 60, 71.5, 72.5, 38.0, 31.0)
        frames = [FRAMES[0], room_frame(1, room_pose(1), other)]
        first, second = read_all(write_kitti_selection(tmp_path / "s", frames))
        np.testing.assert_array_equal(first.rgb, FRAMES[0].rgb)
        true, inner = FRAMES[1], (slice(4, -4), slice(4, -4))
        assert np.abs(second.rgb[inner].astype(int) - true.rgb[inner]).mean() < 4
        assert second.depth_m is not None
        assert true.depth_m is not None
        assert np.median(np.abs(second.depth_m[inner] - true.depth_m[inner])) < 0.02

    def test_protocols_name_their_readers(self) -> None:
        kitti, bonn = load_protocol("kitti-depth"), load_protocol("bonn-depth")
        assert (kitti.dataset, len(kitti.sequences), kitti.start) == ("kitti", 13, 5)
        assert (bonn.dataset, len(bonn.sequences), bonn.camera) == ("bonn", 5, None)


class TestRaw:
    @pytest.mark.parametrize("name", ["segment-1.tfrecord", "1.parquet"])
    def test_waymo(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).touch()
        for path in (tmp_path, tmp_path / name):
            with pytest.raises(DataError, match="need Waymo's own library; export the segment first"):
                detect_dataset(path)

    def test_robotcar(self, tmp_path: Path) -> None:
        folder = write_robotcar(tmp_path / "s", FRAMES)
        file = folder / "stereo" / "centre" / "1418381798086398.png"
        cv2.imwrite(str(file), FRAMES[0].rgb[..., 0])
        with pytest.raises(DataError, match="raw Bayer image; demosaic and undistort with load_image"):
            open_source(folder)

    def test_robotcar_without_a_column(self, tmp_path: Path) -> None:
        folder = write_robotcar(tmp_path / "s", FRAMES)
        table = folder / "gps" / "ins.csv"
        table.write_text(table.read_text().replace("easting,", "east,"))
        with pytest.raises(DataError, match=r"ins\.csv: lacks easting"):
            open_source(folder)


class TestEuroc:
    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("radial-tangential", "equidistant", "must be radial-tangential, got equidistant"),
            ("intrinsics", "intrinsic", r"lacks intrinsics: \[...\]"),
            ("resolution: [80, 60]", "resolution: [80]", "resolution: need 2 finite numbers"),
        ],
    )
    def test_damaged_calibration(self, tmp_path: Path, old: str, new: str, message: str) -> None:
        folder = write_euroc(tmp_path / "s", FRAMES[:2])
        file = folder / "mav0" / "cam0" / "sensor.yaml"
        file.write_text(file.read_text().replace(old, new))
        with pytest.raises(DataError, match=rf"sensor\.yaml.*{message}"):
            open_source(folder)
