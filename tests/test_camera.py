"""Camera: known values under resize and crop, undistortion against OpenCV, bad values."""

import cv2
import numpy as np
import pytest

from remov3r.camera import Camera
from remov3r.errors import DataError

CAMERA = Camera(640, 480, 585.0, 580.0, 320.0, 240.0)


def test_resize_keeps_the_ray_of_every_image_corner() -> None:
    small = CAMERA.resized(320, 120)
    for corner, small_corner in (((-0.5, -0.5), (-0.5, -0.5)), ((639.5, 479.5), (319.5, 119.5))):
        ray = np.linalg.inv(CAMERA.K) @ [*corner, 1]
        np.testing.assert_allclose(np.linalg.inv(small.K) @ [*small_corner, 1], ray, atol=1e-12)


def test_resize_there_and_back_is_identity() -> None:
    back = CAMERA.resized(333, 77).resized(640, 480)
    np.testing.assert_allclose(back.K, CAMERA.K, atol=1e-9)


def test_crop_moves_the_principal_point_only() -> None:
    cut = CAMERA.cropped(10, 20, 100, 50)
    assert (cut.cx, cut.cy, cut.fx, cut.width, cut.height) == (310.0, 220.0, 585.0, 100, 50)


def test_crop_outside_is_refused() -> None:
    with pytest.raises(DataError, match="leaves the 640x480"):
        CAMERA.cropped(600, 0, 100, 100)


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [("radtan", (-0.2, 0.05, 0.001, -0.001)), ("fisheye", (0.05, 0.01, 0.0, 0.0))],
)
def test_undistorted_image_shows_each_point_where_the_pinhole_puts_it(
    model: str, coefficients: tuple[float, ...]
) -> None:
    camera = Camera(320, 240, 250.0, 250.0, 160.0, 120.0, model, coefficients)
    point = np.array([[[0.25, -0.15, 1.0]]])
    projector = cv2.fisheye.projectPoints if model == "fisheye" else cv2.projectPoints
    seen = projector(point, np.zeros(3), np.zeros(3), camera.K, np.array(coefficients))[0].ravel()
    image = np.zeros((240, 320, 3), np.uint8)
    cv2.circle(image, (round(seen[0] * 16), round(seen[1] * 16)), 64, (255, 255, 255), -1, cv2.LINE_AA, 4)
    flat = camera.undistorter()(image).mean(-1)
    v, u = np.indices(flat.shape)
    centre = np.array([(u * flat).sum(), (v * flat).sum()]) / flat.sum()
    ideal = camera.K @ [0.25, -0.15, 1.0]
    np.testing.assert_allclose(centre, ideal[:2], atol=0.5)
    assert np.abs(seen - ideal[:2]).max() > 1  # the lens moved it by more than the tolerance


def test_no_distortion_returns_the_image_untouched() -> None:
    image = np.random.default_rng(0).integers(0, 255, (4, 5, 3), np.uint8)
    assert Camera(5, 4, 3, 3, 2, 2).undistorter()(image) is image


@pytest.mark.parametrize(
    "values",
    [
        {"fx": 0.0},
        {"fx": float("nan")},
        {"cx": float("inf")},
        {"width": 0},
        {"distortion": "radtan", "coefficients": (1.0,)},
        {"distortion": "magic"},
    ],
)
def test_impossible_cameras_are_refused(values: dict[str, object]) -> None:
    good: dict[str, object] = {"width": 4, "height": 4, "fx": 3.0, "fy": 3.0, "cx": 2.0, "cy": 2.0}
    with pytest.raises(DataError, match="camera"):
        Camera(**{**good, **values})  # type: ignore[arg-type]
