"""Depth seen from another camera: planes have closed-form answers."""

import numpy as np

from remov3r.camera import Camera
from remov3r.data.registration import DepthRegistration
from remov3r.data.seven_scenes import COLOR_CAMERA, DEPTH_CAMERA, T_COLOR_DEPTH
from remov3r.geometry import inverse, pixel_rays

WIDE = Camera(160, 120, 100.0, 100.0, 79.5, 59.5)


def plane_depth(camera: Camera, n: np.ndarray, d: float) -> np.ndarray:
    """z-depth of the plane n·x = d."""
    return (d / (pixel_rays(camera) @ n)).astype(np.float32)


def test_same_camera_changes_nothing() -> None:
    depth = plane_depth(WIDE, np.array([0.2, 0.1, 1.0]), 2.0)
    depth[10:20, 30:40] = 0
    np.testing.assert_allclose(DepthRegistration(WIDE, WIDE, np.eye(4))(depth), depth, rtol=1e-6)


def test_seven_scenes_plane_lands_where_the_colour_camera_sees_it() -> None:
    n_depth, d_depth = np.array([0.15, -0.1, 1.0]), 2.0
    registered = DepthRegistration(DEPTH_CAMERA, COLOR_CAMERA, T_COLOR_DEPTH)(
        plane_depth(DEPTH_CAMERA, n_depth, d_depth)
    )
    # The plane in the colour frame: n·(R^T (x - t)) = d.
    n_color = T_COLOR_DEPTH[:3, :3] @ n_depth
    expected = plane_depth(COLOR_CAMERA, n_color, d_depth + n_color @ T_COLOR_DEPTH[:3, 3])
    seen = registered > 0
    assert 0.7 < seen.mean() < 0.8, "f = 517 sees more than f = 585: about (517/585)^2 has depth"
    assert seen[60:420, 60:540].all(), "no holes inside"
    error = np.abs(registered - expected)[seen]
    assert error.max() < 0.003, "half a pixel on a slanted plane"


def test_the_nearer_surface_hides_the_farther() -> None:
    depth = np.full((120, 160), 3.0, np.float32)
    depth[40:80, 60:100] = 1.0
    T = np.eye(4)
    T[0, 3] = 0.1  # the target camera lies 10 cm to the left: near things move right by 10 px, far by 3.3
    registered = DepthRegistration(WIDE, WIDE, T)(depth)
    assert (registered[40:80, 70:110] == 1.0).all()
    assert (registered[40:80, 64:70] == 0.0).all(), "uncovered background is missing, not made up"
    assert (registered[40:80, 112:] == 3.0).all()


def test_points_behind_and_outside_are_dropped() -> None:
    T = np.eye(4)
    T[2, 3] = -5.0
    assert not DepthRegistration(WIDE, WIDE, T)(np.full((120, 160), 2.0, np.float32)).any()
    assert not DepthRegistration(WIDE, WIDE, np.eye(4))(np.zeros((120, 160), np.float32)).any()


def test_there_and_back() -> None:
    depth = plane_depth(WIDE, np.array([0.0, 0.1, 1.0]), 1.5)
    T = np.eye(4)
    T[:3, 3] = [0.05, 0.0, 0.02]
    back = DepthRegistration(WIDE, WIDE, inverse(T))(DepthRegistration(WIDE, WIDE, T)(depth))
    both = back > 0
    assert both.mean() > 0.8
    np.testing.assert_allclose(back[both], depth[both], atol=0.004)
