"""Follow landmarks from frame to frame and measure the camera's pose from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from remov3r.backends.depth_sampling import sample_sensor
from remov3r.backends.features import FeatureConfig, Gray, even_contrast, klt_window, track_points
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.pose_solver import (
    Depths,
    PoseSolution,
    PoseSolverConfig,
    reproject,
    rotation_exp,
    solve_pose,
)
from remov3r.config import Config
from remov3r.types import DepthMap, Pose

Pixels = Float[np.ndarray, "n 2"]
Ids = Int[np.ndarray, " n"]


class TrackerConfig(Config):
    """Tracking of one frame.

    Attributes:
        near: tried first, close to where the points are expected; taken where so large a share of them survives.
        blurred: tried last.
        depth_sigma_share: of a sensor's depth, how far it may be off: noise, calibration and the followed pixel's own.
    """

    features: FeatureConfig = FeatureConfig()
    near: FeatureConfig = FeatureConfig(klt_levels=1)
    near_survivors: float = Field(0.85, gt=0, le=1)
    blurred: FeatureConfig = FeatureConfig(klt_window_px=35, forward_backward_px=2.0, min_similarity=0.4)
    pose: PoseSolverConfig = PoseSolverConfig()
    min_inliers: int = Field(15, ge=6)
    min_inlier_ratio: float = Field(0.3, gt=0, lt=1)
    from_keyframe: bool = True
    depth_sigma_share: float = Field(0.01, gt=0)


@dataclass(frozen=True)
class Tracks:
    """Landmarks followed in the current frame, where they are in it, and a sensor's depth there if there is one."""

    landmarks: Ids
    pixels: Pixels
    depths: Depths | None = None

    def kept(self, keep: np.ndarray) -> Tracks:
        """Return some of them."""
        depths = None if self.depths is None else self.depths[keep]
        return Tracks(self.landmarks[keep], self.pixels[keep], depths)


@dataclass(frozen=True)
class Views:
    """A frame's image, and the same of even contrast: the one finds points again after a long way, the other places
    them without the lens's shade."""

    gray: Gray
    even: Gray


def views_of(gray: Gray) -> Views:
    """Return an image and its even version."""
    return Views(gray, even_contrast(gray))


NO_TRACKS = Tracks(np.empty(0, int), np.empty((0, 2)))


class Tracker:
    """Holds the last image, the last keyframe's image and what is being followed."""

    def __init__(self, landmark_map: LandmarkMap, config: TrackerConfig) -> None:
        self.tracks = NO_TRACKS
        self.predicted: Pose | None = None
        self._map, self._config = landmark_map, config
        self._views: Views | None = None
        self._key_views: Views | None = None
        self._key_tracks = NO_TRACKS

    def restart(self, views: Views, tracks: Tracks, is_keyframe: bool) -> None:
        """Follow these from now on."""
        self._views, self.tracks = views, tracks
        self._key_views, self._key_tracks = (views, tracks) if is_keyframe else (None, NO_TRACKS)

    def track(
        self, views: Views, T_world_last: Pose, guesses: list[Pose], depth_m: DepthMap | None = None
    ) -> PoseSolution | None:
        """Measure the pose of the next frame; None when too few landmarks agree on one.

        After a failure the last good image and its points stay: a dark or torn frame is simply skipped.

        Args:
            guesses: poses the camera may have now; the one whose images fit best starts the search.
            depth_m: what a sensor measured in this frame.
        """
        previous, config = self._views, self._config
        if previous is None or len(self.tracks.landmarks) < config.min_inliers:
            return None
        starts, poses = self._starts(previous.gray, views.gray, T_world_last, guesses)
        self.predicted = poses[0]
        even, gray = (previous.even, views.even), (previous.gray, views.gray)
        attempts = (
            (even, 0, config.near, config.near_survivors),
            (even, 0, config.features, 0.0),
            (gray, 0, config.blurred, 0.0),
            (gray, 1, config.blurred, 0.0),
        )
        for images, start, features, survivors in attempts:
            pixels, ok = track_points(*images, self.tracks.pixels, starts[start], features)
            if ok.mean() < survivors:
                continue
            tracks = Tracks(self.tracks.landmarks[ok], pixels[ok])
            found = self._solve(views.even, tracks, poses[: start + 1], depth_m)
            if found is not None and len(found[1].landmarks) >= survivors**2 * len(ok):
                self._views, self.tracks = views, found[1]
                return found[0]
        return None

    def _solve(
        self, gray: Gray, tracks: Tracks, guesses: list[Pose], depth_m: DepthMap | None
    ) -> tuple[PoseSolution, Tracks] | None:
        config = self._config
        if len(tracks.landmarks) < config.min_inliers:
            return None
        if config.from_keyframe:
            tracks = self._anchored(gray, tracks)
        if depth_m is not None:
            tracks = replace(tracks, depths=sample_sensor(depth_m, tracks.pixels, config.depth_sigma_share))
        points, spread = self._map.points[tracks.landmarks], self._map.spread(tracks.landmarks)
        solution = solve_pose(
            guesses, points, spread, tracks.pixels, self._map.camera, config.pose, tracks.depths
        )
        if solution is None:
            return None
        count = int(solution.inliers.sum())
        if count < config.min_inliers or count < config.min_inlier_ratio * len(tracks.landmarks):
            return None
        return solution, tracks.kept(solution.inliers)

    def motion_px(self) -> float:
        """How far the followed points have moved since the keyframe (median); infinite without a keyframe."""
        _, here, there = np.intersect1d(
            self.tracks.landmarks, self._key_tracks.landmarks, assume_unique=True, return_indices=True
        )
        if len(here) == 0:
            return float("inf")
        return float(
            np.median(np.linalg.norm(self.tracks.pixels[here] - self._key_tracks.pixels[there], axis=1))
        )

    def _starts(
        self, previous: Gray, gray: Gray, T_world_last: Pose, guesses: list[Pose]
    ) -> tuple[list[Pixels], list[Pose]]:
        """Where the points may be under each guess, under no motion, and under the turn that the whole image
        suggests; the one whose image patches fit best comes first."""
        camera, tracks = self._map.camera, self.tracks
        points = self._map.points[tracks.landmarks]
        poses = [*guesses, T_world_last, T_world_last @ _turn(previous, gray, camera.fx)]
        before = reproject(T_world_last, points, camera)[0]
        score = _PhotometricScore(previous, gray, tracks.pixels)
        flows = [_sane(reproject(T, points, camera)[0] - before, gray.shape[1]) for T in poses]
        starts = [tracks.pixels + flow for flow in flows]
        order = np.argsort([score(pixels) for pixels in starts], kind="stable")
        return [starts[i] for i in order], [poses[i] for i in order]

    def _anchored(self, gray: Gray, tracks: Tracks) -> Tracks:
        """Align the points of the keyframe with its own image, so that errors do not add up over frames."""
        if self._key_views is None or len(tracks.landmarks) == 0:
            return tracks
        _, here, there = np.intersect1d(
            tracks.landmarks, self._key_tracks.landmarks, assume_unique=True, return_indices=True
        )
        if len(here) == 0:
            return tracks
        start = self._key_tracks.pixels[there].astype(np.float32)[:, None]
        guess = tracks.pixels[here].astype(np.float32)[:, None].copy()
        size = (klt_window(self._config.features, gray.shape[1]),) * 2
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 0.005)
        found, ok, _ = cv2.calcOpticalFlowPyrLK(
            self._key_views.even, gray, start, guess, winSize=size, maxLevel=0, criteria=criteria,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )  # fmt: skip
        moved = np.linalg.norm(found[:, 0] - tracks.pixels[here], axis=1)
        accept = (ok[:, 0] == 1) & (moved < 1.0)
        pixels = tracks.pixels.copy()
        pixels[here[accept]] = found[accept, 0]
        return Tracks(tracks.landmarks, pixels)


class _PhotometricScore:
    """Mean difference of small, brightness-free patches in images of a quarter of the size."""

    def __init__(self, previous: Gray, gray: Gray, pixels: Pixels) -> None:
        self._previous, self._gray = (
            cv2.resize(g, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for g in (previous, gray)
        )
        self._reference = self._patches(self._previous, pixels)

    def __call__(self, pixels: Pixels) -> float:
        return float(np.abs(self._patches(self._gray, pixels) - self._reference).mean())

    @staticmethod
    def _patches(small: Gray, pixels: Pixels) -> Float[np.ndarray, "n 9"]:
        dx, dy = (a.ravel() for a in np.meshgrid([-2, 0, 2], [-2, 0, 2]))
        x = ((pixels[:, :1] + 0.5) / 4 - 0.5 + dx).astype(np.float32)
        y = ((pixels[:, 1:] + 0.5) / 4 - 0.5 + dy).astype(np.float32)
        # OpenCV's remap refuses more than 32767 rows; a few hundred points never come near.
        patch = cv2.remap(small, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        return patch - patch.mean(1, keepdims=True)


def _turn(previous: Gray, gray: Gray, fx: float) -> Pose:
    """Turn the camera as the shift between the two whole images suggests."""
    small = [
        cv2.resize(g, (80, 60), interpolation=cv2.INTER_AREA).astype(np.float32) for g in (previous, gray)
    ]
    (dx, dy), _ = cv2.phaseCorrelate(small[0], small[1], cv2.createHanningWindow((80, 60), cv2.CV_32F))
    scale_x, scale_y = gray.shape[1] / 80, gray.shape[0] / 60
    T = np.eye(4)
    # The image moves right when the camera turns left (about y, which points down).
    T[:3, :3] = rotation_exp(np.array([dy * scale_y / fx, -dx * scale_x / fx, 0.0]))
    return T if np.isfinite(T).all() else np.eye(4)


def _sane(flow: Pixels, width: int) -> Pixels:
    """No flow for points that a wrong guess throws out of the picture."""
    wild = ~(np.abs(flow).max(1) < width / 2)
    return np.where(wild[:, None], 0.0, flow)
