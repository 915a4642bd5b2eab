"""A box room with closed-form depth, for tests of fusion, alignment and rendering."""

import numpy as np

from remov3r.camera import Camera
from remov3r.geometry import pixel_rays, unproject
from remov3r.types import DensePrediction

CAMERA = Camera(160, 120, 130.0, 130.0, 79.5, 59.5)
# The room: x -1.5..1.5, y -1..1.2, z -0.5..2.5 (metres); cameras stand near the origin.
LOW, HIGH = np.array([-1.5, -1.0, -0.5]), np.array([1.5, 1.2, 2.5])


def room_depth(T_world_cam: np.ndarray, camera: Camera = CAMERA) -> np.ndarray:
    """Exact z-depth of the walls of the room seen from inside it."""
    directions = pixel_rays(camera) @ T_world_cam[:3, :3].T
    safe = np.where(np.abs(directions) < 1e-12, 1e-12, directions)
    walls = np.where(safe > 0, HIGH, LOW)
    return np.asarray(((walls - T_world_cam[:3, 3]) / safe).min(-1))


def wall_distance(points_m: np.ndarray) -> np.ndarray:
    """Distance of points near the walls from the nearest wall plane."""
    return np.minimum(np.abs(points_m - LOW), np.abs(points_m - HIGH)).min(1)


def sphere_depth(centre: np.ndarray, radius: float, T_world_cam: np.ndarray, camera: Camera) -> np.ndarray:
    """Exact z-depth of a sphere; 0 beside it."""
    rays = pixel_rays(camera)
    c = (centre - T_world_cam[:3, 3]) @ T_world_cam[:3, :3]
    a, b, k = (rays**2).sum(-1), rays @ c, c @ c - radius**2
    root = b**2 - a * k
    return np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, 0.0)


def prediction(depth_m: np.ndarray, camera: Camera = CAMERA, sigma_m: float = 0.02) -> DensePrediction:
    """Wrap a depth map with one sigma."""
    depth = depth_m.astype(np.float32)
    valid = depth > 0
    confidence = valid.astype(np.float32)
    return DensePrediction(
        camera=camera,
        depth_m=depth,
        depth_confidence=confidence,
        points_cam=unproject(depth, camera),
        points_confidence=confidence,
        sigma_m=np.where(valid, np.float32(sigma_m), np.float32(np.inf)),
    )


def pose(x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0, pitch: float = 0.0) -> np.ndarray:
    """A camera pose: position in metres, then yaw about y and pitch about x in radians."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    T = np.eye(4)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    T[:3, :3] = turn @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    T[:3, 3] = x, y, z
    return T
