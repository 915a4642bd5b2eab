"""The loops of pose estimation: n points of one camera, whose intrinsics are (fx, fy, cx, cy)."""

from __future__ import annotations

import math

import numpy as np

from remov3r.backends.compiled import compiled

NEAREST_M = 1e-3  # points nearer than this to a camera's plane, or behind it, pull at nothing
ELSEWHERE_PX = 1e4  # where a point behind the camera is said to be seen


@compiled
def solve_damped(H: np.ndarray, b: np.ndarray, damping: float) -> np.ndarray:
    """Solve (H + damping diag(H) + 1e-9 I) x = b for a symmetric H; NaN where it is not positive definite."""
    n = len(b)
    L, x = H.copy(), b.copy()
    for i in range(n):
        L[i, i] += damping * L[i, i] + 1e-9
    for i in range(n):
        for j in range(i + 1):
            total = L[i, j]
            for a in range(j):
                total -= L[i, a] * L[j, a]
            L[i, j] = math.sqrt(total) if i == j and total > 0 else (np.nan if i == j else total / L[j, j])
    for i in range(n):
        for a in range(i):
            x[i] -= L[i, a] * x[a]
        x[i] /= L[i, i]
    for i in range(n - 1, -1, -1):
        for a in range(i + 1, n):
            x[i] -= L[a, i] * x[a]
        x[i] /= L[i, i]
    return x


@compiled
def moved_pose(T: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Apply a small motion (rotation vector, translation) in the camera's own frame to its pose, 4 4."""
    angle = math.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
    near = angle < 1e-6
    a = 1.0 if near else math.sin(angle) / angle
    b = 0.5 if near else (1 - math.cos(angle)) / angle**2
    K = np.array([[0.0, -step[2], step[1]], [step[2], 0.0, -step[0]], [-step[1], step[0], 0.0]])
    out = T.copy()
    for i in range(3):
        for j in range(3):
            total = T[i, j]
            for c in range(3):
                squared = K[c, 0] * K[0, j] + K[c, 1] * K[1, j] + K[c, 2] * K[2, j]
                total += T[i, c] * (a * K[c, j] + b * squared)
            out[i, j] = total
            out[i, 3] += T[i, j] * step[3 + j]
    return out


@compiled
def tidied_pose(T: np.ndarray) -> np.ndarray:
    """Move a pose whose rotation is off by rounding, or by percents, to the nearest one (Newton's iteration)."""
    out = T.copy()
    for _ in range(4):
        R = out[:3, :3].copy()
        for i in range(3):
            for j in range(3):
                total = 1.5 * R[i, j]
                for a in range(3):
                    total -= 0.5 * R[i, a] * (R[0, a] * R[0, j] + R[1, a] * R[1, j] + R[2, a] * R[2, j])
                out[i, j] = total
    return out


@compiled
def huber_weight(norm: float, limit: float) -> tuple[float, float]:
    """Return the weight and the cost of a residual under Huber's kernel."""
    if norm < limit:
        return 1.0, 0.5 * norm * norm
    return limit / norm, limit * (norm - 0.5 * limit)


@compiled
def _add_row(H: np.ndarray, b: np.ndarray, row: np.ndarray, residual: float, weight: float) -> None:
    """Add one weighted residual to the normal equations (upper half)."""
    for i in range(6):
        b[i] += weight * row[i] * residual
        for j in range(i, 6):
            H[i, j] += weight * row[i] * row[j]


@compiled
def pose_normal(
    T: np.ndarray,
    points: np.ndarray,
    spread: np.ndarray,
    pixels: np.ndarray,
    depths: np.ndarray,
    camera: tuple[float, float, float, float],
    variance: float,
    huber: float,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the normal equations of one camera's pose, 6 6 and 6 (rotation, translation), and the robust cost.

    A pixel's residual is whitened by the symmetric root of (variance I + g gᵀ)⁻¹, g being what the point's spread
    projects to.

    Args:
        spread: one standard deviation of each point, n 3, in the world frame.
        depths: z-depth and its standard deviation, n 2, NaN where there is none; 0 2 without any.
        variance: of a pixel.
    """
    H, b, cost = np.zeros((6, 6)), np.zeros(6), 0.0
    fx, fy, cx, cy = camera
    sigma = math.sqrt(variance)
    J, r, P, s = np.zeros((3, 6)), np.zeros(3), np.zeros(3), np.zeros(3)
    for n in range(len(points)):
        for i in range(3):
            P[i], s[i] = 0.0, 0.0
            for j in range(3):
                P[i] += T[j, i] * (points[n, j] - T[j, 3])
                s[i] += T[j, i] * spread[n, j]
        front = P[2] > NEAREST_M
        w = 1 / max(P[2], NEAREST_M)
        x, y = P[0] * w, P[1] * w
        e0 = (fx * x + cx if front else ELSEWHERE_PX) - pixels[n, 0]
        e1 = (fy * y + cy if front else ELSEWHERE_PX) - pixels[n, 1]
        g0, g1 = fx * (s[0] - x * s[2]) * w, fy * (s[1] - y * s[2]) * w
        length = max(g0 * g0 + g1 * g1, 1e-12)
        shrink = (1 - math.sqrt(variance / (variance + length))) / length
        J[0, 0], J[0, 1], J[0, 2], J[0, 3], J[0, 4], J[0, 5] = x * y, -(1 + x * x), y, -w, 0.0, x * w
        J[1, 0], J[1, 1], J[1, 2], J[1, 3], J[1, 4], J[1, 5] = 1 + y * y, -x * y, -x, 0.0, -w, y * w
        along = (g0 * e0 + g1 * e1) * shrink
        r[0], r[1] = (e0 - g0 * along) / sigma, (e1 - g1 * along) / sigma
        for c in range(6):
            u, v = fx * J[0, c], fy * J[1, c]
            along = (g0 * u + g1 * v) * shrink
            J[0, c], J[1, c] = (u - g0 * along) / sigma, (v - g1 * along) / sigma
        weight, part = huber_weight(math.sqrt(r[0] ** 2 + r[1] ** 2), huber)
        cost += part
        rows, weight_z = 2, 0.0
        if len(depths) and math.isfinite(depths[n, 0]) and math.isfinite(depths[n, 1]):
            sigma_z = math.sqrt(depths[n, 1] ** 2 + s[2] ** 2)
            r[2] = (P[2] - depths[n, 0]) / sigma_z
            J[2, 0], J[2, 1], J[2, 5] = -P[1] / sigma_z, P[0] / sigma_z, -1 / sigma_z
            weight_z, part = huber_weight(abs(r[2]), huber)
            cost, rows = cost + part, 3
        for row in range(rows):
            _add_row(H, b, J[row], r[row], weight if row < 2 else weight_z)
    for i in range(6):
        H[i, :i] = H[:i, i]
    return H, b, cost


@compiled
def minimised_pose(
    T_start: np.ndarray,
    points: np.ndarray,
    spread: np.ndarray,
    pixels: np.ndarray,
    depths: np.ndarray,
    camera: tuple[float, float, float, float],
    variance: float,
    huber: float,
    iterations: int,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower the cost of `pose_normal` by damped Gauss-Newton; return the best pose and the inverse of its H."""
    T = T_best = tidied_pose(T_start)
    H_best, b_best = np.eye(6), np.zeros(6)
    damping, cost = 1e-6, np.inf
    for _ in range(iterations):
        H, b, new_cost = pose_normal(T, points, spread, pixels, depths, camera, variance, huber)
        if new_cost <= cost:
            done = cost - new_cost < tolerance * cost
            T_best, H_best, b_best = T, H, b
            cost, damping = new_cost, max(damping * 0.1, 1e-9)
            if done:
                break
        else:
            damping *= 100
            if damping > 1e4:
                break
        T = moved_pose(T_best, -solve_damped(H_best, b_best, damping))
    covariance = np.empty((6, 6))
    for i in range(6):
        covariance[:, i] = solve_damped(H_best, np.eye(6)[i], 0.0)
    return tidied_pose(T_best), (covariance + covariance.T) / 2
