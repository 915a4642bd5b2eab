"""Every frame's pose, kept relative to a keyframe, so that it moves when the keyframe is optimised."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from remov3r.backends.bundle_terms import adjoint, link_error
from remov3r.backends.landmark_map import Column, LandmarkMap, Renumbering
from remov3r.backends.pose_solver import Depths, PoseSolverConfig, refine_pose, reprojection_error
from remov3r.geometry import inverse, se3_exp, se3_log
from remov3r.types import Covariance, Pose, TrackingState

LEAST_POINTS = 6  # to measure a pose from
LONGEST_JUMP = 5  # frames; more in a row are the true course
JUMP_RAD, JUMP_OF_DEPTH = 0.02, 0.02  # by how much more than before a frame may leave the one before it
NO_LANDMARKS, NO_PIXELS = np.empty(0, np.int32), np.empty((0, 2), np.float32)  # shared: they hold nothing


@dataclass(slots=True)
class FrameRecord:
    """One frame: its pose in a keyframe's frame, and the landmarks it was measured from.

    Attributes:
        keyframe: its number, counting all that were ever made.
        covariance: of the pose as measured last against its landmarks; None where it was not.
        unit: how long the store's unit of length was when the pose was put in.
        pixels: float32, to keep long sequences small.
        depths: what a sensor measured there (`pose_solver.Depths`); None without one.
        is_keyframe: whether it ever was one: the landmarks of such a frame are kept.
        kept: the rows of the store that hold them, once it was measured for the last time.
    """

    keyframe: int
    T_key_cam: Pose
    state: TrackingState
    landmarks: Int[np.ndarray, " n"]
    pixels: Float[np.ndarray, "n 2"]
    unit: float = 1.0
    covariance: Covariance | None = None
    is_keyframe: bool = False
    depths: Float[np.ndarray, "n 2"] | None = None
    kept: slice | None = None


class TrajectoryStore:
    """Frame index → record; poses come out relative to the keyframes as they are now.

    A keyframe that was removed from the map is known by its number and by how it lay to the one that stands in.
    """

    def __init__(self, landmark_map: LandmarkMap) -> None:
        self._map = landmark_map
        self.records: dict[int, FrameRecord] = {}
        self._unit = 1.0
        self._unsettled: dict[int, FrameRecord] = {}
        self._kept_landmarks, self._kept_pixels = Column(np.int32), Column(np.float32, 2)  # -1: gone
        self._numbers = np.empty(0, int)  # of the map's keyframes, by place
        self._places = np.empty(0, int)  # by number: of the keyframe that stands there, or stands in
        self._T_place_number, self._units = np.empty((0, 4, 4)), np.empty(0)

    def put(
        self,
        frame_index: int,
        T_world_cam: Pose,
        state: TrackingState,
        landmarks: Int[np.ndarray, " n"],
        pixels: Float[np.ndarray, "n 2"],
        is_keyframe: bool = False,
        depths: Depths | None = None,
    ) -> None:
        """Store a frame relative to the latest keyframe."""
        self._meet(len(self._map.keyframes))
        number = int(self._numbers[-1])
        T_key_cam = inverse(self._keyframe_pose(number)) @ T_world_cam
        self.records[frame_index] = record = FrameRecord(
            number, T_key_cam, state, landmarks.astype(np.int32), pixels.astype(np.float32), self._unit,
            is_keyframe=is_keyframe,
            depths=None if depths is None else depths.astype(np.float32),
        )  # fmt: skip
        self._unsettled[frame_index] = record

    def seen_by(self, record: FrameRecord) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 2"]]:
        """Return the landmarks, as numbered now, that a frame was measured from, and the pixels it saw them at."""
        if record.kept is None:
            landmarks, pixels = record.landmarks, record.pixels
        else:
            landmarks, pixels = self._kept_landmarks.array[record.kept], self._kept_pixels.array[record.kept]
            left = landmarks >= 0
            landmarks, pixels = landmarks[left], pixels[left]
        return self._map.canonical(landmarks.astype(np.int64)), pixels.astype(np.float64)

    def pose(self, frame_index: int) -> Pose:
        """Return T_world_cam of a frame as it is now."""
        record = self.records[frame_index]
        T_key_cam = record.T_key_cam.copy()
        T_key_cam[:3, 3] *= self._unit / record.unit
        return self._keyframe_pose(record.keyframe) @ T_key_cam

    def poses(self) -> dict[int, Pose]:
        """Return T_world_cam of all frames, in order."""
        return {index: self.pose(index) for index in sorted(self.records)}

    def rescale(self, factor: float) -> None:
        """Multiply all translations; goes with `LandmarkMap.rescale`."""
        self._unit *= factor

    def stretch(self, log_factors: Float[np.ndarray, " ways"]) -> None:
        """Multiply ways from keyframes to their frames; goes with `scale_drift.stretch`."""
        self._meet(len(log_factors) + 1)
        factors = np.exp(np.append(log_factors, log_factors[-1]))[self._places]
        self._units /= factors
        for record in self.records.values():
            record.unit /= float(factors[record.keyframe])

    def renumber(self, numbers: Renumbering) -> None:
        """Follow what was removed from the map: frames keep their poses and the landmarks that are left."""
        self._meet(len(numbers.places))
        holding = [r for r in self._unsettled.values() if len(r.landmarks)]
        ends = np.cumsum([len(r.landmarks) for r in holding])[:-1]
        old = np.concatenate([r.landmarks for r in holding]) if holding else np.empty(0, int)
        new = numbers.landmarks[old].astype(np.int32)
        for record, landmarks in zip(holding, np.split(new, ends)):
            left = landmarks >= 0
            record.landmarks, record.pixels = landmarks[left], record.pixels[left]
            record.depths = None if record.depths is None else record.depths[left]
        kept = self._kept_landmarks.array
        kept[:] = np.append(numbers.landmarks, -1)[kept]  # what is gone stays so
        moved = np.flatnonzero(~numbers.stays[self._places])
        self._T_place_number[moved, :3, 3] *= (self._unit / self._units[moved])[:, None]
        self._T_place_number[moved] = numbers.T_new_old[self._places[moved]] @ self._T_place_number[moved]
        self._units[moved] = self._unit
        self._numbers = self._numbers[numbers.stays]
        self._places = numbers.places[self._places]

    def settle(self, held: int, config: PoseSolverConfig) -> list[int]:
        """Measure all but the latest frames again, once and for all, and forget what they were measured from.

        Args:
            held: so many frames keep what they were measured from.
        Returns:
            the frames that would have jumped.
        """
        old = list(self._unsettled)[:-held]
        if not old:
            return []
        jumped = self._refine(old, config)
        for index in old:
            record = self._unsettled.pop(index)
            if record.is_keyframe:
                start = len(self._kept_landmarks.array)
                record.kept = slice(start, start + len(record.landmarks))
                self._kept_landmarks.append(record.landmarks)
                self._kept_pixels.append(record.pixels)
            record.landmarks, record.pixels, record.depths = NO_LANDMARKS, NO_PIXELS, None
        return jumped

    def refine(self, config: PoseSolverConfig) -> list[int]:
        """Measure every tracked frame that still holds landmarks again, against these as they are now.

        Frames that would jump against their neighbours, and those that fit few of their landmarks, stay where
        they are relative to their keyframe.

        Returns:
            the frames that would have jumped.
        """
        return self._refine(sorted(self.records), config)

    def _refine(self, indices: list[int], config: PoseSolverConfig) -> list[int]:
        keyframes = {k.frame_index for k in self._map.keyframes}
        observed = (
            np.bincount(self._map.obs_landmark[self._map.obs_good], minlength=len(self._map.points)) > 0
        )
        measured: dict[int, Pose] = {}
        for index in indices:
            record = self.records[index]
            found = None if index in keyframes else self._measured(index, record, observed, config)
            if found is not None:
                measured[index], record.covariance = found
        jumped = self._jumps(measured, indices)
        for index, T in measured.items():
            record = self.records[index]
            if index not in jumped:
                self._move(record, T)
            elif record.covariance is not None:  # the two measurements of it differ by so much
                gap = link_error(self.pose(index)[None], T[None])[0]
                record.covariance = record.covariance + np.outer(gap, gap)
        return jumped

    def covariances(self, of_keyframes: Float[np.ndarray, "k 6 6"]) -> dict[int, Covariance]:
        """Return the covariance of every measured frame: its keyframe's, carried over, and its own.

        Args:
            of_keyframes: rotation first, then translation, in the keyframe's own frame; NaN = not known.
        """
        out: dict[int, Covariance] = {}
        for index, record in self.records.items():
            place = self._places[record.keyframe]
            keyframe, of_keyframe = self._map.keyframes[place], of_keyframes[place]
            if np.isnan(of_keyframe).any():
                continue
            if index == keyframe.frame_index:
                out[index] = of_keyframe
            elif record.covariance is not None:
                A = adjoint(inverse(self.pose(index)) @ keyframe.T_world_cam)
                out[index] = A @ of_keyframe @ A.T + record.covariance
        return out

    def _measured(
        self, index: int, record: FrameRecord, observed: np.ndarray, config: PoseSolverConfig
    ) -> tuple[Pose, Covariance] | None:
        """Solve a frame's pose, then again from what fits it; None when less than half does."""
        landmarks, pixels = self.seen_by(record)
        count, keep = len(landmarks), observed[landmarks]
        landmarks, pixels = landmarks[keep], pixels[keep]
        depths = None if record.depths is None else record.depths[keep].astype(np.float64)
        if len(landmarks) < LEAST_POINTS:
            return None
        T, points, spread = self.pose(index), self._map.points[landmarks], self._map.spread(landmarks)
        camera = self._map.camera
        T, _ = refine_pose(T, points, spread, pixels, camera, config, 1e-2, depths)
        limit = config.inlier_px * max(camera.width / 640, 0.5)
        fits = reprojection_error(T, points, pixels, camera) < limit
        if fits.sum() < max(LEAST_POINTS, 0.5 * count):
            return None
        depths = None if depths is None else depths[fits]
        return refine_pose(T, points[fits], spread[fits], pixels[fits], camera, config, depths=depths)

    def _jumps(self, measured: dict[int, Pose], order: list[int]) -> list[int]:
        """Runs of frames whose new poses leave both their neighbours, where their former ones do not."""
        former = np.stack([self.pose(i) for i in order])
        new = np.stack([measured.get(i, T) for i, T in zip(order, former)])
        change = link_error(new, former)
        step = np.abs(np.diff(change, axis=0))
        leaves = (step[:, :3].max(1) > JUMP_RAD) | (step[:, 3:].max(1) > JUMP_OF_DEPTH * self._depth_m())
        edges = [0, *(np.flatnonzero(leaves) + 1).tolist(), len(order)]
        jumped: list[int] = []
        for start, end in pairwise(edges):
            around = [n for n in (start, end) if 0 < n < len(order)]
            if end - start > LONGEST_JUMP or not around:
                continue
            kept = new.copy()
            kept[start:end] = former[start:end]
            if _length(kept, around) < _length(new, around):
                jumped += [i for i in order[start:end] if i in measured]
        return jumped

    def _depth_m(self) -> float:
        """Typical distance of landmarks from the keyframe that saw them first."""
        if len(self._map.points) == 0:
            return 1.0
        away = self._map.points - self._map.poses[self._map.anchor, :3, 3]
        return float(np.median(np.linalg.norm(away, axis=1)))

    def _move(self, record: FrameRecord, T_world_cam: Pose) -> None:
        record.T_key_cam = inverse(self._keyframe_pose(record.keyframe)) @ T_world_cam
        record.unit = self._unit

    def _meet(self, count: int) -> None:
        """Give numbers to keyframes that the map has got since; it holds so many now."""
        new = np.arange(len(self._numbers), count)
        self._numbers = np.append(self._numbers, len(self._places) + np.arange(len(new)))
        self._places = np.append(self._places, new)
        self._T_place_number = np.concatenate([self._T_place_number, np.tile(np.eye(4), (len(new), 1, 1))])
        self._units = np.append(self._units, np.full(len(new), self._unit))

    def _keyframe_pose(self, number: int) -> Pose:
        """T_world_cam of a keyframe as it is now, or would be if it were still in the map."""
        T = self._T_place_number[number].copy()
        T[:3, 3] *= self._unit / self._units[number]
        return self._map.keyframes[self._places[number]].T_world_cam @ T

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
                self._move(self.records[i], T_a @ se3_exp(motion * part))


def _length(T: Float[np.ndarray, "n 4 4"], at: list[int]) -> float:
    """How far it is, in metres plus radians, from the poses before some poses to these."""
    steps = se3_log(inverse(T[[n - 1 for n in at]]) @ T[at])
    return float(np.linalg.norm(steps[:, :3], axis=1).sum() + np.linalg.norm(steps[:, 3:], axis=1).sum())
