"""Bundle adjustment on worlds whose answer is known."""

from dataclasses import replace

import numpy as np

from remov3r.backends.bundle_solver import solve_bundle
from remov3r.backends.bundle_terms import BundleProblem, BundleSolverConfig
from remov3r.backends.pose_solver import reproject
from remov3r.camera import Camera
from remov3r.geometry import se3_exp

CAMERA = Camera(640, 480, 500.0, 500.0, 320.0, 240.0)
CONFIG = BundleSolverConfig(iterations=50, relative_tolerance=1e-9)


def world(cameras: int = 6, points: int = 60) -> BundleProblem:
    """Cameras along a line looking at points, all seen by all, exact; the first camera is held."""
    rng = np.random.default_rng(0)
    T = np.stack([se3_exp(np.array([0.1 * i, 0.02 * i, 0, 0, -0.03 * i, 0])) for i in range(cameras)])
    P = np.stack([rng.uniform(-1, 1, points), rng.uniform(-0.8, 0.8, points), rng.uniform(2, 4, points)], 1)
    obs_camera, obs_point = (
        a.ravel() for a in np.meshgrid(np.arange(cameras), np.arange(points), indexing="ij")
    )
    pixel = np.concatenate([reproject(t, P, CAMERA)[0] for t in T])
    distance = np.linalg.norm(P[obs_point] - T[obs_camera, :3, 3], axis=1)
    held = np.arange(cameras) == 0
    return BundleProblem(CAMERA, T, held, P, obs_camera, obs_point, pixel, distance, 0.05 * distance)


def perturbed(problem: BundleProblem, scale: float = 1.0) -> BundleProblem:
    """Cameras off by centimetres and degrees, points by decimetres, everything too large by `scale`."""
    rng = np.random.default_rng(1)
    T = problem.T_world_cam @ se3_exp(rng.normal(size=(len(problem.T_world_cam), 6)) * 0.02)
    T[problem.held] = problem.T_world_cam[problem.held]
    T[:, :3, 3] *= scale
    noisy = problem.points * scale + rng.normal(size=problem.points.shape) * 0.05
    return replace(problem, T_world_cam=T, points=noisy)


def test_perturbed_cameras_and_points_come_back() -> None:
    truth = world()
    solution = solve_bundle(perturbed(truth), CONFIG)
    assert solution is not None
    assert solution.final_error < 1e-3 * solution.initial_error
    assert np.abs(solution.T_world_cam - truth.T_world_cam).max() < 1e-3
    assert np.abs(solution.points - truth.points).max() < 1e-2


def test_ranges_set_the_scale() -> None:
    truth = world()
    solution = solve_bundle(perturbed(truth, 1.3), CONFIG)
    assert solution is not None
    length = np.linalg.norm(solution.T_world_cam[-1, :3, 3]) / np.linalg.norm(truth.T_world_cam[-1, :3, 3])
    assert abs(length - 1) < 0.01


def test_without_ranges_the_shape_comes_back_and_the_scale_stays_free() -> None:
    truth = world()
    none = np.full(len(truth.obs_camera), np.nan)
    solution = solve_bundle(replace(perturbed(truth), obs_range_m=none, obs_range_sigma_m=none), CONFIG)
    assert solution is not None
    length = np.linalg.norm(solution.T_world_cam[:, :3, 3], axis=1)[1:]
    expected = np.linalg.norm(truth.T_world_cam[:, :3, 3], axis=1)[1:]
    assert np.ptp(length / expected) < 0.01


def test_a_few_wrong_observations_do_little_harm() -> None:
    truth = world()
    pixel = truth.obs_pixel.copy()
    pixel[::25] += 40
    solution = solve_bundle(replace(perturbed(truth), obs_pixel=pixel), CONFIG)
    assert solution is not None
    assert np.abs(solution.T_world_cam - truth.T_world_cam).max() < 0.02


def test_the_error_never_grows() -> None:
    for iterations in (1, 2, 5):
        config = CONFIG.model_copy(update={"iterations": iterations})
        solution = solve_bundle(perturbed(world(), 2.0), config)
        assert solution is None or solution.final_error <= solution.initial_error


def test_held_cameras_stay() -> None:
    truth = perturbed(world())
    held = np.array([True, False, True, False, False, False])
    solution = solve_bundle(replace(truth, held=held), CONFIG)
    assert solution is not None
    assert np.abs(solution.T_world_cam[held] - truth.T_world_cam[held]).max() < 2e-3


def test_values_that_are_not_finite_give_nothing() -> None:
    truth = world()
    points = truth.points.copy()
    points[3] = np.nan
    assert solve_bundle(replace(truth, points=points), CONFIG) is None
