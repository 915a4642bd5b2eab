"""Every frame's pose, kept relative to a keyframe, so that it moves when the keyframe is optimised."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.pose_solver import PoseSolverConfig, refine_pose
from remov3r.geometry import inverse, se3_exp, se3_log
from remov3r.types import Pose, TrackingState


@dataclass
class FrameRecord:
    """One frame: its pose in a keyframe's frame, and the landmarks it was measured from.

    Attributes:
        place: the keyframe in the map.
        pixels: float32, to keep long sequences small.
    """

    place: int
    T_key_cam: Pose
    state: TrackingState
    landmarks: Int[np.ndarray, " n"]
    pixels: Float[np.ndarray, "n 2"]


class TrajectoryStore:
    """Frame index → record; poses come out relative to the keyframes as they are now."""

    def __init__(self, landmark_map: LandmarkMap) -> None:
        self._map = landmark_map
        self.records: dict[int, FrameRecord] = {}

    def put(
        self,
        frame_index: int,
        T_world_cam: Pose,
        state: TrackingState,
        landmarks: Int[np.ndarray, " n"],
        pixels: Float[np.ndarray, "n 2"],
    ) -> None:
        """Store a frame relative to the latest keyframe."""
        place = len(self._map.keyframes) - 1
        T_key_cam = inverse(self._map.keyframes[place].T_world_cam) @ T_world_cam
        self.records[frame_index] = FrameRecord(
            place, T_key_cam, state, landmarks.astype(np.int32), pixels.astype(np.float32)
        )

    def pose(self, frame_index: int) -> Pose:
        """Return T_world_cam of a frame as it is now."""
        record = self.records[frame_index]
        return self._map.keyframes[record.place].T_world_cam @ record.T_key_cam

    def poses(self) -> dict[int, Pose]:
        """Return T_world_cam of all frames, in order."""
        return {index: self.pose(index) for index in sorted(self.records)}

    def rescale(self, factor: float) -> None:
        """Multiply all translations; goes with `LandmarkMap.rescale`."""
        for record in self.records.values():
            T = record.T_key_cam.copy()
            T[:3, 3] *= factor
            record.T_key_cam = T

    def refine(self, config: PoseSolverConfig) -> None:
        """Measure every tracked frame again against the landmarks as they are now."""
        keyframes = {k.frame_index for k in self._map.keyframes}
        for index, record in self.records.items():
            if index in keyframes or len(record.landmarks) < 6:
                continue
            landmarks = self._map.canonical(record.landmarks.astype(np.int64))
            T_key = self._map.keyframes[record.place].T_world_cam
            T, _ = refine_pose(
                T_key @ record.T_key_cam,
                self._map.points[landmarks],
                self._map.spread(landmarks),
                record.pixels.astype(np.float64),
                self._map.camera,
                config,
            )
            record.T_key_cam = inverse(T_key) @ T

    def bridge_gaps(self) -> None:
        """Replace held poses between two measured ones by an even motion from one to the other."""
        indices = sorted(self.records)
        states = [self.records[i].state for i in indices]
        good = [n for n, state in enumerate(states) if state is TrackingState.OK]
        for a, b in pairwise(good):
            gap = indices[a + 1 : b]
            if not any(self.records[i].state is TrackingState.LOST for i in gap):
                continue
            T_a, T_b = self.pose(indices[a]), self.pose(indices[b])
            motion = se3_log(inverse(T_a) @ T_b)
            for i in gap:
                part = (i - indices[a]) / (indices[b] - indices[a])
                record = self.records[i]
                T_key = self._map.keyframes[record.place].T_world_cam
                record.T_key_cam = inverse(T_key) @ T_a @ se3_exp(motion * part)
