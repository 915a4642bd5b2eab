"""Landmarks are found again in keyframes that track and map reuse missed, where the images say so."""

import numpy as np
import pytest

from remov3r.backends.adjustment import AdjustmentConfig, adjust_all
from remov3r.backends.bundle import BundleBackend, BundleConfig
from remov3r.backends.covisibility import CovisibilityConfig, encoded_view, observe_covisible
from remov3r.backends.features import FeatureConfig, even_contrast, to_gray
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.map_reuse import MapReuseConfig
from remov3r.backends.pose_solver import reproject
from remov3r.backends.tracking import TrackerConfig
from remov3r.frontends.sensor import SensorFrontEnd
from remov3r.geometry import transform
from tests.backends.room import CAMERA
from tests.backends.textured_room import drive, frames, path, position_errors, relative

POSES = path(24)[::4]  # six keyframes
NEAR = TrackerConfig().near


def exact_map(blank: int | None = None) -> tuple[LandmarkMap, np.ndarray]:
    """Every keyframe has landmarks of its own on the walls, exact to the last bit, which no other has seen."""
    truth = relative(POSES)
    seen = frames(POSES)
    landmark_map = LandmarkMap(CAMERA)
    rng = np.random.default_rng(0)
    grid = np.stack(
        np.meshgrid(np.arange(16, CAMERA.width - 16, 16), np.arange(16, CAMERA.height - 16, 16)), -1
    )
    for place, (T, frame) in enumerate(zip(truth, seen)):
        pixels = grid.reshape(-1, 2) + rng.integers(-4, 5, (grid.size // 2, 2))
        assert frame.depth_m is not None
        z = frame.depth_m[pixels[:, 1], pixels[:, 0]].astype(float)
        rays = np.stack([(pixels[:, 0] - CAMERA.cx) / CAMERA.fx, (pixels[:, 1] - CAMERA.cy) / CAMERA.fy], 1)
        points = transform(T, np.concatenate([rays, np.ones((len(z), 1))], 1) * z[:, None])
        ids = landmark_map.add_landmarks(points, place, np.full(len(z), 0.01))
        image = np.zeros_like(frame.rgb) if place == blank else frame.rgb
        landmark_map.add_keyframe(
            10 * place, T, ids, pixels.astype(float), z, 0.01 * z, np.zeros((len(z), 128), np.uint8), np.zeros(4),
            0.1, 0, view=encoded_view(even_contrast(to_gray(image))),
        )  # fmt: skip
    return landmark_map, truth


def observe(landmark_map: LandmarkMap, config: CovisibilityConfig | None = None) -> int:
    return observe_covisible(landmark_map, NEAR, MapReuseConfig(), config or CovisibilityConfig())


def test_landmarks_are_found_where_they_are() -> None:
    landmark_map, truth = exact_map()
    before = len(landmark_map.obs_pixel)
    added = observe(landmark_map)
    assert added > before  # each keyframe sees what several others see
    assert len(landmark_map.obs_pixel) == before + added
    assert np.isnan(landmark_map.obs_depth_m[before:]).all()
    errors = []
    for place in range(len(truth)):
        rows = before + np.flatnonzero(landmark_map.obs_keyframe[before:] == place)
        landmarks = landmark_map.obs_landmark[rows]
        assert (np.abs(landmark_map.anchor[landmarks] - place) > 1).all()  # neighbours are tracking's job
        assert len(np.unique(landmarks)) == len(landmarks)
        expected = reproject(truth[place], landmark_map.points[landmarks], CAMERA)[0]
        errors.append(np.linalg.norm(landmark_map.obs_pixel[rows] - expected, axis=1))
    assert np.median(np.concatenate(errors)) < 0.3


def test_what_a_keyframe_sees_already_is_not_added_again() -> None:
    landmark_map, _ = exact_map()
    observe(landmark_map)
    before = len(landmark_map.obs_pixel)
    again = observe(landmark_map)
    key = landmark_map.obs_keyframe * len(landmark_map.points) + landmark_map.obs_landmark
    assert again == len(key) - before
    assert len(np.unique(key)) == len(key)


def test_misplaced_keyframes_are_pulled_together() -> None:
    landmark_map, truth = exact_map()
    rng = np.random.default_rng(1)
    for keyframe in landmark_map.keyframes[1:]:
        keyframe.T_world_cam = keyframe.T_world_cam.copy()
        keyframe.T_world_cam[:3, 3] += rng.normal(0, 0.03, 3)
    off = np.linalg.norm(landmark_map.poses[:, :3, 3] - truth[:, :3, 3], axis=1)
    observe(landmark_map)
    results = adjust_all(landmark_map, AdjustmentConfig())
    assert all(result.accepted for result in results)
    left = np.linalg.norm(landmark_map.poses[:, :3, 3] - truth[:, :3, 3], axis=1)
    assert np.sqrt((left**2).mean()) < 0.5 * np.sqrt((off**2).mean())


def test_a_black_image_adds_nothing_and_harms_nothing() -> None:
    landmark_map, _ = exact_map(blank=3)
    before = len(landmark_map.obs_pixel)
    assert observe(landmark_map) > 0
    new = slice(before, None)
    assert not (landmark_map.obs_keyframe[new] == 3).any()
    assert not (landmark_map.anchor[landmark_map.obs_landmark[new]] == 3).any()


@pytest.mark.parametrize("case", ["none kept", "switched off", "no map reuse", "two keyframes"])
def test_without_images_or_keyframes_the_map_stays(case: str) -> None:
    landmark_map, _ = exact_map()
    if case == "none kept":
        for keyframe in landmark_map.keyframes:
            keyframe.view = b""
    if case == "two keyframes":
        landmark_map.keyframes = landmark_map.keyframes[:2]
    config = CovisibilityConfig(candidates=0 if case == "switched off" else 10)
    before = len(landmark_map.obs_pixel)
    reuse = MapReuseConfig(enabled=case != "no map reuse")
    assert observe_covisible(landmark_map, NEAR, reuse, config) == 0
    assert len(landmark_map.obs_pixel) == before


def test_a_whole_run_gets_no_worse() -> None:
    config = BundleConfig(tracker=TrackerConfig(features=FeatureConfig(corners=120)), keyframe_frames=6)
    poses, errors = path(40), []
    for candidates in (0, 10):
        backend = BundleBackend(replace_config(config, CovisibilityConfig(candidates=candidates)))
        drive(frames(poses), SensorFrontEnd(), backend)
        backend.finish()
        errors.append(np.sqrt((position_errors(backend, poses) ** 2).mean()))
    assert errors[1] < 1.05 * errors[0]
    assert errors[1] != errors[0]


def replace_config(config: BundleConfig, covisibility: CovisibilityConfig) -> BundleConfig:
    return config.model_copy(update={"covisibility": covisibility})
