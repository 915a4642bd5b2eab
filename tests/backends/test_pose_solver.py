"""Pose from pixels of landmarks with known and doubtful depth."""

import numpy as np
import pytest

from remov3r.backends.pose_solver import (
    PoseSolverConfig,
    ransac_pose,
    refine_pose,
    reproject,
    reprojection_error,
    solve_pose,
)
from remov3r.camera import Camera
from remov3r.geometry import inverse, rotation_angle_rad, se3_exp

CAMERA = Camera(640, 480, 500.0, 510.0, 320.0, 240.0)
CONFIG = PoseSolverConfig()


def world(count: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points before a camera, its pose, and exact pixels."""
    rng = np.random.default_rng(seed)
    T = se3_exp(np.array([0.1, -0.05, 0.2, 0.05, -0.1, 0.02]))
    P = np.stack([rng.uniform(-1, 1, count), rng.uniform(-0.8, 0.8, count), rng.uniform(2, 4, count)], 1)
    points = P @ T[:3, :3].T + T[:3, 3]
    return points, T, reproject(T, points, CAMERA)[0]


def off(T: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Distance in metres and angle in radians."""
    E = inverse(truth) @ T
    return float(np.linalg.norm(E[:3, 3])), float(rotation_angle_rad(E))


def test_projection_of_a_known_point() -> None:
    pixels, P = reproject(np.eye(4), np.array([[0.5, 0.25, 2.0], [0.0, 0.0, -1.0]]), CAMERA)
    assert pixels[0] == pytest.approx([320 + 125, 240 + 63.75])
    assert (np.abs(pixels[1]) > 1000).all()
    assert P[1, 2] == -1


def test_exact_pixels_give_the_exact_pose() -> None:
    points, T, pixels = world()
    start = T @ se3_exp(np.array([0.1, 0.1, -0.1, 0.05, 0.05, 0.05]))
    found, covariance = refine_pose(start, points, np.zeros_like(points), pixels, CAMERA, CONFIG)
    metres, radians = off(found, T)
    assert metres < 1e-5
    assert radians < 1e-5
    assert np.allclose(covariance, covariance.T)
    assert (np.linalg.eigvalsh(covariance) > 0).all()


def test_covariance_predicts_the_scatter() -> None:
    points, T, pixels = world(100)
    rng = np.random.default_rng(1)
    steps = []
    for _ in range(60):
        noisy = pixels + rng.normal(size=pixels.shape) * CONFIG.sigma_px
        found, covariance = refine_pose(T, points, np.zeros_like(points), noisy, CAMERA, CONFIG)
        steps.append((inverse(T) @ found)[:3, 3])
    ratio = np.std(steps, axis=0) / np.sqrt(np.diag(covariance)[3:])
    assert (ratio > 0.7).all()
    assert (ratio < 1.4).all()


def test_outliers_are_found_even_from_a_bad_guess() -> None:
    points, T, pixels = world()
    rng = np.random.default_rng(2)
    wrong = rng.permutation(len(points))[:80]
    pixels = pixels.copy()
    pixels[wrong] += rng.uniform(20, 80, (80, 2))
    solution = solve_pose([np.eye(4)], points, np.zeros_like(points), pixels, CAMERA, CONFIG)
    assert solution is not None
    assert not solution.inliers[wrong].any()
    assert solution.inliers.sum() == 120
    assert off(solution.T_world_cam, T)[0] < 1e-4


def test_doubtful_depth_counts_across_the_line_of_sight_only() -> None:
    # The camera moves sideways; half of the points have 30 % wrong depths along their first line of sight.
    points, _, _ = world()
    T = np.eye(4)
    T[0, 3] = 0.3
    pixels = reproject(T, points, CAMERA)[0]
    biased = points.copy()
    biased[::2] *= 1.1
    spread = np.where(np.arange(len(points))[:, None] % 2 == 0, 0.15, 0.001) * biased
    doubtful, _ = refine_pose(T, biased, spread, pixels, CAMERA, CONFIG)
    trusting, _ = refine_pose(T, biased, np.zeros_like(points), pixels, CAMERA, CONFIG)
    assert off(doubtful, T)[0] < 0.3 * off(trusting, T)[0]


def test_measured_depth_tells_tilt_from_sidestep_before_a_wall() -> None:
    rng = np.random.default_rng(3)
    points = np.stack([rng.uniform(-0.3, 0.3, 80), rng.uniform(-0.3, 0.3, 80), np.full(80, 1.5)], 1)
    noisy = reproject(np.eye(4), points, CAMERA)[0] + rng.normal(size=(80, 2))
    depths = np.stack([1.5 + rng.normal(size=80) * 0.003, np.full(80, 0.003)], 1)
    depths[::5] = np.nan  # missing
    depths[1] = 0.7, 0.003  # wrong
    start, sure = se3_exp(np.array([0.02, 0, 0, 0, 0.02, 0])), np.zeros_like(points)
    by_pixels, wide = refine_pose(start, points, sure, noisy, CAMERA, CONFIG)
    by_both, narrow = refine_pose(start, points, sure, noisy, CAMERA, CONFIG, depths=depths)
    assert off(by_both, np.eye(4))[0] < 0.5 * off(by_pixels, np.eye(4))[0]
    assert off(by_both, np.eye(4))[1] < 0.5 * off(by_pixels, np.eye(4))[1]
    assert np.trace(narrow) < np.trace(wide)


def test_no_depth_at_all_changes_nothing() -> None:
    points, T, pixels = world()
    nothing = np.full((len(points), 2), np.nan)
    a = refine_pose(T, points, 0.01 * points, pixels, CAMERA, CONFIG)
    b = refine_pose(T, points, 0.01 * points, pixels, CAMERA, CONFIG, depths=nothing)
    assert np.array_equal(a[0], b[0])


@pytest.mark.parametrize("count", [0, 3, 5])
def test_too_few_points_are_no_pose(count: int) -> None:
    points, T, pixels = world(count)
    assert solve_pose([T], points, np.zeros_like(points), pixels, CAMERA, CONFIG) is None
    assert ransac_pose(points, pixels, CAMERA, 3.0, 100) is None


def test_points_on_one_spot_are_refused_or_finite() -> None:
    points, pixels = np.tile([[0.0, 0.0, 2.0]], (20, 1)), np.tile([[320.0, 240.0]], (20, 1))
    solution = solve_pose([np.eye(4)], points, np.zeros_like(points), pixels, CAMERA, CONFIG)
    assert solution is None or np.isfinite(solution.T_world_cam).all()


def test_ransac_repeats_itself() -> None:
    points, _, pixels = world()
    noisy = pixels + np.random.default_rng(3).normal(size=pixels.shape) * 3
    first, second = (ransac_pose(points, noisy, CAMERA, 3.0, 100) for _ in range(2))
    assert first is not None
    assert second is not None
    assert np.array_equal(first, second)
    assert np.median(reprojection_error(first, points, noisy, CAMERA)) < 10


def test_rounding_errors_of_predicted_poses_do_not_grow() -> None:
    points, T, pixels = world()
    last, now = T, T
    for _ in range(80):
        predicted = now @ inverse(last) @ now
        last, now = now, refine_pose(predicted, points, np.zeros_like(points), pixels, CAMERA, CONFIG)[0]
    assert np.abs(now[:3, :3] @ now[:3, :3].T - np.eye(3)).max() < 1e-12
