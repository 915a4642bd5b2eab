"""Front ends with known faults on a looping path: drift, biased scale, wrong confidences; and loops, true and wrong."""


import numpy as np
from scipy.spatial.transform import Rotation

from remov3r.backends.pose_graph_types import Edge
from remov3r.geometry import inverse


def ring(count: int, laps: float = 1.0, radius_m: float = 2.0) -> np.ndarray:
    """Poses along a circle that undulates and looks along its tangent; the world is the first of them."""
    a = np.linspace(0, 2 * np.pi * laps, count, endpoint=False)
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = Rotation.from_euler("yx", np.stack([-a, 0.2 * np.sin(2 * a)], 1)).as_matrix()
    T[:, :3, 3] = np.stack([radius_m * np.cos(a), 0.2 * np.sin(3 * a), radius_m * np.sin(a)], 1)
    return np.asarray(inverse(T[0]) @ T)


def small_motion(random: np.random.Generator, sigma_rad: float, sigma_m: float) -> np.ndarray:
    """A pose near the identity."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(random.normal(size=3) * sigma_rad).as_matrix()
    T[:3, 3] = random.normal(size=3) * sigma_m
    return T


def covariance(sigma_rad: float, sigma_m: float) -> np.ndarray:
    """Of such a motion."""
    return np.diag([sigma_rad**2] * 3 + [sigma_m**2] * 3)


def odometry(truth: np.ndarray, random: np.random.Generator, sigma_rad: float, sigma_m: float) -> list[Edge]:
    """Noisy transforms from each pose to the next."""
    return [
        Edge(
            i,
            i + 1,
            inverse(truth[i]) @ truth[i + 1] @ small_motion(random, sigma_rad, sigma_m),
            covariance(sigma_rad, sigma_m),
        )
        for i in range(len(truth) - 1)
    ]


def chained(edges: list[Edge]) -> np.ndarray:
    """The poses that odometry alone gives."""
    T = [np.eye(4)]
    for edge in edges:
        T.append(T[-1] @ edge.T_from_to)
    return np.stack(T)


def loops(
    truth: np.ndarray,
    pairs: list[tuple[int, int]],
    random: np.random.Generator,
    sigma_rad: float,
    sigma_m: float,
    wrong: int = 0,
) -> list[Edge]:
    """Noisy transforms between the pairs; the first `wrong` of them are anything."""
    out = []
    for n, (a, b) in enumerate(pairs):
        T = inverse(truth[a]) @ truth[b] @ small_motion(random, sigma_rad, sigma_m)
        if n < wrong:
            T = T @ small_motion(random, 0.7, 2.0)
        out.append(Edge(a, b, T, covariance(sigma_rad, sigma_m)))
    return out


def ate(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square distance of the positions; both have the same first pose."""
    return float(np.sqrt(((estimate[:, :3, 3] - truth[:, :3, 3]) ** 2).sum(1).mean()))
