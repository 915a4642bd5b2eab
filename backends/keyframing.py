"""Turn the frame last tracked into a keyframe of the map: corners, descriptors, old landmarks, new landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from remov3r.backends.adjustment import AdjustmentConfig
from remov3r.backends.covisibility import encoded_view
from remov3r.backends.depth_links import DepthLinkConfig, Surface, depth_link, surface_of
from remov3r.backends.depth_sampling import median_relative_sigma, sample_depth
from remov3r.backends.features import Describer, Descriptors, FeatureConfig, Gray, detect_corners
from remov3r.backends.front_motion import Said
from remov3r.backends.keyframe_links import measured_link
from remov3r.backends.landmark_map import KeyframeLink, LandmarkMap
from remov3r.backends.loop_adjustment import LoopAdjustmentConfig, is_loop_at
from remov3r.backends.map_reuse import (
    MapReuseConfig,
    Reobservation,
    covisible_keyframes,
    relocalise,
    reobserve,
    thumbnail,
)
from remov3r.backends.map_scale import update_log_scale
from remov3r.backends.pose_graph_noise import fused
from remov3r.backends.pose_solver import PoseSolverConfig
from remov3r.backends.tracking import Tracks, Views
from remov3r.config import Config
from remov3r.geometry import inverse, transform
from remov3r.types import Covariance, DensePrediction, Pose

Ids = Int[np.ndarray, " n"]
Pixels = Float[np.ndarray, "n 2"]


class KeyframingConfig(Config):
    """Insertion of keyframes."""

    loop: LoopAdjustmentConfig = LoopAdjustmentConfig()
    depth_link: DepthLinkConfig = DepthLinkConfig()
    min_scale_sigma: float = Field(0.005, gt=0)
    largest_sigma_log: float = Field(1.0, gt=0)


@dataclass(frozen=True)
class Insertion:
    """What inserting a keyframe did.

    Attributes:
        place: of the keyframe in the map.
        reobserved: old landmarks that were found again.
        joined: whether this joined the current submap to an older one.
        is_loop: whether old landmarks say that the path to here has drifted more than a window can take up.
    """

    place: int
    reobserved: int
    joined: bool
    is_loop: bool


class KeyframeInserter:
    """Holds what inserting needs; the map is what changes."""

    def __init__(
        self,
        landmark_map: LandmarkMap,
        features: FeatureConfig,
        pose: PoseSolverConfig,
        map_reuse: MapReuseConfig,
        adjustment: AdjustmentConfig,
        config: KeyframingConfig,
    ) -> None:
        self._map, self._config = landmark_map, config
        self._features, self._pose, self._reuse, self._adjustment = features, pose, map_reuse, adjustment
        self._describer = Describer(features)
        self._surface: Surface | None = None  # of the last keyframe, where a sensor measured its depth

    def insert(
        self,
        frame_index: int,
        views: Views,
        T_world_cam: Pose,
        tracks: Tracks,
        dense: DensePrediction,
        submap: int,
        covariance: Covariance | None = None,
        measured_depth: bool = False,
        said: Said | None = None,
    ) -> Insertion:
        """Add the keyframe, with old landmarks where it sees them again and new ones at the front end's depth.

        Args:
            covariance: of the pose as tracked from the keyframe before; None where it was not.
            measured_depth: whether the depth comes from a sensor.
            said: by the front end of this frame; it counts where the front end states how sure it is.
        """
        landmark_map, gray = self._map, views.gray
        corners = detect_corners(gray, tracks.pixels, self._features)
        pixels = np.concatenate([tracks.pixels, corners])
        landmarks = np.concatenate([landmark_map.canonical(tracks.landmarks), np.full(len(corners), -1)])
        descriptors = self._describer.describe(gray, pixels)
        depth, sigma = sample_depth(dense, pixels, landmark_map.camera)
        typical = self._typical_depth(T_world_cam, tracks, depth)
        surface = surface_of(dense, self._config.depth_link) if measured_depth else None
        link, joined = self._link(T_world_cam, covariance, typical, surface, said), False
        self._surface = surface
        if self._reuse.enabled and landmark_map.keyframes:
            small = thumbnail(gray)
            if submap > 0:
                T_world_cam, joined = self._join(T_world_cam, pixels, descriptors, small, submap)
                submap = 0 if joined else submap
            found = self._search(T_world_cam, pixels, descriptors, typical, submap)
            is_loop = is_loop_at(found, T_world_cam, typical, self._config.loop)
            landmarks, reobserved = self._merge(landmarks, found)
        else:
            reobserved, is_loop = 0, False
        fresh = np.flatnonzero(landmarks < 0)
        relative = sigma / depth
        start = np.where(np.isfinite(depth), depth, typical)
        own = np.hypot(relative * self._adjustment.depth_sigma_factor, self._adjustment.depth_sigma_floor)
        largest = self._config.largest_sigma_log
        sigma_log = np.where(np.isfinite(depth), np.minimum(own, largest), largest)
        place = len(landmark_map.keyframes)
        points = transform(T_world_cam, self._rays(pixels[fresh]) * start[fresh, None])
        landmarks[fresh] = landmark_map.add_landmarks(points, place, sigma_log[fresh])
        scale_sigma = max(median_relative_sigma(dense), self._config.min_scale_sigma)
        landmark_map.add_keyframe(
            frame_index, T_world_cam, landmarks, pixels, depth, sigma, descriptors, thumbnail(gray),
            scale_sigma, submap, link, encoded_view(views.even),
        )  # fmt: skip
        self._scale_fresh(place, landmarks[fresh])
        return Insertion(place, reobserved, joined, is_loop)

    def look_up(self, gray: Gray) -> tuple[Reobservation, Pixels] | None:
        """Find the pose of a frame from its looks; returns the match and the pixels it is about."""
        pixels = detect_corners(gray, np.empty((0, 2)), self._features)
        if len(pixels) < self._reuse.relocalisation_inliers:
            return None
        descriptors = self._describer.describe(gray, pixels)
        places = list(range(len(self._map.keyframes)))
        found = relocalise(self._map, places, thumbnail(gray), pixels, descriptors, self._reuse, self._pose)
        return None if found is None else (found, pixels)

    def _link(
        self,
        T_world_cam: Pose,
        covariance: Covariance | None,
        typical: float,
        surface: Surface | None,
        said: Said | None,
    ) -> KeyframeLink | None:
        if not self._map.keyframes:
            return None
        before, link = self._map.keyframes[-1], None
        if covariance is not None:
            T_before_this = inverse(before.T_world_cam) @ T_world_cam
            link = measured_link(T_before_this, covariance, typical, self._adjustment.link)
            if self._surface is not None and surface is not None:
                link = depth_link(self._surface, surface, link, self._config.depth_link)
        if said is None or said.covariance is None or said.keyframe_index != before.frame_index:
            return link
        # In a bundle whose pixels count for more than they are worth, so must an honest word.
        stated = said.covariance / self._adjustment.covariance_factor
        if link is None:
            return KeyframeLink(said.T_key_cam, stated, metric=True)
        T, covariance = fused(link.T_before_this, link.covariance, said.T_key_cam, stated)
        return KeyframeLink(T, covariance, metric=True)

    def _rays(self, pixels: Pixels) -> Float[np.ndarray, "n 3"]:
        c = self._map.camera
        return np.stack([(pixels[:, 0] - c.cx) / c.fx, (pixels[:, 1] - c.cy) / c.fy, np.ones(len(pixels))], 1)

    def _typical_depth(self, T_world_cam: Pose, tracks: Tracks, depth: Float[np.ndarray, " n"]) -> float:
        """Median depth of what is followed, else of the front end, else two metres."""
        z = (self._map.points[tracks.landmarks] - T_world_cam[:3, 3]) @ T_world_cam[:3, 2]
        z = z[z > 0]
        if len(z) >= 8:
            return float(np.median(z))
        return float(np.nanmedian(depth)) if np.isfinite(depth).any() else 2.0

    def _search(
        self, T_world_cam: Pose, pixels: Pixels, descriptors: Descriptors, typical: float, submap: int
    ) -> list[Reobservation]:
        count = len(self._map.keyframes)
        recent = set(range(max(0, count - self._adjustment.window + 1), count))
        places = covisible_keyframes(self._map, T_world_cam, recent, submap, typical, self._reuse)
        results = (
            reobserve(self._map, p, T_world_cam, pixels, descriptors, typical, self._reuse, self._pose)
            for p in places
        )
        return [r for r in results if r is not None]

    def _merge(self, landmarks: Ids, found: list[Reobservation]) -> tuple[Ids, int]:
        """Give features the old landmarks that they were found to be; each landmark is seen once."""
        landmarks, count = landmarks.copy(), 0
        for match in found:
            old = self._map.canonical(match.landmarks)
            known = landmarks[match.rows] >= 0
            same = known & (landmarks[match.rows] == old)
            taken = np.isin(old, landmarks)  # seen in this frame by KLT already
            join, give = known & ~taken & ~same, ~known & ~taken
            self._map.merge(landmarks[match.rows[join]], old[join])
            landmarks[match.rows[give]] = old[give]
            positive = landmarks >= 0
            landmarks[positive] = self._map.canonical(landmarks[positive])
            count += int(join.sum() + give.sum())
        return landmarks, count

    def _join(
        self, T_world_cam: Pose, pixels: Pixels, descriptors: Descriptors, small: np.ndarray, submap: int
    ) -> tuple[Pose, bool]:
        """Move the current submap to where an older one says that it is."""
        keyframes = self._map.keyframes
        older = [i for i, k in enumerate(keyframes) if k.submap == 0]
        found = relocalise(self._map, older, small, pixels, descriptors, self._reuse, self._pose)
        if found is None:
            return T_world_cam, False
        correction = found.T_world_cam @ inverse(T_world_cam)
        mine = np.array([k.submap == submap for k in keyframes])
        moved = mine[self._map.anchor]
        self._map.points[moved] = transform(correction, self._map.points[moved])
        for keyframe in keyframes:
            if keyframe.submap == submap:
                keyframe.T_world_cam, keyframe.submap = correction @ keyframe.T_world_cam, 0
        return found.T_world_cam, True

    def _scale_fresh(self, place: int, fresh: Ids) -> None:
        """Start new landmarks at the front end's depth times the keyframe's own scale."""
        update_log_scale(self._map, place, self._adjustment)
        keyframe = self._map.keyframes[place]
        centre = keyframe.T_world_cam[:3, 3]
        points = self._map.points
        points[fresh] = centre + (points[fresh] - centre) * np.exp(keyframe.log_scale)
