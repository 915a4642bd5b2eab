"""A small finished reconstruction, made by hand."""

from __future__ import annotations

import numpy as np

from remov3r.camera import Camera
from remov3r.geometry import se3_exp, unproject
from remov3r.types import (
    DensePrediction,
    Keyframe,
    Mesh,
    PointCloud,
    Reconstruction,
    StageTiming,
    Timings,
    TrackingState,
    Trajectory,
)

CAMERA = Camera(32, 24, 30.0, 30.0, 15.5, 11.5)


def trajectory(count: int = 12, seed: int = 0) -> Trajectory:
    """A random walk; every fourth pose is a keyframe, one frame is weak and two are lost."""
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.normal(0, 0.1, (count, 6)), axis=0)
    states = [TrackingState.OK] * count
    if count > 9:
        states[4], states[7], states[8] = TrackingState.WEAK, TrackingState.LOST, TrackingState.LOST
    return Trajectory(
        np.arange(count) * 2,
        1_300_000_000.125 + np.arange(count) / 15,
        se3_exp(steps),
        np.arange(count) % 4 == 0,
        tuple(states),
    )


def dense(seed: int = 0, camera: Camera = CAMERA) -> DensePrediction:
    """Smooth depth with a hole."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[: camera.height, : camera.width]
    depth = (1.5 + 0.02 * u + 0.01 * v + 0.01 * rng.random(u.shape)).astype(np.float32)
    depth[2:5, 3:7] = 0
    sigma = np.where(depth > 0, 0.02 * depth, np.inf).astype(np.float32)
    confidence = np.where(depth > 0, 3.0, 0.0).astype(np.float32)
    return DensePrediction(camera, depth, confidence, unproject(depth, camera), confidence, sigma)


def mesh() -> Mesh:
    """A square of two triangles, one metre wide, two metres ahead."""
    vertices = np.array([[-0.5, -0.5, 2], [0.5, -0.5, 2], [0.5, 0.5, 2], [-0.5, 0.5, 2]], np.float32)
    colors = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], np.float32)
    return Mesh(
        vertices, np.array([[0, 2, 1], [0, 3, 2]]), colors, np.tile(np.array([0, 0, -1], np.float32), (4, 1))
    )


def reconstruction(meshed: bool = True) -> Reconstruction:
    """Three keyframes, two trajectories, timings and notes."""
    path = trajectory()
    keys = path.keyframes()
    rng = np.random.default_rng(5)
    keyframes = tuple(
        Keyframe(
            int(keys.frame_index[k]),
            float(keys.timestamps_s[k]),
            np.full((24, 32, 3), rng.integers(0, 255, 3), np.uint8),
            keys.T_world_cam[k],
            dense(k),
            dense(k + 10),
        )
        for k in range(len(keys))
    )
    shape = mesh() if meshed else None
    cloud = PointCloud(shape.vertices_m, shape.colors, shape.normals) if shape else None
    timings = Timings(21.5, {"reading": StageTiming(1.0, 2.0, 12), "fusion": StageTiming(9.0, 9.5, 3)}, 512.0)
    notes = ("tracking lost in frames 14 to 16",) if meshed else ()
    return Reconstruction(path, trajectory(seed=1), keyframes, timings, shape, cloud, notes)
