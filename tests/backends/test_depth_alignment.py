"""Depth alignment against scales, fields and outliers that are known."""

from dataclasses import replace

import numpy as np
import pytest

from remov3r.backends.depth_alignment import AlignmentConfig, align_depth
from remov3r.camera import Camera
from remov3r.errors import ShapeError
from remov3r.types import DensePrediction
from tests.backends.room import CAMERA, pose, prediction, room_depth

FRAME = Camera(640, 480, 520.0, 520.0, 319.5, 239.5)  # the same field of view as CAMERA, four times the size
TRUTH = room_depth(pose(yaw=0.3, pitch=0.2))


def landmarks(n: int, seed: int = 0, region: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Exact depth at random pixels of the frame (within the upper left `region` of it)."""
    rng = np.random.default_rng(seed)
    u = rng.uniform(4, 4 + region * 630, n)
    v = rng.uniform(4, 4 + region * 470, n)
    fine = room_depth(pose(yaw=0.3, pitch=0.2), FRAME)
    pixels = np.stack([np.rint(u), np.rint(v)], 1)
    return pixels, fine[pixels[:, 1].astype(int), pixels[:, 0].astype(int)]


def relative_error(dense: DensePrediction) -> np.ndarray:
    """Relative depth error of every pixel."""
    return np.abs(dense.depth_m / TRUTH - 1)


def test_smooth_field_of_scales_is_recovered() -> None:
    y, x = np.mgrid[-1:1:120j, -1:1:160j]
    wrong = prediction(TRUTH * 0.8 * np.exp(0.15 * x - 0.1 * y), sigma_m=0.1)
    aligned = align_depth(wrong, *landmarks(300), FRAME)
    assert np.median(relative_error(aligned)) < 0.005
    assert relative_error(aligned).max() < 0.04
    # Points move with the depth along their rays.
    assert np.allclose(aligned.points_cam[..., 2], aligned.depth_m, rtol=1e-5)


def test_compressed_depth_range_is_recovered() -> None:
    wrong = prediction(1.7 * TRUTH**0.8, sigma_m=0.1)
    aligned = align_depth(wrong, *landmarks(300), FRAME)
    assert np.median(relative_error(aligned)) < 0.01
    assert np.median(relative_error(wrong)) > 0.2


def test_a_third_of_outliers_is_tolerated() -> None:
    pixels, depth = landmarks(200)
    rng = np.random.default_rng(1)
    bad = rng.random(200) < 0.3
    depth = np.where(bad, depth * rng.uniform(1.5, 4, 200), depth)
    aligned = align_depth(prediction(TRUTH * 0.8, sigma_m=0.1), pixels, depth, FRAME)
    assert np.percentile(relative_error(aligned), 95) < 0.02


def test_few_landmarks_give_one_scale() -> None:
    aligned = align_depth(prediction(TRUTH * 0.8), *landmarks(12), FRAME)
    ratio = aligned.depth_m / (TRUTH * 0.8)
    assert np.allclose(ratio, ratio[0, 0], rtol=1e-5)
    assert ratio[0, 0] == pytest.approx(1.25, rel=0.01)


def test_bunched_landmarks_give_one_scale() -> None:
    aligned = align_depth(prediction(TRUTH * 0.8), *landmarks(200, region=0.2), FRAME)
    assert np.ptp(aligned.depth_m / TRUTH) < 1e-5


@pytest.mark.parametrize("n", [0, 4])
def test_too_few_landmarks_change_nothing(n: int) -> None:
    dense = prediction(TRUTH * 0.8)
    assert align_depth(dense, *landmarks(n), FRAME) is dense


def test_unusable_landmarks_are_ignored() -> None:
    dense = prediction(TRUTH * 0.8)
    pixels, depth = landmarks(20)
    outside = np.array([[-50.0, 10], [np.nan, 3], [700, 700], [10, 10], [20, 20], [30, 30]])
    assert align_depth(dense, outside, np.array([1, 1, 1, np.nan, -1, 0.0]), FRAME) is dense
    holes = replace(dense, depth_m=np.zeros_like(dense.depth_m), sigma_m=np.full_like(dense.sigma_m, np.inf))
    assert align_depth(holes, pixels, depth, FRAME) is holes


def test_missing_pixels_stay_missing_and_finite() -> None:
    depth = TRUTH * 0.8
    depth[:30] = 0
    aligned = align_depth(prediction(depth), *landmarks(200), FRAME)
    assert (aligned.depth_m[:30] == 0).all()
    assert (aligned.points_cam[:30] == 0).all()
    assert np.isinf(aligned.sigma_m[:30]).all()
    assert np.isfinite(aligned.sigma_m[30:]).all()


def test_sigma_scales_with_depth_and_follows_the_residuals() -> None:
    pixels, depth = landmarks(400)
    noise = np.random.default_rng(2).normal(1, 0.1, 400)
    wrong = prediction(TRUTH * 0.5, sigma_m=0.01)
    quiet = align_depth(wrong, pixels, depth, FRAME)
    loud = align_depth(wrong, pixels, depth * noise, FRAME)
    assert np.median(loud.sigma_m) > 2.5 * np.median(quiet.sigma_m)
    honest = prediction(TRUTH * 0.5, sigma_m=0.05)
    same = align_depth(honest, *landmarks(8), FRAME, AlignmentConfig(landmark_sigma=1e-6))
    assert 0.5 * 2 * 0.05 < np.median(same.sigma_m) <= 2 * 0.05 * 1.01


def test_alignment_of_aligned_depth_changes_little() -> None:
    pixels, depth = landmarks(300)
    once = align_depth(prediction(TRUTH * 0.8), pixels, depth, FRAME)
    twice = align_depth(once, pixels, depth, FRAME)
    assert np.abs(twice.depth_m / once.depth_m - 1).max() < 0.01


def test_mismatched_landmarks_are_refused() -> None:
    with pytest.raises(ShapeError, match="landmark"):
        align_depth(prediction(TRUTH), np.zeros((3, 2)), np.ones(4), CAMERA)
