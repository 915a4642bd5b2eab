"""The loops of bundle adjustment: k cameras with intrinsics (fx, fy, cx, cy), l points, m observations."""

from __future__ import annotations

import math

import numpy as np

from remov3r.backends.compiled import compiled
from remov3r.backends.pose_kernels import NEAREST_M, huber_weight


@compiled
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


@compiled
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


@compiled
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


@compiled
def _invert_damped(D: np.ndarray, damping: float, inverse: np.ndarray) -> None:
    """Write the inverse of a symmetric 3 3 whose diagonal is raised by a share."""
    a, c, f = D[0, 0], D[1, 1], D[2, 2]
    a, c, f = a + damping * a + 1e-9, c + damping * c + 1e-9, f + damping * f + 1e-9
    d, e, g = D[0, 1], D[0, 2], D[1, 2]
    i00, i01, i02 = c * f - g * g, e * g - d * f, d * g - c * e
    i11, i12, i22 = a * f - e * e, d * e - a * g, a * c - d * d
    determinant = a * i00 + d * i01 + e * i02
    inverse[0, 0], inverse[1, 1], inverse[2, 2] = i00 / determinant, i11 / determinant, i22 / determinant
    inverse[0, 1] = inverse[1, 0] = i01 / determinant
    inverse[0, 2] = inverse[2, 0] = i02 / determinant
    inverse[1, 2] = inverse[2, 1] = i12 / determinant


@compiled
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
        inverse = inverses[p]
        _invert_damped(D[p], damping, inverse)
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
