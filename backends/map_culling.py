"""What a long run can do without: keyframes of places seen often, landmarks seen once, old measurements."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from pydantic import Field

from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.pose_solver import PoseSolverConfig
from remov3r.backends.trajectory_store import TrajectoryStore
from remov3r.config import Config


class CullingConfig(Config):
    """When parts of the map are given up.

    Attributes:
        every: keyframes between two looks.
        crowd: keyframes that may look at the same place; of more, the one that is missed least goes.
        near_share, near_deg: what "the same place" is: distance as a share of the scene's depth, and angle.
        forget_after: so many keyframes later a landmark that a single keyframe saw is given up.
        frames_held: frames that can still be measured again; older ones are, then, for the last time.
    """

    every: int = Field(10, ge=1)
    crowd: int = Field(4, ge=1)
    near_share: float = Field(0.15, gt=0)
    near_deg: float = Field(10.0, gt=0)
    forget_after: int = Field(100, ge=1)
    frames_held: int = Field(2000, ge=1)


class MapCuller:
    """Keeps a map and the frames that hang on it small; looks at the keyframes that have left the window."""

    def __init__(
        self, landmark_map: LandmarkMap, store: TrajectoryStore, window: int, config: CullingConfig
    ) -> None:
        self._map, self._store, self._window, self._config = landmark_map, store, window, config
        self._waiting = 0  # keyframes inserted since the last look

    def keyframe_added(self, pose: PoseSolverConfig) -> list[int]:
        """Count a keyframe; every few of them, cull.

        Returns:
            frames that jumped when measured for the last time, and were kept as tracked.
        """
        self._waiting += 1
        if self._waiting < self._config.every:
            return []
        self._waiting = 0
        end = len(self._map.keyframes) - self._window
        places = crowding_keyframes(
            self._map, range(max(end - self._config.every, 0), max(end, 0)), self._config
        )
        forget_single_observations(self._map, self._config.forget_after)
        self._store.renumber(self._map.remove(places))
        return self._store.settle(self._config.frames_held, pose)


def crowding_keyframes(landmark_map: LandmarkMap, examined: range, config: CullingConfig) -> list[int]:
    """Return keyframes, one at most for each one examined, whose place others see well enough.

    Of too many keyframes at one place the one goes that sees fewest landmarks which fewer than three see. The
    first keyframe of a submap and those after the examined ones stay.
    """
    keyframes, T = landmark_map.keyframes, landmark_map.poses
    submap = np.array([k.submap for k in keyframes])
    stays = np.arange(len(keyframes)) < examined.stop
    stays[[int(np.flatnonzero(submap == s)[0]) for s in np.unique(submap).tolist()]] = False
    seen = np.bincount(landmark_map.obs_landmark[landmark_map.obs_good], minlength=len(landmark_map.points))
    removed: list[int] = []
    for place in examined:
        landmarks = landmark_map.obs_landmark[landmark_map.rows_of_keyframes([place])]
        if not stays[place] or len(landmarks) == 0:
            continue
        away = np.linalg.norm(T[:, :3, 3] - T[place, :3, 3], axis=1)
        depth_m = float(np.median((landmark_map.points[landmarks] - T[place, :3, 3]) @ T[place, :3, 2]))
        cosine = T[:, :3, 2] @ T[place, :3, 2]
        near = (away < config.near_share * depth_m) & (cosine > np.cos(np.deg2rad(config.near_deg)))
        crowd = np.flatnonzero(near & stays & (submap == submap[place]))
        if len(crowd) > config.crowd:
            seen_by = [_landmarks(landmark_map, c) for c in crowd.tolist()]
            least = int(np.argmin([(seen[ids] < 3).sum() for ids in seen_by]))
            removed.append(int(crowd[least]))
            stays[crowd[least]] = False
            seen[seen_by[least]] -= 1
    return sorted(removed)


def forget_single_observations(landmark_map: LandmarkMap, after: int) -> None:
    """Give up landmarks that only one keyframe saw, when many keyframes have followed it."""
    good = landmark_map.obs_good
    seen = np.bincount(landmark_map.obs_landmark[good], minlength=len(landmark_map.points))
    old = landmark_map.obs_keyframe < len(landmark_map.keyframes) - after
    good[old & (seen[landmark_map.obs_landmark] == 1)] = False


def _landmarks(landmark_map: LandmarkMap, place: int) -> Int[np.ndarray, " n"]:
    return landmark_map.obs_landmark[landmark_map.rows_of_keyframes([place])]
