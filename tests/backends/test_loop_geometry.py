"""Transforms between two views of the textured box room."""

import numpy as np
import pytest

from remov3r.backends.features import Describer, FeatureConfig, to_gray
from remov3r.backends.loop_geometry import (
    LoopView,
    VerificationConfig,
    ViewTransform,
    measure_transform,
    view_features,
    view_with_depth,
)
from remov3r.camera import Camera
from remov3r.geometry import inverse, rotation_angle_rad
from tests.backends.room import pose, prediction, room_depth
from tests.backends.textured_room import render

CAMERA = Camera(320, 240, 260.0, 260.0, 159.5, 119.5)
FEATURES, CONFIG = FeatureConfig(), VerificationConfig()
DESCRIBER = Describer(FEATURES)
OLD = pose(0.0, yaw=0.6)


def view(T_world_cam: np.ndarray, depth_factor: float = 1.0, sigma_m: float = 0.01) -> LoopView:
    """A view with its exact depth, or a multiple of it."""
    pixels, descriptors = view_features(to_gray(render(T_world_cam, CAMERA)), FEATURES, DESCRIBER)
    dense = prediction(depth_factor * room_depth(T_world_cam, CAMERA), CAMERA, sigma_m)
    return view_with_depth(pixels, descriptors, dense, CAMERA)


def measured(old: LoopView, T_world_new: np.ndarray) -> ViewTransform | None:
    """Measure the transform to a view of the room."""
    new = view(T_world_new)
    return measure_transform(old, new.pixels, new.descriptors, CAMERA, CONFIG)


def roll(angle_rad: float) -> np.ndarray:
    """A turn about the optical axis."""
    T, (c, s) = np.eye(4), (np.cos(angle_rad), np.sin(angle_rad))
    T[:2, :2] = [[c, -s], [s, c]]
    return T


@pytest.mark.parametrize(
    "T_world_new",
    [pose(0.15, 0.05, 0.1, 0.65, 0.05), pose(0.0, yaw=0.9), pose(0.1, yaw=0.5) @ roll(0.25)],
    ids=["moved", "half_overlap", "rolled"],
)
def test_finds_the_transform_between_overlapping_views(T_world_new: np.ndarray) -> None:
    found = measured(view(OLD), T_world_new)
    assert found is not None
    gap = inverse(found.T_old_new) @ inverse(OLD) @ T_world_new
    assert np.linalg.norm(gap[:3, 3]) < 0.02
    assert rotation_angle_rad(gap) < np.radians(0.6)
    assert found.inliers >= CONFIG.min_inliers


def test_views_that_share_nothing_or_stand_on_their_head_give_none() -> None:
    old = view(OLD)
    assert measured(old, pose(0.0, yaw=0.6 + np.pi)) is None
    assert measured(old, OLD @ roll(np.pi)) is None
    assert measured(old, pose(0.0, yaw=0.6 + 1.05)) is None  # a sliver of 3 degrees is shared


def test_matches_on_a_spot_are_not_enough() -> None:
    old, new = view(OLD), view(pose(0.1, yaw=0.65))
    near = np.abs(old.pixels - [160, 120]).max(1) < 45
    spot = LoopView(
        old.pixels[near], old.descriptors[near], old.depth_m[near], old.sigma_m[near], old.scale_sigma
    )
    lenient = VerificationConfig(min_inliers=6, min_spread=0.0)
    strict = VerificationConfig(min_inliers=6)
    assert measure_transform(spot, new.pixels, new.descriptors, CAMERA, lenient) is not None
    assert measure_transform(spot, new.pixels, new.descriptors, CAMERA, strict) is None


def test_the_length_is_the_older_views_and_the_covariance_says_so() -> None:
    T_world_new = pose(0.25, yaw=0.65)
    exact = (inverse(OLD) @ T_world_new)[:3, 3]
    doubt = 0.2 * float(np.median(room_depth(OLD, CAMERA)))
    found = measured(view(OLD, 1.2, doubt), T_world_new)
    sure = measured(view(OLD, 1.0, 0.005), T_world_new)
    assert found is not None
    assert sure is not None
    length = float(np.linalg.norm(exact))
    assert np.linalg.norm(found.T_old_new[:3, 3]) / length == pytest.approx(1.2, abs=0.05)
    along = found.T_old_new[:3, :3].T @ exact / length
    deviation = np.sqrt(along @ found.covariance[3:, 3:] @ along)
    assert 0.8 * 0.2 * length < deviation < 2 * 0.2 * length
    assert np.sqrt(along @ sure.covariance[3:, 3:] @ along) < 0.3 * deviation


def test_a_tilted_depth_moves_the_pose_as_far_as_the_covariance_allows() -> None:
    T_world_new = pose(0.25, 0.05, yaw=0.65)
    old, new = view(OLD, sigma_m=0.2), view(T_world_new)
    tilt = 1 + 0.1 * (old.pixels[:, 0] - 159.5) / 160
    bent = LoopView(
        old.pixels, old.descriptors, (old.depth_m * tilt).astype(np.float32), old.sigma_m, old.scale_sigma
    )
    found = measure_transform(bent, new.pixels, new.descriptors, CAMERA, CONFIG)
    assert found is not None
    gap = inverse(found.T_old_new) @ inverse(OLD) @ T_world_new
    deviations = np.sqrt(np.diag(found.covariance)[3:])
    assert (np.abs(gap[:3, 3]) < 2 * deviations + 0.01).all()
