"""Calibrations: what the user writes, what files hold, and images of another size."""

from pathlib import Path

import pytest

from remov3r.camera import Camera
from remov3r.data.calibration import (
    camera_for,
    fit_to_image,
    read_calibration,
    sidecar_camera,
    write_calibration,
)
from remov3r.errors import DataError

LENS = Camera(640, 480, 500.5, 501.25, 319.5, 239.5, "radtan", (0.1, -0.2, 0.001, 0.002, 0.05))


def test_four_numbers_are_for_the_images_own_size() -> None:
    assert camera_for("500,501.5,320,240", LENS, 640, 480, "x") == Camera(640, 480, 500, 501.5, 320, 240)


def test_a_written_calibration_reads_back_exactly(tmp_path: Path) -> None:
    write_calibration(tmp_path / "lens.toml", LENS)
    assert read_calibration(tmp_path / "lens.toml") == LENS
    assert camera_for(str(tmp_path / "lens.toml"), None, 640, 480, "x") == LENS


def test_calibration_scales_to_the_same_aspect_with_pixel_areas_kept() -> None:
    half = fit_to_image(LENS, 320, 240, "x")
    assert (half.fx, half.cx, half.cy) == (250.25, 159.5, 119.5)
    assert half.coefficients == LENS.coefficients


def test_another_aspect_is_refused_with_both_sizes() -> None:
    with pytest.raises(DataError, match=r"clip: images are 640x360 .* 640x480"):
        fit_to_image(LENS, 640, 360, "clip")


def test_no_camera_says_what_to_give() -> None:
    with pytest.raises(DataError, match="--camera fx,fy,cx,cy"):
        camera_for(None, None, 64, 48, "clip.mp4")


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "nan,1,1,1", "-5,5,1,1", ""])
def test_bad_numbers_are_refused(text: str) -> None:
    with pytest.raises(DataError):
        camera_for(text, None, 64, 48, "x")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("width = 64\nheight = 48\nfx = 1.0\nfy = 1.0\ncx = 1.0", "lacks cy"),
        ("width = 64\nheight = 48\nfx = 1\nfy = 1\ncx = 1\ncy = 1\nfocal = 2", "unknown focal"),
        ('width = 64\nheight = 48\nfx = "wide"\nfy = 1\ncx = 1\ncy = 1', "not a number"),
        ('width = 64\nheight = 48\nfx = 1\nfy = 1\ncx = 1\ncy = 1\ndistortion = "fish"', "fish"),
        ("width = ", "not valid TOML"),
    ],
)
def test_bad_calibration_files_are_named(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "bad.toml").write_text(body)
    with pytest.raises(DataError, match=rf"bad\.toml.*{message}"):
        read_calibration(tmp_path / "bad.toml")


def test_missing_calibration_file() -> None:
    with pytest.raises(DataError, match=r"none\.toml: cannot be read"):
        camera_for("none.toml", None, 64, 48, "x")


def test_sidecar_of_a_file_and_of_a_folder(tmp_path: Path) -> None:
    write_calibration(tmp_path / "room.toml", LENS)
    (tmp_path / "room.mp4").touch()
    (tmp_path / "room").mkdir()
    assert sidecar_camera(tmp_path / "room.mp4") == LENS
    assert sidecar_camera(tmp_path / "room") == LENS
    assert sidecar_camera(tmp_path / "other.mp4") is None
