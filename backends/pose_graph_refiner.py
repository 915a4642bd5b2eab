"""Measure how a frame lies to its keyframe from points of the keyframe's own depth."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from remov3r.backends.depth_sampling import median_relative_sigma, sample_depth
from remov3r.backends.features import Gray, detect_corners
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.pose_graph_noise import NoiseConfig, floored, with_scale_doubt
from remov3r.backends.tracking import Tracker, TrackerConfig, Tracks, views_of
from remov3r.camera import Camera
from remov3r.types import Covariance, DensePrediction, Pose


class KeyframeRefiner:
    """Follows the corners of the latest keyframe; its frame is the world of this small map.

    Attributes:
        count: corners of the keyframe that have depth.

    Args:
        scale_varies: the keyframe's scale is estimated elsewhere, so it is no part of the covariance.
    """

    def __init__(self, camera: Camera, config: TrackerConfig, noise: NoiseConfig, scale_varies: bool) -> None:
        self._camera, self._config, self._noise = camera, config, noise
        self._scale_varies = scale_varies
        self._tracker: Tracker | None = None
        self._relative_sigma = 1.0
        self.count = 0

    def restart(self, frame_index: int, gray: Gray, dense: DensePrediction) -> None:
        """Follow the corners of a new keyframe that have depth."""
        pixels = detect_corners(gray, np.empty((0, 2)), self._config.features)
        depth, sigma = sample_depth(dense, pixels, self._camera)
        there = np.isfinite(depth)
        pixels, depth, sigma = pixels[there], depth[there], sigma[there]
        key_map = LandmarkMap(self._camera)
        landmarks = key_map.add_landmarks(self._rays(pixels) * depth[:, None], 0, sigma / depth)
        count = len(pixels)
        key_map.add_keyframe(
            frame_index, np.eye(4), landmarks, pixels, depth, sigma, np.zeros((count, 128), np.uint8),
            np.zeros(1), 1.0, 0,
        )  # fmt: skip
        self._tracker = Tracker(key_map, self._config)
        self._tracker.restart(views_of(gray), Tracks(landmarks, pixels), True)
        self._relative_sigma = 0.0 if self._scale_varies else median_relative_sigma(dense)
        self.count = count

    def refine(self, gray: Gray, T_key_last: Pose, guesses: list[Pose]) -> tuple[Pose, Covariance] | None:
        """Measure T_key_cam and its covariance; None when too few points agree.

        Args:
            T_key_last: where the last image was.
            guesses: where this one may be; at least one.
        """
        if self._tracker is None:
            return None
        solution = self._tracker.track(views_of(gray), T_key_last, guesses)
        if solution is None:
            return None
        noise = self._noise
        # Where most points were lost or disagreed, those that agree err together.
        covariance = floored(noise.refined_factor**2 / self.followed() * solution.covariance, noise)
        T = solution.T_world_cam
        return T, with_scale_doubt(covariance, T, self._relative_sigma)

    def followed(self) -> float:
        """Return the share of the keyframe's points that is still followed; 0 without any."""
        if self._tracker is None or self.count == 0:
            return 0.0
        return len(self._tracker.tracks.landmarks) / self.count

    def motion_px(self) -> float:
        """Return how far the followed points have moved since the keyframe (median)."""
        return float("inf") if self._tracker is None else self._tracker.motion_px()

    def _rays(self, pixels: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
        c = self._camera
        return np.stack([(pixels[:, 0] - c.cx) / c.fx, (pixels[:, 1] - c.cy) / c.fy, np.ones(len(pixels))], 1)
