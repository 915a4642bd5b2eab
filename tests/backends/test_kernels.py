"""The compiled loops against numpy written out, and against derivatives taken by differences."""

import numpy as np

from remov3r.backends.bundle_kernels import bundle_cost, bundle_normal, eliminate_points
from remov3r.backends.pose_kernels import moved_pose, pose_normal, solve_damped, tidied_pose
from remov3r.geometry import project_to_se3

CAMERA = (500.0, 510.0, 320.0, 240.0)
QUADRATIC = 1e9  # a Huber limit that nothing reaches


def _scene(seed: int, cameras: int = 3, points: int = 12) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    T = np.stack([moved_pose(np.eye(4), rng.normal(0, 0.05, 6)) for _ in range(cameras)])
    P = rng.uniform([-1, -1, 2], [1, 1, 4], (points, 3))
    camera, point = (a.ravel() for a in np.meshgrid(np.arange(cameras), np.arange(points), indexing="ij"))
    local = np.einsum("mji,mj->mi", T[camera, :3, :3], P[point] - T[camera, :3, 3])
    pixels = local[:, :2] / local[:, 2:] * CAMERA[:2] + CAMERA[2:] + rng.normal(0, 1, (len(local), 2))
    ranges = np.stack(
        [np.linalg.norm(local, axis=1) + rng.normal(0, 0.05, len(local)), np.full(len(local), 0.1)], 1
    )
    ranges[::3] = np.nan
    return T, P, camera, point, pixels, ranges


def test_damped_solution_is_numpys_and_refuses_what_is_not_positive() -> None:
    A = np.random.default_rng(0).normal(size=(6, 6))
    H, b = A @ A.T + np.eye(6), A[0]
    assert np.allclose(solve_damped(H, b, 0.5), np.linalg.solve(H + 0.5 * np.diag(np.diag(H)), b))
    assert np.isnan(solve_damped(-H, b, 0.0)).all()


def test_a_pose_is_tidied_to_the_nearest_rotation() -> None:
    rng = np.random.default_rng(1)
    T = moved_pose(np.eye(4), rng.normal(size=6))
    T[:3, :3] += rng.normal(0, 0.01, (3, 3))
    assert np.allclose(tidied_pose(T), project_to_se3(T), atol=1e-12)


def test_gradient_of_a_pose_is_that_of_its_cost() -> None:
    T, P, camera, _, pixels, ranges = _scene(2)
    rows, spread, depths = camera == 0, 0.02 * P, ranges[camera == 0] + [[0.0, 0.0]]
    terms = P, spread, pixels[rows], depths, CAMERA, 0.25, 3.0
    _, b, _ = pose_normal(T[0], *terms)
    step = 1e-6
    for i in range(6):
        d = np.eye(6)[i] * step
        up, down = (pose_normal(moved_pose(T[0], s * d), *terms)[2] for s in (1, -1))
        # The whitening turns with the pose; its own derivative is left out of the equations.
        assert abs((up - down) / (2 * step) - b[i]) < 0.02 * np.abs(b).max()


def test_normal_equations_of_a_bundle_are_derivatives_of_its_cost() -> None:
    T, P, camera, point, pixels, ranges = _scene(3)
    observed = camera, point, pixels, ranges, CAMERA, 1.0, 1.5, 1.5
    _, _, _, b_camera, b_point = bundle_normal(T, P, *observed)
    step = 1e-6

    def cost(T: np.ndarray, P: np.ndarray) -> float:
        return bundle_cost(1e4, T, P, *observed)

    for i in range(6):
        moved = [
            np.concatenate([T[:1], moved_pose(T[1], s * step * np.eye(6)[i])[None], T[2:]]) for s in (1, -1)
        ]
        slope = (cost(moved[0], P) - cost(moved[1], P)) / (2 * step)
        assert np.isclose(-slope, b_camera[1, i], rtol=1e-4, atol=1e-2)
    for i in range(3):
        shift = np.zeros_like(P)
        shift[5, i] = step
        slope = (cost(T, P + shift) - cost(T, P - shift)) / (2 * step)
        assert np.isclose(-slope, b_point[5, i], rtol=1e-4, atol=1e-2)


def test_points_behind_a_camera_cost_and_do_not_pull() -> None:
    T, P, camera, point, pixels, ranges = _scene(4, cameras=1, points=1)
    P[0, 2] = -3.0
    observed = camera, point, pixels, np.full_like(ranges, np.nan), CAMERA, 1.0
    assert bundle_cost(100.0, T, P, *observed, 1.5, 1.5) == 1.5 * (100 - 0.75)
    assert all((x == 0).all() for x in bundle_normal(T, P, *observed, 1.5, 1.5))


def test_eliminating_points_gives_the_schur_complement() -> None:
    T, P, camera, point, pixels, ranges = _scene(5)
    C, D, W, b_camera, b_point = bundle_normal(
        T, P, camera, point, pixels, ranges, CAMERA, 1.0, QUADRATIC, QUADRATIC
    )
    free, size, damping = np.array([-1, 0, 1]), 2, 0.1
    S, b = np.zeros((6 * size, 6 * size)), b_camera[1:].ravel().copy()
    for k in range(size):
        S[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] = C[k + 1]
    full_W = np.zeros((6 * size, 3 * len(P)))
    for m in np.flatnonzero(camera > 0).tolist():
        row, column = 6 * (camera[m] - 1), 3 * point[m]
        full_W[row : row + 6, column : column + 3] += W[m]
    D_damped = [d + damping * np.diag(np.diag(d)) + 1e-9 * np.eye(3) for d in D]
    inverse = np.linalg.inv(D_damped)
    full_inverse = np.zeros((3 * len(P), 3 * len(P)))
    for p, block in enumerate(inverse):
        full_inverse[3 * p : 3 * p + 3, 3 * p : 3 * p + 3] = block
    expected_S = S - full_W @ full_inverse @ full_W.T
    expected_b = b - full_W @ full_inverse @ b_point.ravel()
    order = np.argsort(point, kind="stable")
    D_inverse = eliminate_points(S, b, D, W, b_point, free[camera], point, order, damping)
    assert np.allclose(D_inverse, inverse)
    assert np.allclose(np.triu(S), np.triu(expected_S))
    assert np.allclose(b, expected_b)
