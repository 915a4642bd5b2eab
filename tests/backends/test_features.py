"""Corners, tracks, descriptors and depth at pixels."""

import cv2
import numpy as np

from remov3r.backends.depth_sampling import median_relative_sigma, sample_depth
from remov3r.backends.features import (
    Describer,
    FeatureConfig,
    detect_corners,
    even_contrast,
    match_descriptors,
    to_gray,
    track_points,
)
from remov3r.types import DensePrediction
from tests.backends.room import CAMERA, pose, prediction
from tests.backends.textured_room import render

CONFIG = FeatureConfig(corners=100)
NOTHING = np.empty((0, 2))


def image(seed: int = 0) -> np.ndarray:
    return to_gray(render(pose(0.01 * seed, yaw=0.6)))


def test_corners_keep_their_distance_from_each_other_and_from_points_taken() -> None:
    gray = image()
    first = detect_corners(gray, NOTHING, CONFIG)
    assert 50 < len(first) <= 100
    both = np.concatenate([first[:40], detect_corners(gray, first[:40], CONFIG)])
    assert len(both) <= 100
    gaps = np.linalg.norm(both[:, None] - both[None], axis=2) + np.eye(len(both)) * 99
    assert gaps.min() >= 4
    assert len(detect_corners(gray, np.tile(first, (2, 1)), FeatureConfig(corners=20))) == 0


def test_a_blank_image_has_no_corners() -> None:
    assert len(detect_corners(np.full((120, 160), 90, np.uint8), NOTHING, CONFIG)) == 0


def test_a_dim_part_of_the_image_gets_corners_too() -> None:
    gray = image().copy()
    gray[:, 40:] = 100 + gray[:, 40:] // 6
    corners = detect_corners(gray, NOTHING, CONFIG)
    assert (corners[:, 0] > 44).sum() > 40


def test_points_follow_a_known_shift() -> None:
    gray = image()
    shifted = np.roll(gray, (3, -5), (0, 1))
    corners = detect_corners(gray, NOTHING, CONFIG)
    inner = corners[(np.abs(corners - [80, 60]) < [60, 40]).all(1)]
    pixels, ok = track_points(gray, shifted, inner, inner, CONFIG)
    assert ok.mean() > 0.9
    assert np.abs(pixels[ok] - inner[ok] - [-5, 3]).max() < 0.1


def test_a_dark_edge_does_not_hold_points_back() -> None:
    wall = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(240, 328)), (0, 0), 2.5)
    y, x = np.mgrid[0:240, 0:320]
    shade = 1 - 0.4 * ((x - 160) ** 2 + (y - 120) ** 2) / (160**2 + 120**2)
    before, after = (
        np.clip((128 + 8 * wall / wall.std())[:, k : k + 320] * shade, 0, 255).astype(np.uint8)
        for k in (0, 8)
    )
    corners = detect_corners(before, NOTHING, CONFIG)
    corners = corners[np.abs(corners[:, 0] - 160) > 100]

    def lag_px(a: np.ndarray, b: np.ndarray) -> float:
        pixels, ok = track_points(a, b, corners, corners - [8, 0], CONFIG)
        assert ok.mean() > 0.8
        return float(np.abs(np.median((pixels - corners)[ok, 0]) + 8))

    assert lag_px(before, after) > 0.05
    assert lag_px(even_contrast(before), even_contrast(after)) < 0.01


def test_noise_is_not_followed() -> None:
    gray = image()
    noise = np.random.default_rng(0).integers(0, 256, gray.shape).astype(np.uint8)
    corners = detect_corners(gray, NOTHING, CONFIG)
    _, ok = track_points(gray, noise, corners, corners, CONFIG)
    assert ok.mean() < 0.05


def test_nothing_to_follow() -> None:
    pixels, ok = track_points(image(), image(), NOTHING, NOTHING, CONFIG)
    assert len(pixels) == 0
    assert len(ok) == 0


def test_descriptors_match_across_a_small_motion() -> None:
    a, b = image(0), image(4)
    corners = detect_corners(a, NOTHING, CONFIG)
    moved, ok = track_points(a, b, corners, corners, CONFIG)
    describer = Describer(CONFIG)
    first, second = describer.describe(a, corners[ok]), describer.describe(b, moved[ok])
    assert first.shape == (ok.sum(), 128)
    i, j = match_descriptors(first, second, None, 300.0)
    assert (i == j).mean() > 0.9
    none_allowed = np.zeros((len(first), len(second)), bool)
    assert len(match_descriptors(first, second, none_allowed, 300.0)[0]) == 0
    assert len(match_descriptors(first[:0], second, None, 300.0)[0]) == 0
    assert describer.describe(a, NOTHING).shape == (0, 128)


def test_depth_is_read_through_the_camera_of_the_prediction() -> None:
    depth = np.full((60, 80), 2.0)
    depth[:, 40:] = 3.0
    depth[0:10] = 0.0
    small = prediction(depth, CAMERA.resized(80, 60), 0.02)
    z, sigma = sample_depth(small, np.array([[20.0, 60.0], [140.0, 60.0], [79.5, 60.0], [20.0, 2.0]]), CAMERA)
    assert z[0] == 2
    assert z[1] == 3
    assert sigma[0] == np.float32(0.02)
    assert sigma[2] > 0.4  # on the edge: either side may be meant
    assert np.isnan(z[3])
    assert np.isinf(sigma[3])


def test_typical_doubt_of_a_prediction() -> None:
    depth = np.full((60, 80), 2.0)
    camera = CAMERA.resized(80, 60)
    assert abs(median_relative_sigma(prediction(depth, camera, 0.1)) - 0.05) < 1e-6
    empty: DensePrediction = prediction(depth * 0, camera)
    assert median_relative_sigma(empty) == 1.0
