"""Find landmarks in every keyframe that should see them: where the whole map says they are, by aligning images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field

from remov3r.backends.features import FeatureConfig, Gray, Pixels, track_points
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.map_reuse import MapReuseConfig, covisible_keyframes
from remov3r.backends.pose_solver import reproject
from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.geometry import inverse
from remov3r.types import Pose

JPEG_QUALITY = 95  # an eighth of the size, for errors below the camera's own
VIEWS_IN_MEMORY = 256
BORDER_PX = 4
Seen = tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 2"]]  # landmarks, and their pixels


class CovisibilityConfig(Config):
    """Which keyframes are searched for each other's landmarks, and how far from where they are expected.

    Attributes:
        candidates: keyframes whose landmarks are looked for in one; 0 = none.
        least_step: between two keyframes, as a share of the scene's depth: views from one place would only add noise.
        search_px: for images 640 wide.
        largest_sigma_log: of a landmark's depth: others are not known well enough to be expected anywhere.
        largest_log_zoom: between the two keyframes; patches are compared without scaling them.
    """

    candidates: int = Field(10, ge=0)
    least_step: float = Field(0.02, ge=0)
    search_px: float = Field(4.0, gt=0)
    largest_sigma_log: float = Field(0.3, gt=0)
    largest_log_zoom: float = Field(0.35, gt=0)


def encoded_view(even: Gray) -> bytes:
    """Compress a keyframe's image (of even contrast), to be looked at again later."""
    return bytes(cv2.imencode(".jpg", even, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


def observe_covisible(
    landmark_map: LandmarkMap, features: FeatureConfig, reuse: MapReuseConfig, config: CovisibilityConfig
) -> int:
    """Add an observation wherever a keyframe sees a landmark that tracking and map reuse did not find in it.

    The map must be good to a few pixels: call it after an optimisation of the whole.

    Args:
        features: by which points are followed from one keyframe's image to another's.
        reuse: which keyframes look at the same place; where it is switched off, nothing is searched.
    Returns:
        how many were added.
    """
    count = len(landmark_map.keyframes)
    if config.candidates == 0 or count < 3 or not reuse.enabled:
        return 0
    look = _Look(landmark_map, features, reuse.model_copy(update={"candidates": config.candidates}), config)
    with ThreadPoolExecutor(max_workers=2) as pool:  # OpenCV gives Python's lock back
        found = list(pool.map(look.at, range(count)))
    for place, (landmarks, pixels) in enumerate(found):
        landmark_map.add_observations(place, landmarks, pixels)
    return sum(len(landmarks) for landmarks, _ in found)


class _Look:
    """Looks at one keyframe after the other; the map stays as it is."""

    def __init__(
        self, landmark_map: LandmarkMap, features: FeatureConfig, reuse: MapReuseConfig, config: CovisibilityConfig
    ) -> None:  # fmt: skip
        self._map, self._features, self._reuse, self._config = landmark_map, features, reuse, config
        self._view = lru_cache(VIEWS_IN_MEMORY)(self._decoded)

    def at(self, place: int) -> Seen:
        """Return the landmarks of other keyframes that this one sees too."""
        landmark_map, keyframe = self._map, self._map.keyframes[place]
        mine = landmark_map.obs_landmark[landmark_map.rows_of_keyframes([place])]
        view = self._view(place)
        if len(mine) == 0 or view is None:
            return np.empty(0, int), np.empty((0, 2))
        T = keyframe.T_world_cam
        depth_m = float(np.median((landmark_map.points[mine] - T[:3, 3]) @ T[:3, 2]))
        steps_m = np.linalg.norm(landmark_map.poses[:, :3, 3] - T[:3, 3], axis=1)
        here = np.flatnonzero(steps_m < self._config.least_step * depth_m)
        near = {place - 1, place, place + 1, *here.tolist()}
        seen = np.zeros(len(landmark_map.points), bool)
        seen[landmark_map.obs_landmark[landmark_map.obs_keyframe == place]] = True  # also what did not fit
        found: list[Seen] = []
        for other in covisible_keyframes(landmark_map, T, near, keyframe.submap, depth_m, self._reuse):
            landmarks, pixels = self._seen_from(other, place, view, seen)
            seen[landmarks] = True
            found.append((landmarks, pixels))
        landmarks = np.concatenate([np.empty(0, int), *(f[0] for f in found)])
        return landmarks, np.concatenate([np.empty((0, 2)), *(f[1] for f in found)])

    def _seen_from(self, other: int, place: int, view: Gray, seen: Bool[np.ndarray, " l"]) -> Seen:
        """Follow what another keyframe sees from its image into this one's."""
        landmark_map, config, camera = self._map, self._config, self._map.camera
        rows = landmark_map.rows_of_keyframes([other])
        landmarks = landmark_map.obs_landmark[rows]
        T, T_other = (landmark_map.keyframes[p].T_world_cam for p in (place, other))
        expected, P = reproject(T, landmark_map.points[landmarks], camera)
        there = reproject(T_other, landmark_map.points[landmarks], camera)[1][:, 2]
        last = np.array([camera.width, camera.height]) - 1 - BORDER_PX
        zoom = np.abs(np.log(np.maximum(P[:, 2], 1e-3) / np.maximum(there, 1e-3)))
        wanted = ~seen[landmarks] & (landmark_map.sigma_log[landmarks] < config.largest_sigma_log)
        wanted &= (P[:, 2] > 0) & (zoom < config.largest_log_zoom)
        wanted &= (expected >= BORDER_PX).all(1) & (expected <= last).all(1)
        source = self._view(other)
        if source is None:
            return landmarks[:0], expected[:0]
        turned, starts = _turned(source, landmark_map.obs_pixel[rows], inverse(T) @ T_other, camera)
        wanted &= (starts >= BORDER_PX).all(1) & (starts <= last).all(1)
        landmarks, expected = landmarks[wanted], expected[wanted]
        if len(landmarks) == 0:
            return landmarks, expected
        pixels, ok = track_points(turned, view, starts[wanted], expected, self._features)
        limit = config.search_px * max(camera.width / 640, 0.5)
        ok &= np.linalg.norm(pixels - expected, axis=1) < limit
        return landmarks[ok], pixels[ok]

    def _decoded(self, place: int) -> Gray | None:
        """The image of a keyframe; None where none was kept."""
        encoded = self._map.keyframes[place].view
        if not encoded:
            return None
        return np.asarray(
            cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE), dtype=np.uint8
        )


def _turned(image: Gray, pixels: Pixels, T_new_old: Pose, camera: Camera) -> tuple[Gray, Pixels]:
    """Show an image as a camera at the same place would see it that is turned as another is; and its pixels there.

    What a turn does to a patch is exact without any depth, so only what a step does is left to alignment.
    """
    K = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])
    H = K @ T_new_old[:3, :3] @ np.linalg.inv(K)
    size = (camera.width, camera.height)
    turned = cv2.warpPerspective(image, H, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    P = np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ H.T
    return np.asarray(turned, dtype=np.uint8), P[:, :2] / np.maximum(P[:, 2:], 1e-6)
