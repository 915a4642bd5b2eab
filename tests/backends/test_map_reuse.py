"""Finding landmarks again, on images of the textured room."""

import numpy as np
import pytest

from remov3r.backends.depth_sampling import sample_depth
from remov3r.backends.features import Describer, FeatureConfig, detect_corners, to_gray
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.map_reuse import (
    MapReuseConfig,
    covisible_keyframes,
    relocalise,
    reobserve,
    thumbnail,
)
from remov3r.backends.pose_solver import PoseSolverConfig, reproject
from remov3r.geometry import inverse, se3_exp, transform
from tests.backends.room import CAMERA, pose, prediction, room_depth
from tests.backends.textured_room import render

FEATURES, CONFIG, POSE = FeatureConfig(corners=150), MapReuseConfig(), PoseSolverConfig()
VIEWS = [pose(0.0, yaw=0.6), pose(0.2, yaw=2.2), pose(-0.3, yaw=-0.8)]


def features(T_world_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Grey image, corners, descriptors and exact depth of a view."""
    gray = to_gray(render(T_world_cam))
    pixels = detect_corners(gray, np.empty((0, 2)), FEATURES)
    depth, _ = sample_depth(prediction(room_depth(T_world_cam)), pixels, CAMERA)
    return gray, pixels, Describer(FEATURES).describe(gray, pixels), depth


@pytest.fixture(scope="module")
def room_map() -> LandmarkMap:
    """A map of three keyframes that look at different walls, landmarks in their exact places."""
    landmark_map = LandmarkMap(CAMERA)
    for i, T in enumerate(VIEWS):
        gray, pixels, descriptors, depth = features(T)
        rays = np.stack(
            [
                (pixels[:, 0] - CAMERA.cx) / CAMERA.fx,
                (pixels[:, 1] - CAMERA.cy) / CAMERA.fy,
                np.ones(len(pixels)),
            ],
            1,
        )
        ids = landmark_map.add_landmarks(transform(T, rays * depth[:, None]), i, np.full(len(pixels), 0.02))
        landmark_map.add_keyframe(
            i, T, ids, pixels, depth, 0.01 * depth, descriptors, thumbnail(gray), 0.01, 0
        )
    return landmark_map


def test_a_drifted_view_finds_the_old_landmarks_and_its_pose(room_map: LandmarkMap) -> None:
    truth = VIEWS[0] @ se3_exp(np.array([0.08, 0.02, 0.05, 0.02, 0.03, 0.0]))
    _, pixels, descriptors, _ = features(truth)
    drifted = truth @ se3_exp(np.array([0.05, 0.02, -0.03, 0.02, 0.02, 0.02]))
    found = reobserve(room_map, 0, drifted, pixels, descriptors, 2.0, CONFIG, POSE)
    assert found is not None
    assert len(found.rows) >= CONFIG.min_inliers
    assert np.linalg.norm((inverse(truth) @ found.T_world_cam)[:3, 3]) < 0.05
    where = reproject(truth, room_map.points[found.landmarks], CAMERA)[0]
    assert np.median(np.linalg.norm(where - pixels[found.rows], axis=1)) < 1.5


def test_a_correction_that_is_too_large_is_refused(room_map: LandmarkMap) -> None:
    _, pixels, descriptors, _ = features(VIEWS[0])
    strict = CONFIG.model_copy(update={"max_correction_m": 0.02})
    drifted = VIEWS[0] @ se3_exp(np.array([0.1, 0, 0, 0, 0, 0]))
    assert reobserve(room_map, 0, drifted, pixels, descriptors, 2.0, strict, POSE) is None


def test_another_wall_is_not_taken_for_this_one(room_map: LandmarkMap) -> None:
    _, pixels, descriptors, _ = features(VIEWS[1])
    assert reobserve(room_map, 0, VIEWS[0], pixels, descriptors, 2.0, CONFIG, POSE) is None


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_view_is_found_from_its_looks(room_map: LandmarkMap, place: int) -> None:
    truth = VIEWS[place] @ se3_exp(np.array([0.05, -0.03, 0.05, 0.02, -0.03, 0.02]))
    gray, pixels, descriptors, _ = features(truth)
    found = relocalise(room_map, [0, 1, 2], thumbnail(gray), pixels, descriptors, CONFIG, POSE)
    assert found is not None
    assert found.place == place
    assert np.linalg.norm((inverse(truth) @ found.T_world_cam)[:3, 3]) < 0.02


def test_an_unknown_view_is_not_found(room_map: LandmarkMap) -> None:
    gray, pixels, descriptors, _ = features(pose(0.0, 0.0, 1.5, yaw=3.8))
    assert relocalise(room_map, [0, 1, 2], thumbnail(gray), pixels, descriptors, CONFIG, POSE) is None
    assert relocalise(room_map, [], thumbnail(gray), pixels, descriptors, CONFIG, POSE) is None


def test_candidates_look_the_same_way_from_nearby(room_map: LandmarkMap) -> None:
    near = VIEWS[0] @ se3_exp(np.array([0.1, 0, 0, 0, 0.1, 0]))
    assert covisible_keyframes(room_map, near, set(), 0, 2.0, CONFIG) == [0]
    assert covisible_keyframes(room_map, near, {0}, 0, 2.0, CONFIG) == []
    assert covisible_keyframes(room_map, near, set(), 1, 2.0, CONFIG) == []


def test_thumbnail_ignores_brightness_and_contrast() -> None:
    gray = to_gray(render(VIEWS[0]))
    assert thumbnail(gray) @ thumbnail((gray // 2 + 30).astype(np.uint8)) > 0.99
    assert np.array_equal(thumbnail(np.full_like(gray, 7)), np.zeros(32 * 24))
