"""Find where the frames of another video were taken, in a map that does not change any more."""

from __future__ import annotations

import copy

import numpy as np
from jaxtyping import Float, Int

from remov3r.backends.features import Describer, Gray, detect_corners
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.map_reuse import (
    MapReuseConfig,
    Reobservation,
    covisible_keyframes,
    relocalise,
    reobserve,
    thumbnail,
)
from remov3r.backends.tracking import Tracker, TrackerConfig, Tracks, views_of
from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.geometry import inverse
from remov3r.types import Pose

Pixels = Float[np.ndarray, "n 2"]


class LocaliserConfig(Config):
    """Localisation in a finished map.

    Attributes:
        tracker: follows landmarks from frame to frame.
        look_up: finds them without knowing where the camera is; there is time to try many keyframes.
        refresh_frames: after so many, landmarks are looked for anew around where the camera is.
    """

    tracker: TrackerConfig = TrackerConfig()
    look_up: MapReuseConfig = MapReuseConfig(relocalisation_candidates=20, candidates=6)
    refresh_frames: int = 5


class Localiser:
    """Poses frame after frame in the world of a map; frames are in order, gaps do no harm."""

    def __init__(
        self, landmark_map: LandmarkMap, camera: Camera, config: LocaliserConfig | None = None
    ) -> None:
        """Take a map.

        Args:
            camera: of the frames to come; need not be the one that made the map.
        """
        self._config = config or LocaliserConfig()
        self._map = copy.copy(landmark_map)
        self._map.camera = camera  # landmarks are in the world; only new frames are projected into
        self._describer = Describer(self._config.tracker.features)
        self._places = [i for i, k in enumerate(landmark_map.keyframes) if k.submap == 0]
        self._tracker = Tracker(self._map, self._config.tracker)
        self._T_last: Pose | None = None
        self._step = np.eye(4)
        self._since_refresh = 0

    def locate(self, gray: Gray) -> Pose | None:
        """Return T_world_cam of the next frame; None where it is not found."""
        T = self._followed(gray)
        if T is None:
            T = self._looked_up(gray)
        elif self._since_refresh >= self._config.refresh_frames:
            self._refresh(gray, T)
        self._T_last = T
        return T

    def _followed(self, gray: Gray) -> Pose | None:
        if self._T_last is None:
            return None
        solution = self._tracker.track(views_of(gray), self._T_last, [self._T_last @ self._step])
        if solution is None:
            return None
        self._step = inverse(self._T_last) @ solution.T_world_cam
        self._since_refresh += 1
        return solution.T_world_cam

    def _looked_up(self, gray: Gray) -> Pose | None:
        pixels = detect_corners(gray, np.empty((0, 2)), self._config.tracker.features)
        descriptors = self._describer.describe(gray, pixels)
        look_up, pose = self._config.look_up, self._config.tracker.pose
        found = relocalise(self._map, self._places, thumbnail(gray), pixels, descriptors, look_up, pose)
        if found is None:
            return None
        self._step = np.eye(4)
        self._follow(gray, [found], pixels)
        return found.T_world_cam

    def _refresh(self, gray: Gray, T_world_cam: Pose) -> None:
        """Look for the landmarks of the keyframes around, so that those lost on the way are made up for."""
        look_up, pose = self._config.look_up, self._config.tracker.pose
        followed = self._map.points[self._tracker.tracks.landmarks]
        typical = float(np.median((followed - T_world_cam[:3, 3]) @ T_world_cam[:3, 2]))
        pixels = detect_corners(gray, np.empty((0, 2)), self._config.tracker.features)
        descriptors = self._describer.describe(gray, pixels)
        places = covisible_keyframes(self._map, T_world_cam, set(), 0, typical, look_up)
        results = (
            reobserve(self._map, p, T_world_cam, pixels, descriptors, typical, look_up, pose) for p in places
        )
        found = [r for r in results if r is not None]
        if found:
            self._follow(gray, found, pixels)

    def _follow(self, gray: Gray, found: list[Reobservation], pixels: Pixels) -> None:
        """Go on from these landmarks, each of them and each pixel taken once."""
        landmarks = self._map.canonical(np.concatenate([r.landmarks for r in found]))
        rows = np.concatenate([r.rows for r in found])
        once = _first_of_each(landmarks)
        once = once[_first_of_each(rows[once])]
        self._tracker.restart(views_of(gray), Tracks(landmarks[once], pixels[rows[once]]), True)
        self._since_refresh = 0


def _first_of_each(values: Int[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
    """Where each value stands first, in order."""
    return np.sort(np.unique(values, return_index=True)[1])
