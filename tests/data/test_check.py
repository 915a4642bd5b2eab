"""The checker names each trap of data sets when a clean set is broken in that one way, and passes clean sets."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from remov3r.data.check import check_sequence
from remov3r.data.check_order import check_order
from remov3r.data.findings import Finding
from remov3r.geometry import inverse
from tests.data.helpers import SHARED_DATA, write_rgb, write_seven_scenes
from tests.data.layouts import (
    pose_of,
    room_frames,
    write_depth,
    write_posed,
    write_replica,
    write_scannet,
    write_vkitti2,
)

COUNT = 36
FRAMES = room_frames(COUNT)
AS_TEXT = sorted(range(COUNT), key=str)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_posed(tmp_path_factory.mktemp("data") / "room", FRAMES)


def errors(folder: Path, dataset: str = "posed") -> dict[str, Finding]:
    return {f.trap: f for f in check_sequence(folder, dataset) if f.level == "error"}


def with_poses(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.savetxt(folder / "poses.txt", [change(pose_of(f)).ravel() for f in FRAMES])


def with_depth(folder: Path, units_per_m: float) -> None:
    for f in FRAMES:
        write_depth(folder / "depth" / f"{f.index:06d}.png", f, units_per_m)


def reordered(folder: Path, kinds: tuple[str, ...], order: list[int]) -> None:
    """Give the n-th name to the files of frame order[n]."""
    for kind in kinds:
        for n, i in enumerate(order):
            (folder / kind / f"{i:06d}.png").rename(folder / kind / f"{n:06d}.moved")
        for file in (folder / kind).glob("*.moved"):
            file.rename(file.with_suffix(".png"))


def lines_reordered(folder: Path, order: list[int]) -> None:
    np.savetxt(folder / "poses.txt", [pose_of(FRAMES[i]).ravel() for i in order])


def one_bad_pose(value: float) -> Callable[[Path], None]:
    def breaks(folder: Path) -> None:
        rows = np.loadtxt(folder / "poses.txt")
        rows[7, 0] = value
        np.savetxt(folder / "poses.txt", rows)

    return breaks


SHUFFLED = [int(i) for i in np.random.default_rng(0).permutation(COUNT)]


def all_reordered(folder: Path, order: list[int]) -> None:
    reordered(folder, ("rgb", "depth"), order)
    lines_reordered(folder, order)


def in_millimetres(T: np.ndarray) -> np.ndarray:
    out = T.copy()
    out[:3, 3] *= 1000
    return out


TRAPS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "non-rigid": (one_bad_pose(3.0), "pose", "line 8: not a rigid pose"),
    "infinite": (one_bad_pose(np.inf), "pose", "line 8: .*NaN or infinite"),
    "inverted": (lambda folder: with_poses(folder, inverse), "inverted poses", "world to camera"),
    "OpenGL": (lambda folder: with_poses(folder, lambda T: T @ np.diag([1.0, -1, -1, 1])), "camera axes", "OpenGL"),
    "factor 5000": (lambda folder: with_depth(folder, 5000), "depth scale", "5000, TUM's"),
    "factor 6553.5": (lambda folder: with_depth(folder, 6553.5), "depth scale", "6553.5, Replica's"),
    "centimetres": (lambda folder: with_depth(folder, 100), "depth scale", "centimetres"),
    "poses in millimetres": (
        lambda folder: with_poses(folder, in_millimetres),
        "pose scale",
        "poses are in millimetres",
    ),
    "poses as text": (lambda folder: lines_reordered(folder, AS_TEXT), "file order", "poses were listed by name"),
    "images as text": (lambda folder: reordered(folder, ("rgb",), AS_TEXT), "file order", "images were listed"),
    "all as text": (
        lambda folder: all_reordered(folder, AS_TEXT),
        "file order",
        "images and poses were listed",
    ),
    "shuffled": (lambda folder: all_reordered(folder, SHUFFLED), "file order", "shuffled"),
    "other depth": (lambda folder: reordered(folder, ("depth",), SHUFFLED), "depth against poses", "depth of another"),
    "no depth": (lambda folder: (folder / "depth" / "000005.png").unlink(), "missing pair", "no depth for .* 000005"),
    "no image": (lambda folder: (folder / "rgb" / "000009.png").unlink(), "missing pair", "no image for .* 000009"),
    "short pose file": (lambda folder: lines_reordered(folder, list(range(9))), "missing pair", "9 poses for 36"),
    "constant": (
        lambda folder: write_rgb(folder / "rgb" / "000004.png", np.full((60, 80, 3), 7, np.uint8)),
        "constant image",
        "frames 4",
    ),
    "8 bit": (
        lambda folder: write_rgb(folder / "depth" / "000011.png", FRAMES[0].rgb),
        "truncated file",
        r"000011\.png: depth must be a 16-bit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAPS)
def test_each_trap_is_named_and_no_other(tmp_path: Path, clean: Path, name: str) -> None:
    folder = shutil.copytree(clean, tmp_path / "room")
    breaks, trap, said = TRAPS[name]
    breaks(folder)
    found = errors(folder)
    assert list(found) == [trap]
    finding = found[trap]
    assert re.search(said, f"{finding.said} {finding.cause}"), finding
    assert finding.fix


@pytest.mark.parametrize(("file", "kept"), [("depth/000012.png", -30), ("rgb/000012.png", 0)])
def test_a_truncated_file_is_named(tmp_path: Path, clean: Path, file: str, kept: int) -> None:
    folder = shutil.copytree(clean, tmp_path / "room")
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:kept])
    found = errors(folder)
    assert list(found) == ["truncated file"]
    assert file in found["truncated file"].said


def test_clean_sets_pass(tmp_path: Path, clean: Path) -> None:
    frames = room_frames(24)
    assert errors(clean) == {}
    assert errors(write_scannet(tmp_path / "scene0000_00", frames, lost=(3, 4)), "scannet") == {}
    assert errors(write_replica(tmp_path / "room0", frames), "replica") == {}
    assert errors(write_vkitti2(tmp_path / "Scene01" / "clone", frames), "vkitti2") == {}


def test_truncated_jpeg_and_missing_pose_of_scannet(tmp_path: Path) -> None:
    folder = write_scannet(tmp_path / "scene0000_00", FRAMES[:12])
    jpeg = (folder / "color" / "3.jpg").read_bytes()
    (folder / "color" / "3.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "pose" / "10.txt").unlink()
    found = errors(folder, "scannet")
    assert sorted(found) == ["missing pair", "truncated file"]
    assert "color/3.jpg" in found["truncated file"].said
    assert "no pose for frames 10" in found["missing pair"].said


def test_depth_scale_without_poses(tmp_path: Path, clean: Path) -> None:
    folder = shutil.copytree(clean, tmp_path / "room")
    (folder / "poses.txt").unlink()
    assert errors(folder) == {}
    with_depth(folder, 25)
    found = errors(folder)
    assert list(found) == ["depth scale"]
    assert "median depth is 0.0" in found["depth scale"].said


def test_a_camera_that_only_turns_says_nothing_of_scale_or_order(tmp_path: Path) -> None:
    still = [FRAMES[0]] * 15
    frames = [type(f)(i, i / 30, f.rgb, f.camera, f.depth_m, f.T_world_cam) for i, f in enumerate(still)]
    assert errors(write_posed(tmp_path / "still", frames)) == {}


def test_lost_poses_are_counted(tmp_path: Path) -> None:
    folder = write_scannet(tmp_path / "scene0000_00", FRAMES[:8], lost=(0, 1, 2, 3, 4))
    warnings = [f for f in check_sequence(folder, "scannet") if f.level == "warning"]
    assert [f.trap for f in warnings] == ["lost poses"]
    assert "5 of 8" in warnings[0].said


def test_numbers_in_steps_listed_as_text() -> None:
    steps = [str(10 * i) for i in range(30)]
    order = [steps.index(name) for name in sorted(steps)]
    x = np.linspace(0, 9, 50)
    images = np.stack([np.sin(x + 0.1 * i) for i in range(30)])
    found, _ = check_order(images[order], None, steps)
    assert [f.trap for f in found] == ["file order"]
    assert "images were listed" in found[0].cause
    assert check_order(images, None, steps) == ([], False)


@pytest.mark.parametrize("name", ["hololens", "7scenes/redkitchen"])
def test_real_data_pass(tmp_path: Path, name: str) -> None:
    """The first forty frames, or a miniature where the data are not at hand."""
    real = SHARED_DATA / name
    if not real.exists():
        assert errors(write_posed(tmp_path / "room", room_frames(12))) == {}
        return
    folder = tmp_path / "some"
    folder.mkdir()
    if name == "hololens":
        for kind in ("rgb", "depth"):
            (folder / kind).mkdir()
            for file in sorted((real / kind).iterdir())[:40]:
                (folder / kind / file.name).symlink_to(file)
        lines = (real / "poses.txt").read_text().splitlines()
        rows = [line for line in lines if not line.startswith("#")]
        (folder / "poses.txt").write_text("\n".join(rows[:40]))
        shutil.copy(real / "intrinsics.txt", folder)
    else:
        for file in sorted((real / "seq-01").glob("frame-0000[0-3]*")):
            (folder / file.name).symlink_to(file)
    assert errors(folder, "posed" if name == "hololens" else "7scenes") == {}


def test_missing_files_of_seven_scenes(tmp_path: Path) -> None:
    folder = write_seven_scenes(tmp_path / "seq-01", 6)
    (folder / "frame-000002.depth.png").unlink()
    (folder / "frame-000004.pose.txt").unlink()
    pairs = [f for f in check_sequence(folder, "7scenes") if f.trap == "missing pair"]
    assert [f.said for f in pairs] == ["no depth for frames frame-000002", "no pose for frames frame-000004"]
