"""Covariances are honest: errors on worlds with known noise are as large as they say."""

import numpy as np

from remov3r.backends.adjustment import AdjustmentConfig, adjust_all, keyframe_covariances
from remov3r.backends.bundle_terms import link_error
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.pose_solver import PoseSolverConfig, reproject
from remov3r.backends.trajectory_store import TrajectoryStore
from remov3r.geometry import inverse, se3_exp
from remov3r.types import TrackingState
from tests.backends.test_landmark_map import CAMERA

CONFIG = AdjustmentConfig(closing_iterations=15, covariance_factor=1.0)  # these pixels err independently
KEYFRAMES, STEPS, POINTS = 8, 4, 150


def noisy_world(
    seed: int, sigma_px: float, sigma_depth: float
) -> tuple[LandmarkMap, TrajectoryStore, np.ndarray]:
    """A sideways walk with noise in pixels and depths; every fourth frame is a keyframe. Returns the true poses."""
    rng = np.random.default_rng(seed)
    P = np.stack([rng.uniform(-1.5, 2, POINTS), rng.uniform(-1, 1, POINTS), rng.uniform(2, 4, POINTS)], 1)
    t = np.arange(KEYFRAMES * STEPS - STEPS + 1) / STEPS
    poses = se3_exp(np.stack([0.1 * t, 0 * t, 0.03 * t, 0.01 * np.sin(t), -0.03 * t, 0 * t], 1))
    landmark_map, ids = LandmarkMap(CAMERA), np.empty(0, int)
    store = TrajectoryStore(landmark_map)
    for i, T in enumerate(poses):
        pixels, P_cam = reproject(T, P, CAMERA)
        pixels = pixels + rng.normal(size=pixels.shape) * sigma_px
        start = T @ se3_exp(rng.normal(size=6) * 0.005) if i else T
        z = P_cam[:, 2] * (1 + rng.normal(size=POINTS) * sigma_depth)
        if i == 0:
            ids = landmark_map.add_landmarks(P * (z / P[:, 2])[:, None], 0, np.full(POINTS, 3 * sigma_depth))
        if i % STEPS == 0:
            landmark_map.add_keyframe(
                i, start, ids, pixels, z, np.full(POINTS, sigma_depth) * z,
                np.zeros((POINTS, 128), np.uint8), np.zeros(4), sigma_depth, 0,
            )  # fmt: skip
        store.put(i, start, TrackingState.OK, ids, pixels)
    return landmark_map, store, poses


def mean_nees(sigma_px: float, sigma_depth: float) -> tuple[float, float]:
    """Mean normalised squared error of keyframes and of the frames between them, over a few worlds."""
    keyframes: list[float] = []
    others: list[float] = []
    for seed in range(6):
        landmark_map, store, truth = noisy_world(seed, sigma_px, sigma_depth)
        adjust_all(landmark_map, CONFIG)
        store.refine(PoseSolverConfig(sigma_px=sigma_px))
        covariances = store.covariances(keyframe_covariances(landmark_map, CONFIG))
        assert sorted(covariances) == list(range(len(truth)))
        for i in range(1, len(truth)):
            error = link_error(inverse(store.pose(i))[None] @ truth[i][None], np.eye(4)[None])[0]
            nees = error @ np.linalg.solve(covariances[i], error)
            (others if i % STEPS else keyframes).append(nees)
    return float(np.mean(keyframes)), float(np.mean(others))


def test_errors_are_as_large_as_the_covariances_say() -> None:
    for sigma_px, sigma_depth in ((0.5, 0.02), (1.5, 0.05)):
        for nees in mean_nees(sigma_px, sigma_depth):
            assert 0.3 * 6 < nees < 3 * 6


def test_the_first_camera_is_sure_and_the_far_end_least() -> None:
    landmark_map, store, _ = noisy_world(0, 0.5, 0.02)
    adjust_all(landmark_map, CONFIG)
    covariances = store.covariances(keyframe_covariances(landmark_map, CONFIG))
    assert np.allclose(covariances[0], 0)
    sizes = [np.trace(covariances[i][3:, 3:]) for i in range(STEPS, KEYFRAMES * STEPS - STEPS + 1, STEPS)]
    assert sizes == sorted(sizes)
    assert all(np.linalg.eigvalsh(c).min() > -1e-12 for c in covariances.values())


def test_a_keyframe_of_another_map_has_none() -> None:
    landmark_map, store, _ = noisy_world(0, 0.5, 0.02)
    landmark_map.keyframes[-1].submap = 1
    known = keyframe_covariances(landmark_map, CONFIG)
    assert np.isnan(known[-1]).all()
    assert np.isfinite(known[:-1]).all()
    assert landmark_map.keyframes[-1].frame_index not in store.covariances(known)


def test_errors_that_tracks_share_widen_keyframes_by_their_factor() -> None:
    landmark_map, _, _ = noisy_world(0, 0.5, 0.02)
    adjust_all(landmark_map, CONFIG)
    for keyframe in landmark_map.keyframes:
        keyframe.scale_sigma = 0.0
    alone, shared = (
        keyframe_covariances(landmark_map, CONFIG.model_copy(update={"covariance_factor": f}))
        for f in (1, 12)
    )
    assert np.allclose(shared, 12 * alone)
