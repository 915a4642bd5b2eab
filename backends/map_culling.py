"""What a long run can do without: keyframes of places seen often, landmarks seen once, old measurements."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int
from pydantic import Field

from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.pose_solver import PoseSolverConfig
from remov3r.backends.trajectory_store import TrajectoryStore
from remov3r.config import Config

ENOUGH_OTHERS = 3  # keyframes that see a landmark as well as the one that goes
FARTHER = 1.5  # times as far away: still about the same distance
LEAST_LANDMARKS = 20  # of a keyframe on whose redundancy they can tell


class CullingConfig(Config):
    """When parts of the map are given up.

    Attributes:
        every: keyframes between two looks.
        crowd: keyframes that may look at the same place; of more, the one that is missed least goes.
        near_share, near_deg: what "the same place" is: distance as a share of the scene's depth, and angle.
        redundant_share: a keyframe goes when others see so large a share of its landmarks well enough.
        forget_after: so many keyframes later a landmark that a single keyframe saw is given up, and crowds are
            looked for again.
        frames_held: frames that can still be measured again; older ones are, then, for the last time.
    """

    every: int = Field(10, ge=1)
    crowd: int = Field(4, ge=1)
    near_share: float = Field(0.15, gt=0)
    near_deg: float = Field(10.0, gt=0)
    redundant_share: float = Field(0.9, gt=0, le=1)
    forget_after: int = Field(100, ge=1)
    frames_held: int = Field(2000, ge=1)


class MapCuller:
    """Keeps a map and the frames that hang on it small.

    Places are thinned when keyframes leave the window, and again in old parts of the map, where later visits and
    joined submaps have made them crowded: the map of a room does not grow however long one walks about in it.
    """

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
        config, count = self._config, len(self._map.keyframes)
        end = max(count - self._window, 0)
        old, leaving = range(max(count - config.forget_after, 0)), range(max(end - config.every, 0), end)
        forget_single_observations(self._map, config.forget_after)
        places = redundant_keyframes(self._map, end, config.redundant_share)
        examined = sorted({*old, *leaving})
        places = crowding_keyframes(self._map, examined, end, config, places)
        self._store.renumber(self._map.remove(places))
        return self._store.settle(self._config.frames_held, pose)


def redundant_keyframes(landmark_map: LandmarkMap, end: int, share: float) -> list[int]:
    """Return the keyframes before place `end` of whose landmarks others see so large a share well enough.

    That is: three others or more, from no farther than half as far again. The first keyframe of a submap stays.

    References: Mur-Artal, Montiel & Tardós 2015 (ORB-SLAM), sec. VI.E.
    """
    rows = np.flatnonzero(landmark_map.obs_good)
    place, landmark = landmark_map.obs_keyframe[rows], landmark_map.obs_landmark[rows]
    others = _others_as_near(landmark_map, rows)
    stays = _must_stay(landmark_map, end)
    ends = np.searchsorted(place, np.arange(len(landmark_map.keyframes) + 1))
    gone = np.zeros(len(landmark_map.points), int)  # how many of those that saw a landmark were removed
    removed: list[int] = []
    for candidate in np.flatnonzero(~stays).tolist():
        mine = slice(ends[candidate], ends[candidate + 1])
        well_seen = others[mine] - gone[landmark[mine]] >= ENOUGH_OTHERS
        if len(well_seen) >= LEAST_LANDMARKS and well_seen.mean() >= share:
            removed.append(candidate)
            gone[landmark[mine]] += 1
    return removed


def crowding_keyframes(
    landmark_map: LandmarkMap,
    examined: Iterable[int],
    end: int,
    config: CullingConfig,
    going: list[int] | None = None,
) -> list[int]:
    """Return keyframes before place `end`, one at most for each one examined, whose place others see well enough.

    Of too many keyframes at one place the one goes that sees fewest landmarks which fewer than three see. The
    first keyframe of a submap stays.

    Args:
        going: keyframes that are to be removed anyway; they are part of the answer.
    """
    keyframes, T = landmark_map.keyframes, landmark_map.poses
    submap = np.array([k.submap for k in keyframes])
    may_go = ~_must_stay(landmark_map, end)
    removed = list(going or [])
    may_go[removed] = False
    seen = np.bincount(landmark_map.obs_landmark[landmark_map.obs_good], minlength=len(landmark_map.points))
    for place in removed:
        seen[_landmarks(landmark_map, place)] -= 1
    for place in examined:
        landmarks = _landmarks(landmark_map, place)
        if not may_go[place] or len(landmarks) == 0:
            continue
        away = np.linalg.norm(T[:, :3, 3] - T[place, :3, 3], axis=1)
        depth_m = float(np.median((landmark_map.points[landmarks] - T[place, :3, 3]) @ T[place, :3, 2]))
        cosine = T[:, :3, 2] @ T[place, :3, 2]
        near = (away < config.near_share * depth_m) & (cosine > np.cos(np.deg2rad(config.near_deg)))
        crowd = np.flatnonzero(near & may_go & (submap == submap[place]))
        if len(crowd) > config.crowd:
            seen_by = [_landmarks(landmark_map, c) for c in crowd.tolist()]
            least = int(np.argmin([(seen[ids] < 3).sum() for ids in seen_by]))
            removed.append(int(crowd[least]))
            may_go[crowd[least]] = False
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


def _must_stay(landmark_map: LandmarkMap, end: int) -> np.ndarray:
    """Which keyframes may not go: those from place `end` on, and the first of each submap."""
    submap = np.array([k.submap for k in landmark_map.keyframes])
    stays = np.arange(len(submap)) >= end
    stays[np.unique(submap, return_index=True)[1]] = True
    return stays


def _others_as_near(landmark_map: LandmarkMap, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """How many other keyframes see the landmark of each observation from about as near, or nearer."""
    place, landmark = landmark_map.obs_keyframe[rows], landmark_map.obs_landmark[rows]
    ray = landmark_map.points[landmark] - landmark_map.poses[place, :3, 3]
    octaves = np.log2(np.maximum(np.linalg.norm(ray, axis=1), 1e-6))
    # One number per observation that sorts by landmark, then by distance.
    key = landmark * 100.0 + octaves
    ordered = np.sort(key)
    upto = np.searchsorted(ordered, key + np.log2(FARTHER), "right")
    return upto - np.searchsorted(ordered, landmark * 100.0 - 50.0) - 1
