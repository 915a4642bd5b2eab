"""The pose graph backend: keyframes tied by measured transforms and loops; takes any front end, needs no torch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from remov3r.backends.features import Gray, to_gray
from remov3r.backends.g2o import write_g2o
from remov3r.backends.gtsam_graph import PoseGraph
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.loop_closure import LoopCloser
from remov3r.backends.place_map import map_of_views
from remov3r.backends.pose_graph_config import LoopFinder, PoseGraphConfig
from remov3r.backends.pose_graph_depth import CoarseDepth, coarse_depth, grid_of, log_scale_between
from remov3r.backends.pose_graph_frames import FramePlace, FrameTable, place_in_world
from remov3r.backends.pose_graph_noise import assumed_covariance, contradict, floored, fused, isotropic
from remov3r.backends.pose_graph_refiner import KeyframeRefiner
from remov3r.backends.pose_graph_types import (
    Edge,
    Prior,
    in_metres,
    rigid_pose,
)
from remov3r.camera import Camera
from remov3r.errors import DataError
from remov3r.geometry import inverse
from remov3r.types import (
    Covariance,
    Frame,
    FrameEstimate,
    Pose,
    PoseKind,
    RelativePose,
    TrackedPose,
    TrackingState,
)

__all__ = ["PoseGraphBackend", "PoseGraphConfig"]

logger = logging.getLogger(__name__)

_SCARCE_SHARE = 0.75  # of a keyframe's points that are left where their small number alone asks for a new one
_UNMEASURED_M2 = 1.0  # a translation's variance from which on a front end measures no motion


class PoseGraphBackend:
    """Front end's transforms, refined where images allow, in a graph with loops; see `remov3r.protocols.Backend`.

    Args:
        loop_finder: makes the loop closure for a camera; None for this package's own.
    """

    def __init__(
        self,
        config: PoseGraphConfig | None = None,
        loop_finder: Callable[[Camera], LoopFinder] | None = None,
    ) -> None:
        self._config = config or PoseGraphConfig()
        self._graph = PoseGraph(self._config.graph)
        self._frames = FrameTable()
        self._make_loop_finder = loop_finder or (lambda camera: LoopCloser(camera, self._config.loops))
        self._loops: LoopFinder | None = None
        self._refiner: KeyframeRefiner | None = None
        self._camera: Camera | None = None
        self._gray: Gray = np.zeros((1, 1), np.uint8)
        self._depths: dict[int, CoarseDepth] = {}  # of keyframes, where these have their own scales
        self._key: int | None = None
        self._T_front_first: Pose | None = None
        self._globals = 0  # so many keyframes came with a place in the front end's world
        self._front_reference: tuple[int, Pose] | None = (
            None  # latest keyframe that it placed in its own world
        )
        self._place: tuple[int, FramePlace] | None = None  # of the frame last tracked
        self._T_key_last, self._T_key_tracked, self._step = np.eye(4), np.eye(4), np.eye(4)
        self._front_rate: Covariance | None = None  # as the front end stated it last, per frame
        self._missed, self._since_keyframe = 0, 0
        self._wanted, self._finished = False, False
        self._sort_loops_at = self._config.sort_loops_after
        self._notes: dict[str, None] = {}

    def track(self, frame: Frame, estimate: FrameEstimate) -> TrackedPose:
        """Give the online pose of a frame; the first one is the world's origin."""
        self._gray = to_gray(frame.rgb)
        if self._camera is None:
            self._start(frame.camera)
        if self._key is None:
            self._wanted = True
            place = FramePlace(frame.index, np.eye(4), np.zeros((6, 6)), PoseKind.LOCAL, TrackingState.OK)
            self._place = (frame.index, place)
            return self._answer(frame, place, np.eye(4), False)
        self._since_keyframe += 1
        place = self._measured(frame.index, estimate)
        self._frames.put(frame.index, place)
        self._place = (frame.index, place)
        T_world_cam = place_in_world(self._graph.state(place.key_index), place.T_key_cam)
        T_key_cam = self._in_latest(place)
        self._step = inverse(self._T_key_last) @ T_key_cam if self._missed == 0 else np.eye(4)
        self._T_key_last = T_key_cam
        return self._answer(frame, place, T_world_cam, False)

    def wants_keyframe(self) -> bool:
        """Whether the frame last tracked must become a keyframe."""
        return self._wanted

    def add_keyframe(self, frame: Frame, estimate: FrameEstimate) -> TrackedPose:
        """Make the frame last tracked a keyframe, look for loops from it and optimise.

        Raises:
            DataError: the frame was not the last one tracked, or its estimate has no dense prediction.
        """
        if self._place is None or self._place[0] != frame.index:
            raise DataError(f"frame {frame.index}: add_keyframe() comes after track()")
        if estimate.dense is None:
            raise DataError(f"frame {frame.index}: a keyframe's estimate must hold a dense prediction")
        place = self._place[1]
        if self._config.graph.similarity:
            self._depths[frame.index] = coarse_depth(estimate.dense)
        if self._key is None:
            self._graph.add_pose(frame.index, np.eye(4))
        else:
            self._tie(frame.index, place)
        self._take_global(estimate, place.kind)
        self._key = frame.index
        self._find_loops(frame.index, estimate)
        self._optimise(frame.index)
        own = FramePlace(frame.index, np.eye(4), np.zeros((6, 6)), place.kind, place.state)
        self._frames.put(frame.index, own)
        assert self._refiner is not None
        self._refiner.restart(frame.index, self._gray, estimate.dense)
        self._T_key_last, self._T_key_tracked = np.eye(4), np.eye(4)
        self._missed, self._since_keyframe, self._wanted = 0, 0, False
        return self._answer(frame, place, self._graph.state(frame.index).T_world_key, True)

    def finish(self) -> tuple[str, ...]:
        """Optimise everything at once, wrong loops left out; return what was degraded."""
        if not self._finished:
            self._finished = True
            result = self._graph.close()
            if not result.accepted:
                self._note("closing optimisation rejected: the last good state was kept")
            if result.wrong_loops:
                self._note(
                    f"{result.wrong_loops} of {result.loops} loops contradict the rest and were left out"
                )
            if result.sigma_factor > 1:
                self._note(
                    f"transforms between keyframes are {result.sigma_factor:g} times worse than they say"
                )
        return tuple(self._notes)

    def poses(self) -> dict[int, Pose]:
        """Return T_world_cam of every tracked frame, relative to its keyframe as optimised last."""
        return self._frames.poses(self._graph.states())

    def covariances(self) -> dict[int, Covariance]:
        """Return the covariance of T_world_cam of every tracked frame: its keyframe's and its own together."""
        return self._frames.covariances(self._graph.states(), self._graph.covariances())

    def loops(self) -> tuple[RelativePose, ...]:
        """Return the loops that hold the graph together; those found wrong are left out."""
        kept = (e for e, wrong in zip(self._graph.loops, self._graph.wrong) if not wrong)
        return tuple(
            RelativePose(e.from_index, e.to_index, e.T_from_to, PoseKind.LOOP, e.covariance) for e in kept
        )

    def landmarks(self, frame_index: int) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
        """Return no landmarks; where keyframes have their own scales, a grid of pixels and rescaled z-depth."""
        coarse = self._depths.get(frame_index)
        if coarse is None or self._camera is None:
            return np.empty((0, 2)), np.empty(0)
        pixels, depth_m = grid_of(coarse, self._camera)
        return pixels, depth_m * self._graph.state(frame_index).scale

    def landmark_map(self) -> LandmarkMap | None:
        """Return what loop closure keeps of the keyframes, where these are now; None without loop closure."""
        if not isinstance(self._loops, LoopCloser) or self._camera is None:
            return None
        states = self._graph.states()
        scales = {index: state.scale for index, state in states.items()}
        poses = {index: state.T_world_key for index, state in states.items()}
        return map_of_views(self._camera, self._loops.state(), poses, scales)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle keeps: all but the maker of the loop closure."""
        return {name: value for name, value in vars(self).items() if name != "_make_loop_finder"}

    def write_g2o(self, path: Path) -> None:
        """Write the graph as optimised last, loops that were found wrong left out; see `remov3r.backends.g2o`."""
        states = self._graph.states()
        right = [e for e, wrong in zip(self._graph.loops, self._graph.wrong) if not wrong]
        edges = [in_metres(e, states[e.from_index].scale) for e in [*self._graph.edges, *right]]
        write_g2o(path, {index: s.T_world_key for index, s in states.items()}, edges)

    def _start(self, camera: Camera) -> None:
        config = self._config
        self._camera = camera
        self._refiner = KeyframeRefiner(camera, config.tracker, config.noise, config.graph.similarity)
        self._loops = self._make_loop_finder(camera) if config.loop_closure else None

    def _measured(self, frame_index: int, estimate: FrameEstimate) -> FramePlace:
        """Place a frame by its image, else by the front end, else by what it looks like, else by its motion."""
        assert self._key is not None
        assert self._refiner is not None
        front_end = self._front_end(estimate)
        textured = float(self._gray.std()) > self._config.blank_contrast
        if textured:
            guesses = [self._T_key_last @ self._step]
            if front_end is not None:
                guesses.append(self._in_latest(front_end))
            found = self._refiner.refine(self._gray, self._T_key_tracked, guesses)
            if found is not None:
                self._missed, self._T_key_tracked = 0, found[0]
                self._wanted = self._keyframe_due()
                if front_end is not None and self._front_rate is not None:
                    doubtful = self._refiner.followed() < self._config.sure_share
                    found = fused(*found, self._in_latest(front_end), front_end.covariance, doubtful)
                return FramePlace(self._key, *found, PoseKind.REFINED, TrackingState.OK)
        self._wanted = textured and self._since_keyframe >= self._config.keyframe_frames
        if front_end is not None:
            self._missed = 0
            return front_end
        return self._unmeasured(frame_index, textured)

    def _unmeasured(self, frame_index: int, textured: bool) -> FramePlace:
        """Look a frame up, or hold its pose by the motion so far for a few frames; then it is lost."""
        assert self._key is not None
        self._missed += 1
        lost = self._missed > self._config.weak_frames or not textured
        if textured and self._loops is not None:
            found = self._loops.relocalise(self._gray, None)
            if found is not None and found.from_index in self._graph:
                self._wanted = True
                self._note(f"frame {frame_index}: found again from keyframe {found.from_index}")
                covariance = self._covariance_of(found)
                return FramePlace(
                    found.from_index, found.T_from_to, covariance, PoseKind.LOOP, TrackingState.OK
                )
        if self._missed == self._config.weak_frames + 1:
            self._note(f"frame {frame_index}: tracking lost")
        self._wanted = textured and self._missed >= self._config.restart_after_frames
        T = self._T_key_last if lost else self._T_key_last @ self._step
        held = isotropic(self._config.noise.held_rad, self._config.noise.held_m)
        return FramePlace(
            self._key, T, held, PoseKind.LOCAL, TrackingState.LOST if lost else TrackingState.WEAK
        )

    def _front_end(self, estimate: FrameEstimate) -> FramePlace | None:
        """How the front end says that a frame lies to the latest keyframe; None where it does not measure."""
        assert self._key is not None
        covariance, noise = estimate.covariance, self._config.noise
        if covariance is not None and not np.trace(covariance[3:, 3:]) < _UNMEASURED_M2:
            return None
        if estimate.is_keyframe:
            return self._placed_by_world(estimate)
        T = self._checked(estimate.T_key_cam, estimate.frame_index)
        if T is None or estimate.keyframe_index not in self._graph:
            return None
        if covariance is None:
            known = assumed_covariance(T, noise)
        else:
            known = floored(covariance, noise)
            self._front_rate = covariance / max(self._since_keyframe, 1)
        return FramePlace(estimate.keyframe_index, T, known, PoseKind.LOCAL, TrackingState.WEAK)

    def _placed_by_world(self, estimate: FrameEstimate) -> FramePlace | None:
        """Where a front end's new keyframe lies to its last one, by their places in its own world."""
        T_world_key = self._checked(estimate.T_world_key, estimate.frame_index)
        if T_world_key is None or self._front_reference is None:
            return None
        key, T_reference = self._front_reference
        T = inverse(T_reference) @ T_world_key
        known = assumed_covariance(T, self._config.noise)
        if self._front_rate is not None:
            known = floored(self._front_rate * self._since_keyframe, self._config.noise)
        return FramePlace(key, T, known, PoseKind.GLOBAL, TrackingState.WEAK)

    def _checked(self, T: Pose | None, frame_index: int) -> Pose | None:
        """Return a front end's transform with an exact rotation; None, and a note, where it is none."""
        try:
            return None if T is None else rigid_pose(T, "front end")
        except DataError as error:
            self._note(f"{error}; the transform was not used (first at frame {frame_index})", str(error))
            return None

    def _keyframe_due(self) -> bool:
        """Few points are left, few of the keyframe's, or many frames have passed; the latter two only if it moves."""
        assert self._refiner is not None
        config = self._config
        followed = self._refiner.followed()
        scarce = config.keyframe_survivors / 2 * config.tracker.features.corners / max(self._refiner.count, 1)
        if followed < min(scarce, _SCARCE_SHARE):
            return True
        if self._refiner.motion_px() < config.keyframe_min_motion_px * self._gray.shape[1] / 640:
            return False
        return followed < config.keyframe_survivors or self._since_keyframe >= config.keyframe_frames

    def _tie(self, index: int, place: FramePlace) -> None:
        """Add a keyframe where it was measured to be, and the measurement."""
        assert self._key is not None
        state = self._graph.state(place.key_index)
        edge = self._edge(
            place.key_index, index, place.T_key_cam, place.covariance, self._config.noise.scale_drift
        )
        T_world_key = place_in_world(state, place.T_key_cam)
        self._graph.add_pose(index, T_world_key, state.scale * float(np.exp(edge.log_scale)))
        if place.kind is not PoseKind.LOOP:
            self._graph.add_between(edge)
            return
        self._graph.add_loop(edge)
        held = isotropic(self._config.noise.held_rad, self._config.noise.held_m)
        self._graph.add_between(Edge(self._key, index, self._relative_to(self._key, T_world_key), held))

    def _take_global(self, estimate: FrameEstimate, kind: PoseKind) -> None:
        """Use the front end's place in the world as a loose prior, where the keyframe was not placed by it.

        Its errors are all alike: each such place counts for less than the one before, and for nothing where it
        contradicts what was measured.
        """
        T = self._checked(estimate.T_world_key, estimate.frame_index)
        if T is None:
            return
        if self._key is None:
            self._T_front_first = T
        elif self._T_front_first is not None and kind is not PoseKind.GLOBAL:
            T_world_key = inverse(self._T_front_first) @ T
            covariance = isotropic(self._config.noise.global_rad, self._config.noise.global_m)
            measured = self._graph.state(estimate.frame_index).T_world_key
            self._globals += 1
            if not contradict(T_world_key, covariance, measured, np.zeros((6, 6))):
                self._graph.add_prior(Prior(estimate.frame_index, T_world_key, covariance * self._globals))
        self._front_reference = estimate.frame_index, T

    def _find_loops(self, index: int, estimate: FrameEstimate) -> None:
        if self._loops is None or estimate.dense is None:
            return
        self._loops.add(index, self._gray, estimate.dense, estimate.pose_embedding)
        for loop in self._loops.detect():
            covariance = self._covariance_of(loop)
            try:
                self._graph.add_loop(
                    self._edge(loop.from_index, loop.to_index, loop.T_from_to, covariance, np.inf)
                )
            except DataError as error:
                self._note(f"{error}; it was not used")

    def _optimise(self, index: int) -> None:
        result = self._graph.optimise()
        if not result.accepted:
            self._note(f"frame {index}: optimisation rejected; the last good state was kept")
        if result.loops >= self._sort_loops_at:
            self._sort_loops_at = result.loops + max(result.loops // 2, 1)
            self._graph.close()

    def _edge(
        self, from_index: int, to_index: int, T: Pose, covariance: Covariance, unknown_sigma: float
    ) -> Edge:
        """Make an edge, with the ratio of the scales where keyframes have their own."""
        found = None
        if from_index in self._depths and to_index in self._depths and np.isfinite(T).all():
            first, second = self._depths[from_index], self._depths[to_index]
            found = log_scale_between(first, second, T, self._config.noise.least_log_scale)
        return Edge(from_index, to_index, T, covariance, *(found or (0.0, unknown_sigma)))

    def _covariance_of(self, loop: RelativePose) -> Covariance:
        noise = self._config.noise
        if loop.covariance is None:
            return assumed_covariance(loop.T_from_to, noise)
        return floored(loop.covariance, noise)

    def _relative_to(self, key: int, T_world_cam: Pose) -> Pose:
        state = self._graph.state(key)
        T = inverse(state.T_world_key) @ T_world_cam
        T[:3, 3] /= state.scale
        return T

    def _in_latest(self, place: FramePlace) -> Pose:
        """Return a frame's transform to the latest keyframe."""
        assert self._key is not None
        if place.key_index == self._key:
            return place.T_key_cam
        return self._relative_to(
            self._key, place_in_world(self._graph.state(place.key_index), place.T_key_cam)
        )

    def _answer(self, frame: Frame, place: FramePlace, T_world_cam: Pose, is_keyframe: bool) -> TrackedPose:
        relative = RelativePose(place.key_index, frame.index, place.T_key_cam, place.kind, place.covariance)
        return TrackedPose(frame.index, frame.timestamp_s, T_world_cam, place.state, is_keyframe, relative)

    def _note(self, text: str, kind: str | None = None) -> None:
        """Keep a note; of one kind only the first."""
        if kind is None or not any(note.startswith(kind) for note in self._notes):
            logger.info(text)
            self._notes[text] = None
