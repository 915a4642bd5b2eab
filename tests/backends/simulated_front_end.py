"""A looping path, noisy transforms along it, and loops, true and wrong."""

import numpy as np
from scipy.spatial.transform import Rotation

from remov3r.backends.pose_graph_types import Edge
from remov3r.frontends.simulated import random_motion
from remov3r.geometry import inverse
from remov3r.types import Frame, PoseKind, RelativePose
from tests.backends.room import CAMERA


def ring(count: int, laps: float = 1.0, radius_m: float = 2.0) -> np.ndarray:
    """Poses along a circle that undulates and looks along its tangent; the world is the first of them."""
    a = np.linspace(0, 2 * np.pi * laps, count, endpoint=False)
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = Rotation.from_euler("yx", np.stack([-a, 0.2 * np.sin(2 * a)], 1)).as_matrix()
    T[:, :3, 3] = np.stack([radius_m * np.cos(a), 0.2 * np.sin(3 * a), radius_m * np.sin(a)], 1)
    return np.asarray(inverse(T[0]) @ T)


def covariance(sigma_rad: float, sigma_m: float) -> np.ndarray:
    """Of such a motion."""
    return np.diag([sigma_rad**2] * 3 + [sigma_m**2] * 3)


def odometry(truth: np.ndarray, random: np.random.Generator, sigma_rad: float, sigma_m: float) -> list[Edge]:
    """Noisy transforms from each pose to the next."""
    return [
        Edge(
            i,
            i + 1,
            inverse(truth[i]) @ truth[i + 1] @ random_motion(random, sigma_rad, sigma_m),
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
        T = inverse(truth[a]) @ truth[b] @ random_motion(random, sigma_rad, sigma_m)
        if n < wrong:
            T = T @ random_motion(random, 0.7, 2.0)
        out.append(Edge(a, b, T, covariance(sigma_rad, sigma_m)))
    return out


def ate(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square distance of the positions; both have the same first pose."""
    return float(np.sqrt(((estimate[:, :3, 3] - truth[:, :3, 3]) ** 2).sum(1).mean()))


class SimulatedLoops:
    """Finds keyframes near the new one by their true poses; some of what it says is wrong."""

    def __init__(
        self,
        truth: np.ndarray,
        random: np.random.Generator,
        wrong_share: float = 0.0,
        scales: np.ndarray | None = None,
        skip: int = 5,
    ) -> None:
        self._truth, self._random, self._wrong_share, self._skip = truth, random, wrong_share, skip
        self._scales = np.ones(len(truth)) if scales is None else scales
        self._keys: list[int] = []

    def add(self, keyframe_index: int, gray: object, dense: object, descriptor: object) -> None:
        """Take in a keyframe."""
        self._keys.append(keyframe_index)

    def detect(self) -> tuple[RelativePose, ...]:
        """Return at most one loop from an older keyframe to the newest."""
        new, old = self._keys[-1], self._keys[: -self._skip]
        if not old:
            return ()
        gaps = np.linalg.norm(self._truth[old, :3, 3] - self._truth[new, :3, 3], axis=1)
        nearest = old[int(gaps.argmin())]
        wrong = self._random.random() < self._wrong_share
        if gaps.min() > 0.5 and not wrong:
            return ()
        T = inverse(self._truth[nearest]) @ self._truth[new]
        T[:3, 3] /= self._scales[nearest]
        T = T @ random_motion(self._random, 0.003, 0.006)
        if wrong:
            T = T @ random_motion(self._random, 0.7, 2.0)
        return (RelativePose(nearest, new, T, PoseKind.LOOP, covariance(0.003, 0.006), 50),)

    def relocalise(self, gray: object, descriptor: object) -> RelativePose | None:
        """Find nothing."""
        return None


def blank_frames(count: int) -> list[Frame]:
    """Images without anything to follow."""
    rgb = np.full((CAMERA.height, CAMERA.width, 3), 90, np.uint8)
    return [Frame(i, i / 30, rgb, CAMERA) for i in range(count)]
