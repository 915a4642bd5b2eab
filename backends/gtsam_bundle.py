"""Bundle adjustment by GTSAM: numpy in, numpy out. The only module that imports gtsam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field

from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.errors import MissingDependencyError
from remov3r.geometry import project_to_se3

try:
    import gtsam
except ImportError:  # pragma: no cover - depends on the installation; `require_gtsam` tells
    gtsam = None  # type: ignore[assignment]


def require_gtsam() -> None:
    """Make sure that the solver can run; configurations can be read without it.

    Raises:
        MissingDependencyError: gtsam is not installed.
    """
    if gtsam is None:
        raise MissingDependencyError(
            "the bundle backend needs gtsam: pip install 'remov3r[slam]', or run with --backend none"
        )


class BundleSolverConfig(Config):
    """One bundle adjustment; pixel figures are for a 640 pixel wide image and scale with the width."""

    sigma_px: float = Field(1.0, gt=0)
    huber: float = Field(1.5, gt=0)
    depth_huber: float = Field(1.5, gt=0)
    iterations: int = Field(5, ge=1)
    relative_tolerance: float = Field(1e-3, gt=0)
    held_rotation_rad: float = Field(1e-4, gt=0)
    held_translation_m: float = Field(1e-4, gt=0)


@dataclass(frozen=True)
class BundleProblem:
    """Cameras, points and what ties them.

    Attributes:
        held: cameras that must (nearly) stay where they are; there is at least one.
        obs_camera, obs_point: which camera saw which point, at `obs_pixel`.
        obs_range_m: measured distance from camera to point; NaN where there is none.
        obs_range_sigma_m: its standard deviation.
    """

    camera: Camera
    T_world_cam: Float[np.ndarray, "k 4 4"]
    held: Bool[np.ndarray, " k"]
    points: Float[np.ndarray, "l 3"]
    obs_camera: Int[np.ndarray, " m"]
    obs_point: Int[np.ndarray, " m"]
    obs_pixel: Float[np.ndarray, "m 2"]
    obs_range_m: Float[np.ndarray, " m"]
    obs_range_sigma_m: Float[np.ndarray, " m"]


@dataclass(frozen=True)
class BundleSolution:
    """The optimum, and the graph's error before and after."""

    T_world_cam: Float[np.ndarray, "k 4 4"]
    points: Float[np.ndarray, "l 3"]
    initial_error: float
    final_error: float


def solve_bundle(problem: BundleProblem, config: BundleSolverConfig) -> BundleSolution | None:
    """Adjust cameras and points to the observations with robust kernels (Levenberg-Marquardt).

    Returns:
        None when the optimiser fails or what it returns is not finite or not better: keep what you have.
    """
    graph, values = _graph(problem, config), _values(problem)
    parameters = gtsam.LevenbergMarquardtParams()
    parameters.setMaxIterations(config.iterations)
    parameters.setRelativeErrorTol(config.relative_tolerance)
    try:
        initial = graph.error(values)
        optimizer = gtsam.LevenbergMarquardtOptimizer(graph, values, parameters)
        result = optimizer.optimize()
        final = graph.error(result)
    except RuntimeError:  # an indeterminate system
        return None
    T = project_to_se3(np.stack([result.atPose3(i).matrix() for i in range(len(problem.T_world_cam))]))
    first = len(T)
    points = np.stack([result.atPoint3(first + i) for i in range(len(problem.points))])
    if not (np.isfinite(T).all() and np.isfinite(points).all() and final <= initial):
        return None
    return BundleSolution(T, points, float(initial), float(final))


def _values(problem: BundleProblem) -> gtsam.Values:
    """Cameras have the keys 0..k-1, points follow."""
    values = gtsam.Values()
    for i, T in enumerate(problem.T_world_cam):
        values.insert(i, gtsam.Pose3(T))
    first = len(problem.T_world_cam)
    for i, point in enumerate(problem.points):
        values.insertPoint3(first + i, point)
    return values


def _graph(problem: BundleProblem, config: BundleSolverConfig) -> gtsam.NonlinearFactorGraph:
    graph = gtsam.NonlinearFactorGraph()
    r, t = config.held_rotation_rad, config.held_translation_m
    hold = gtsam.noiseModel.Diagonal.Sigmas(np.array([r, r, r, t, t, t]))
    for i in np.flatnonzero(problem.held).tolist():
        graph.add(gtsam.PriorFactorPose3(i, gtsam.Pose3(problem.T_world_cam[i]), hold))
    c = problem.camera
    K = gtsam.Cal3_S2(c.fx, c.fy, 0.0, c.cx, c.cy)
    kernel = gtsam.noiseModel.mEstimator.Huber.Create(config.huber)
    sigma = config.sigma_px * max(c.width / 640, 0.4)
    noise = gtsam.noiseModel.Robust.Create(kernel, gtsam.noiseModel.Isotropic.Sigma(2, sigma))
    first = len(problem.T_world_cam)
    cameras, points = problem.obs_camera.tolist(), (problem.obs_point + first).tolist()
    for camera, point, pixel in zip(cameras, points, problem.obs_pixel):
        graph.add(gtsam.GenericProjectionFactorCal3_S2(pixel, noise, camera, point, K))
    _add_ranges(graph, problem, config, first)
    return graph


def _add_ranges(
    graph: gtsam.NonlinearFactorGraph, problem: BundleProblem, config: BundleSolverConfig, first: int
) -> None:
    """Ranges share a noise model per step of 10 % in sigma: making one for each costs more than using it."""
    rows = np.flatnonzero(np.isfinite(problem.obs_range_m) & np.isfinite(problem.obs_range_sigma_m))
    steps = np.rint(np.log(problem.obs_range_sigma_m[rows]) / 0.1).astype(int)
    kernel = gtsam.noiseModel.mEstimator.Huber.Create(config.depth_huber)
    models = {
        step: gtsam.noiseModel.Robust.Create(
            kernel, gtsam.noiseModel.Isotropic.Sigma(1, float(np.exp(0.1 * step)))
        )
        for step in np.unique(steps).tolist()
    }
    for row, step in zip(rows.tolist(), steps.tolist()):
        camera, point = int(problem.obs_camera[row]), first + int(problem.obs_point[row])
        graph.add(gtsam.RangeFactor3D(camera, point, float(problem.obs_range_m[row]), models[step]))
