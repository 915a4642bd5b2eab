"""Bundle adjustment in numpy: Levenberg-Marquardt on the cameras, points eliminated by their Schur complement."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from remov3r.backends.bundle_kernels import eliminate_points
from remov3r.backends.bundle_terms import (
    BundleProblem,
    BundleSolverConfig,
    Normal,
    linearised,
    total_cost,
)
from remov3r.geometry import project_to_se3


@dataclass(frozen=True)
class BundleSolution:
    """The optimum, and the robust cost before and after."""

    T_world_cam: Float[np.ndarray, "k 4 4"]
    points: Float[np.ndarray, "l 3"]
    initial_error: float
    final_error: float


@dataclass(frozen=True)
class _Reduced:
    """The cameras' normal equations, and what gives the points back: points = D^-1 (b - W^T cameras)."""

    S: Float[np.ndarray, "c c"]
    b: Float[np.ndarray, " c"]
    D_inverse: Float[np.ndarray, "l 3 3"]


def solve_bundle(problem: BundleProblem, config: BundleSolverConfig) -> BundleSolution | None:
    """Adjust cameras and points to the observations with robust kernels.

    Returns:
        None when the values are not finite: keep what you have. The cost never grows.
    """
    cost = initial = total_cost(problem, config)
    if not np.isfinite([initial, problem.points.sum(), problem.T_world_cam.sum()]).all():
        return None
    damping = 1e-5
    for _ in range(config.iterations):
        normal = linearised(problem, config)
        better, failures = None, 0
        while better is None and failures < 6:
            better = _step(problem, normal, damping)
            new_cost = np.inf if better is None else total_cost(better, config)
            if not new_cost < cost:
                better, failures, damping = None, failures + 1, damping * 10
        if better is None:
            break
        problem, gain, cost = better, cost - new_cost, new_cost
        damping = damping if failures else max(damping * 0.1, 1e-9)  # what has just failed is not tried again
        if gain < config.relative_tolerance * cost:
            break
    return BundleSolution(project_to_se3(problem.T_world_cam), problem.points, initial, cost)


def camera_covariances(
    problem: BundleProblem, config: BundleSolverConfig
) -> Float[np.ndarray, "k 6 6"] | None:
    """Return the marginal covariance of every camera at the optimum; zero for those that are held.

    Rotation first, then translation, in the camera's own frame, relative to the held cameras.

    Returns:
        None where the observations do not determine all cameras.
    """
    free = np.flatnonzero(~problem.held)
    out = np.zeros((len(problem.held), 6, 6))
    reduced = _reduced(problem, linearised(problem, config), 1e-9)
    try:
        full = cho_solve(cho_factor(reduced.S), np.eye(len(reduced.S)))
    except (LinAlgError, ValueError):
        return None
    for i, k in enumerate(free.tolist()):
        out[k] = full[6 * i : 6 * i + 6, 6 * i : 6 * i + 6]
    return out if np.isfinite(out).all() else None


def _step(problem: BundleProblem, normal: Normal, damping: float) -> BundleProblem | None:
    """One damped Gauss-Newton step; None where the equations have no solution."""
    reduced = _reduced(problem, normal, damping)
    try:
        cameras = cho_solve(cho_factor(reduced.S, overwrite_a=True), reduced.b)
    except (LinAlgError, ValueError):
        return None
    step = np.zeros((len(problem.held), 6))
    step[~problem.held] = cameras.reshape(-1, 6)
    told = np.einsum("mij,mi->mj", normal.W, step[problem.obs_camera])
    rest = normal.b_point - _summed(told, problem.obs_point, len(problem.points))
    points = problem.points + np.einsum("lij,lj->li", reduced.D_inverse, rest)
    return replace(problem, T_world_cam=_moved(problem.T_world_cam, step), points=points)


def _reduced(problem: BundleProblem, normal: Normal, damping: float) -> _Reduced:
    """Eliminate the points; only the upper half of S is right."""
    place = np.cumsum(~problem.held) - 1
    S, b = _cameras_alone(problem, normal, place)
    diagonal = np.arange(len(b))
    S[diagonal, diagonal] *= 1 + damping
    S[diagonal, diagonal] += 1e-9
    place[problem.held] = -1
    order = np.argsort(problem.obs_point, kind="stable")
    obs_point = np.ascontiguousarray(problem.obs_point, np.int64)
    D_inverse = eliminate_points(
        S, b, normal.D, normal.W, normal.b_point, place[problem.obs_camera], obs_point, order, damping
    )
    return _Reduced(S, b, D_inverse)


def _cameras_alone(
    problem: BundleProblem, normal: Normal, place: Int[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, "c c"], Float[np.ndarray, " c"]]:
    """Return the free cameras' own equations and those of the links."""
    free = ~problem.held
    size = int(free.sum())
    blocks, b = np.zeros((size, 6, size, 6)), normal.b_camera[free]
    diagonal = np.arange(size)
    blocks[diagonal, :, diagonal, :] = normal.C[free]
    links = normal.links
    if links is not None:
        both = free[links.row] & free[links.column]
        row, column = place[links.row[both]], place[links.column[both]]
        np.add.at(blocks.transpose(0, 2, 1, 3), (row, column), links.block[both])
        mine = free[links.camera]
        np.add.at(b, place[links.camera[mine]], links.b[mine])
    return blocks.reshape(6 * size, 6 * size), b.ravel()


def _summed(values: Float[np.ndarray, "m d"], index: Int[np.ndarray, " m"], size: int) -> np.ndarray:
    return np.stack([np.bincount(index, values[:, d], size) for d in range(values.shape[1])], 1)


def _moved(T: Float[np.ndarray, "k 4 4"], step: Float[np.ndarray, "k 6"]) -> Float[np.ndarray, "k 4 4"]:
    """Apply small motions (rotation, translation) in the cameras' own frames."""
    angle = np.linalg.norm(step[:, :3], axis=1)[:, None, None]
    K = _cross(step[:, :3])
    safe = np.maximum(angle, 1e-12)
    R = np.eye(3) + np.sin(safe) / safe * K + (1 - np.cos(safe)) / safe**2 * (K @ K)
    out = T.copy()
    out[:, :3, :3] = T[:, :3, :3] @ R
    out[:, :3, 3] += np.einsum("kij,kj->ki", T[:, :3, :3], step[:, 3:])
    return out


def _cross(w: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k 3 3"]:
    zero = np.zeros(len(w))
    x, y, z = w.T
    return np.stack([np.stack([zero, -z, y], 1), np.stack([z, zero, -x], 1), np.stack([-y, x, zero], 1)], 1)
