"""Inner loops over observations, compiled by Numba; the only place that imports it.

numpy needs a dozen passes over a few hundred points for each of these, most of the time spent on starting them.
Compiled once for a machine and kept in the folder of this file or, where that is read-only, in the user's cache.

Shapes: n points of one camera; k cameras, l points, m observations of a bundle. Cameras are (fx, fy, cx, cy).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

NEAREST_M = 1e-3  # points nearer than this to a camera's plane, or behind it, pull at nothing
ELSEWHERE_PX = 1e4  # where a point behind the camera is said to be seen


def _compiled(function: F) -> F:
    plain = inspect.unwrap(function)  # of what checks types at run time
    try:
        return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(plain))
    except RuntimeError:  # no folder to keep it in
        return cast(F, numba.njit(nogil=True, error_model="numpy")(plain))


@_compiled
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


@_compiled
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


@_compiled
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


@_compiled
def huber_weight(norm: float, limit: float) -> tuple[float, float]:
    """Return the weight and the cost of a residual under Huber's kernel."""
    if norm < limit:
        return 1.0, 0.5 * norm * norm
    return limit / norm, limit * (norm - 0.5 * limit)


@_compiled
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
            k = weight if row < 2 else weight_z
            for i in range(6):
                b[i] += k * J[row, i] * r[row]
                for j in range(i, 6):
                    H[i, j] += k * J[row, i] * J[row, j]
    for i in range(6):
        for j in range(i):
            H[i, j] = H[j, i]
    return H, b, cost


@_compiled
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


@_compiled
def _observed(
    T: np.ndarray, point: np.ndarray, camera: tuple[float, float, float, float]
) -> tuple[float, float, float, float, float]:
    """Return a point in a camera's frame, x y z, and its pixel, u v."""
    a, b, c = point[0] - T[0, 3], point[1] - T[1, 3], point[2] - T[2, 3]
    x = T[0, 0] * a + T[1, 0] * b + T[2, 0] * c
    y = T[0, 1] * a + T[1, 1] * b + T[2, 1] * c
    z = T[0, 2] * a + T[1, 2] * b + T[2, 2] * c
    w = 1 / max(z, NEAREST_M)
    return x, y, z, camera[0] * x * w + camera[2], camera[1] * y * w + camera[3]


@_compiled
def bundle_cost(
    behind: float,
    T: np.ndarray,
    points: np.ndarray,
    obs_camera: np.ndarray,
    obs_point: np.ndarray,
    pixels: np.ndarray,
    ranges: np.ndarray,
    camera: tuple[float, float, float, float],
    sigma_px: float,
    huber: float,
    range_huber: float,
) -> float:
    """Return the robust cost of a bundle's observations.

    Args:
        behind: residual, in standard deviations, of a point behind its camera.
        T: poses, k 4 4.
        pixels: m 2.
        ranges: distance from camera to point and its standard deviation, m 2; NaN where there is none.
    """
    cost = 0.0
    for m in range(len(obs_camera)):
        x, y, z, u, v = _observed(T[obs_camera[m]], points[obs_point[m]], camera)
        off = math.sqrt((u - pixels[m, 0]) ** 2 + (v - pixels[m, 1]) ** 2) / sigma_px
        cost += huber_weight(off if z > NEAREST_M else behind, huber)[1]
        if math.isfinite(ranges[m, 0]) and math.isfinite(ranges[m, 1]):
            off = abs(math.sqrt(x * x + y * y + z * z) - ranges[m, 0]) / ranges[m, 1]
            cost += huber_weight(off, range_huber)[1]
    return cost


@_compiled
def bundle_normal(
    T: np.ndarray,
    points: np.ndarray,
    obs_camera: np.ndarray,
    obs_point: np.ndarray,
    pixels: np.ndarray,
    ranges: np.ndarray,
    camera: tuple[float, float, float, float],
    sigma_px: float,
    huber: float,
    range_huber: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the normal equations of `bundle_cost`: cameras k 6 6, points l 3 3, between them m 6 3, k 6 and l 3."""
    C, D = np.zeros((len(T), 6, 6)), np.zeros((len(points), 3, 3))
    W = np.zeros((len(obs_camera), 6, 3))
    b_camera, b_point = np.zeros((len(T), 6)), np.zeros((len(points), 3))
    A, B, G = np.zeros(6), np.zeros(3), np.zeros((3, 3))
    for m in range(len(obs_camera)):
        k, p = obs_camera[m], obs_point[m]
        x, y, z, u, v = _observed(T[k], points[p], camera)
        if z <= NEAREST_M:
            continue
        w = 1 / z
        r0, r1, r2 = (u - pixels[m, 0]) / sigma_px, (v - pixels[m, 1]) / sigma_px, 0.0
        # By the point in the camera's frame: u, v, range.
        G[0, 0], G[0, 1], G[0, 2] = camera[0] * w / sigma_px, 0.0, -camera[0] * x * w * w / sigma_px
        G[1, 0], G[1, 1], G[1, 2] = 0.0, camera[1] * w / sigma_px, -camera[1] * y * w * w / sigma_px
        weight, weight_range = huber_weight(math.sqrt(r0 * r0 + r1 * r1), huber)[0], 0.0
        if math.isfinite(ranges[m, 0]) and math.isfinite(ranges[m, 1]):
            distance = math.sqrt(x * x + y * y + z * z)
            r2 = (distance - ranges[m, 0]) / ranges[m, 1]
            by = 1 / (distance * ranges[m, 1])
            G[2, 0], G[2, 1], G[2, 2] = x * by, y * by, z * by
            weight_range = huber_weight(abs(r2), range_huber)[0]
        for row in range(3):
            scale = weight if row < 2 else weight_range
            if scale == 0.0:
                continue
            r = r0 if row == 0 else (r1 if row == 1 else r2)
            gx, gy, gz = G[row, 0], G[row, 1], G[row, 2]
            # A small turn t of the camera moves the point in its frame by P x t, a step s by -s.
            A[0], A[1], A[2] = gy * z - gz * y, gz * x - gx * z, gx * y - gy * x
            A[3], A[4], A[5] = -gx, -gy, -gz
            for i in range(3):
                B[i] = gx * T[k, i, 0] + gy * T[k, i, 1] + gz * T[k, i, 2]
            for i in range(6):
                b_camera[k, i] -= scale * A[i] * r
                for j in range(6):
                    C[k, i, j] += scale * A[i] * A[j]
                for j in range(3):
                    W[m, i, j] += scale * A[i] * B[j]
            for i in range(3):
                b_point[p, i] -= scale * B[i] * r
                for j in range(3):
                    D[p, i, j] += scale * B[i] * B[j]
    return C, D, W, b_camera, b_point


@_compiled
def eliminate_points(
    S: np.ndarray,
    b: np.ndarray,
    D: np.ndarray,
    W: np.ndarray,
    b_point: np.ndarray,
    place: np.ndarray,
    obs_point: np.ndarray,
    order: np.ndarray,
    damping: float,
) -> np.ndarray:
    """Take the points out of the cameras' equations S, b (in place, upper half); return the points' inverses, l 3 3.

    Args:
        S, b: the equations of the free cameras, 6c 6c and 6c.
        place: of each observation's camera among the free ones, m; negative for one that is held.
        order: the observations sorted by their points.
    """
    inverses, Y = np.empty_like(D), np.empty((len(order), 6, 3))
    start = 0
    for p in range(len(D)):
        a, c, f = D[p, 0, 0], D[p, 1, 1], D[p, 2, 2]
        a, c, f = a + damping * a + 1e-9, c + damping * c + 1e-9, f + damping * f + 1e-9
        d, e, g = D[p, 0, 1], D[p, 0, 2], D[p, 1, 2]
        i00, i01, i02 = c * f - g * g, e * g - d * f, d * g - c * e
        i11, i12, i22 = a * f - e * e, d * e - a * g, a * c - d * d
        determinant = a * i00 + d * i01 + e * i02
        inverse = inverses[p]
        inverse[0, 0], inverse[1, 1], inverse[2, 2] = i00 / determinant, i11 / determinant, i22 / determinant
        inverse[0, 1] = inverse[1, 0] = i01 / determinant
        inverse[0, 2] = inverse[2, 0] = i02 / determinant
        inverse[1, 2] = inverse[2, 1] = i12 / determinant
        end = start
        while end < len(order) and obs_point[order[end]] == p:
            end += 1
        for n in range(start, end):
            m = order[n]
            if place[m] < 0:
                continue
            for i in range(6):
                for j in range(3):
                    Y[n, i, j] = (
                        W[m, i, 0] * inverse[0, j] + W[m, i, 1] * inverse[1, j] + W[m, i, 2] * inverse[2, j]
                    )
                b[6 * place[m] + i] -= (
                    Y[n, i, 0] * b_point[p, 0] + Y[n, i, 1] * b_point[p, 1] + Y[n, i, 2] * b_point[p, 2]
                )
        for n in range(start, end):
            row = 6 * place[order[n]]
            if row < 0:
                continue
            for other in range(start, end):
                m = order[other]
                column = 6 * place[m]
                if column < row:
                    continue
                for i in range(6):
                    y0, y1, y2 = Y[n, i, 0], Y[n, i, 1], Y[n, i, 2]
                    for j in range(6):
                        S[row + i, column + j] -= y0 * W[m, j, 0] + y1 * W[m, j, 1] + y2 * W[m, j, 2]
        start = end
    return inverses
