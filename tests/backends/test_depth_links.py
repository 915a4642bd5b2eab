"""Alignment of two keyframes' depth: closed-form rooms."""

import numpy as np
import pytest

from remov3r.backends.depth_links import DepthLinkConfig, depth_link, surface_of
from remov3r.backends.landmark_map import KeyframeLink
from remov3r.camera import Camera
from remov3r.geometry import inverse, pixel_rays, rotation_angle_rad, se3_exp, unproject
from remov3r.types import DensePrediction

CAMERA = Camera(160, 120, 140.0, 140.0, 79.5, 59.5)
CONFIG = DepthLinkConfig()
WALLS = ((0, -1.2), (0, 1.3), (1, -1.0), (1, 1.1), (2, 2.5))  # axis and place of each
TRUE = se3_exp(np.array([0.06, -0.04, 0.1, 0.02, 0.05, -0.03]))
TRACKED = TRUE @ se3_exp(np.array([0.02, 0.015, -0.02, 0.02, -0.02, 0.01]))
LOOSE = np.diag([0.02**2] * 3 + [0.03**2] * 3)


def seen_from(T_world_cam: np.ndarray, walls: tuple[tuple[int, float], ...]) -> DensePrediction:
    """Depth of a room's walls from inside."""
    rays = pixel_rays(CAMERA) @ T_world_cam[:3, :3].T
    with np.errstate(divide="ignore"):
        hits = np.stack([(place - T_world_cam[axis, 3]) / rays[..., axis] for axis, place in walls])
    depth_m = np.where(hits > 0, hits, np.inf).min(0).astype(np.float32)
    depth_m[~(depth_m < 10)] = 0
    sigma_m = np.where(depth_m > 0, 0.003 * depth_m, np.inf).astype(np.float32)
    points = unproject(depth_m, CAMERA)
    return DensePrediction(CAMERA, depth_m, 1 / sigma_m, points, 1 / sigma_m, sigma_m)


def linked(walls: tuple[tuple[int, float], ...]) -> KeyframeLink:
    """The tracked motion with what the walls say of it."""
    before, this = (surface_of(seen_from(T, walls), CONFIG) for T in (np.eye(4), TRUE))
    return depth_link(before, this, KeyframeLink(TRACKED, LOOSE), CONFIG)


def test_a_room_gives_the_whole_motion() -> None:
    link = linked(WALLS)
    off = inverse(TRUE) @ link.T_before_this
    assert np.linalg.norm(off[:3, 3]) < 0.005  # 35 mm before
    assert rotation_angle_rad(off) < 0.003
    assert np.trace(link.covariance) < 0.1 * np.trace(LOOSE)


def test_a_single_wall_gives_tilt_and_distance_alone() -> None:
    link = linked(((2, 2.5),))
    off = inverse(TRUE) @ link.T_before_this
    before = inverse(TRUE) @ TRACKED
    assert np.arccos(off[2, 2]) < 0.1 * np.arccos(before[2, 2])
    sigma = np.sqrt(np.linalg.eigvalsh(link.covariance))
    assert sigma[-1] > 0.9 * 0.02  # along the wall nothing is known


@pytest.mark.parametrize("walls", [((0, -30.0),), ((2, 9.9),)])
def test_too_little_in_common_leaves_the_link_as_it_was(walls: tuple[tuple[int, float], ...]) -> None:
    before, this = surface_of(seen_from(np.eye(4), WALLS), CONFIG), surface_of(seen_from(TRUE, walls), CONFIG)
    link = KeyframeLink(TRACKED, LOOSE)
    assert depth_link(before, this, link, CONFIG) is link


def test_edges_have_no_surface() -> None:
    dense = seen_from(np.eye(4), ((2, 2.0),))
    dense.depth_m[:, 80:] = 3.0
    there = surface_of(dense, CONFIG).there
    assert there[20, 20]
    assert there[20, 60]
    assert not there[20, 39:41].any()
    assert not there[0].any()
