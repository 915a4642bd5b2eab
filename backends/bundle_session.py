"""One run of the bundle backend: which frames are measured, held up or lost, and what each keyframe sets off."""

from __future__ import annotations

import logging

import numpy as np
from jaxtyping import Float
from pydantic import Field

from remov3r.backends.adjustment import (
    Adjustment,
    AdjustmentConfig,
    adjust_all,
    adjust_window,
    keyframe_covariances,
)
from remov3r.backends.covisibility import CovisibilityConfig, observe_covisible
from remov3r.backends.features import contrast, to_gray
from remov3r.backends.front_motion import FrontMotion, FrontMotionConfig, Said
from remov3r.backends.keyframing import KeyframeInserter, KeyframingConfig
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.loop_adjustment import adjust_loop
from remov3r.backends.map_culling import CullingConfig, MapCuller
from remov3r.backends.map_reuse import MapReuseConfig
from remov3r.backends.map_scale import settle_scale
from remov3r.backends.map_state import MapState
from remov3r.backends.pose_solver import PoseSolution
from remov3r.backends.scale_drift import ScaleDriftConfig, scale_drift, stretch
from remov3r.backends.tracking import NO_TRACKS, Tracker, TrackerConfig, Tracks, views_of
from remov3r.backends.trajectory_store import TrajectoryStore
from remov3r.camera import Camera
from remov3r.config import Config
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

logger = logging.getLogger(__name__)
SCARCE_SHARE = 0.75  # of a keyframe's points that are left where their small number alone asks for a new one


class BundleConfig(Config):
    """The bundle backend.

    Attributes:
        doubtful_share: of the corners wanted; where fewer followed points agree on a pose, the frame is looked up
            among the keyframes too.
    """

    tracker: TrackerConfig = TrackerConfig()
    map_reuse: MapReuseConfig = MapReuseConfig()
    adjustment: AdjustmentConfig = AdjustmentConfig()
    covisibility: CovisibilityConfig = CovisibilityConfig()
    keyframing: KeyframingConfig = KeyframingConfig()
    culling: CullingConfig = CullingConfig()
    front_motion: FrontMotionConfig = FrontMotionConfig()
    keyframe_survivors: float = Field(0.5, gt=0, lt=1)
    keyframe_frames: int = Field(20, ge=1)
    keyframe_min_motion_px: float = Field(6.0, ge=0)
    doubtful_share: float = Field(0.1, ge=0, lt=1)
    weak_frames: int = Field(5, ge=0)
    restart_after_frames: int = Field(8, ge=1)
    blank_contrast: float = Field(4.0, ge=0)
    scale_drift: ScaleDriftConfig = ScaleDriftConfig()
    online_scale: bool = True


class BundleSession:
    """State of one run over one camera's frames: `BundleBackend` from its first frame on."""

    def __init__(self, camera: Camera, config: BundleConfig) -> None:
        self._config = config
        self.map = LandmarkMap(camera)
        self.store = TrajectoryStore(self.map)
        self.wanted = True
        self.notes: list[str] = []
        self._tracker = Tracker(self.map, config.tracker)
        self._inserter = KeyframeInserter(
            self.map, config.tracker.features, config.tracker.pose, config.map_reuse, config.adjustment,
            config.keyframing,
        )  # fmt: skip
        self._culler = MapCuller(self.map, self.store, config.adjustment.window, config.culling)
        self._views = views_of(np.zeros((camera.height, camera.width), np.uint8))
        self._T_last, self._step = np.eye(4), np.eye(4)
        self._state = TrackingState.OK
        self._covariance: Covariance | None = None  # of the last pose, where it was tracked
        self._missed, self._since_keyframe, self._keyframe_count = 0, 0, 0
        self._since_loop = 0  # keyframes since the whole map was optimised
        self._lost, self._restart = False, False
        self._submap, self._submaps = 0, 0
        self._front = FrontMotion(self.store, config.front_motion)
        self._said: Said | None = None  # by the front end of the frame last tracked

    def track(self, frame: Frame, estimate: FrameEstimate) -> TrackedPose:
        """Give the online pose of a frame; the first one is the world's origin."""
        self._views = views_of(to_gray(frame.rgb))
        if not self.map.keyframes:
            return self._pose_of(frame, np.eye(4), TrackingState.OK, None)
        said = self._said = self._front.read(estimate)
        textured = contrast(self._views.gray) > self._config.blank_contrast
        solution = None
        if textured:
            guesses = [self._T_last @ self._step, *([] if said is None else [said.T_world_cam])]
            if not self._lost:
                solution = self._tracker.track(self._views, self._T_last, guesses, frame.depth_m)
            doubtful = self._config.doubtful_share * self._config.tracker.features.corners
            if solution is None or solution.inliers.sum() < doubtful:
                solution = self._recover(frame.index, solution) or solution
        if solution is None:
            return self._unmeasured(frame, said, textured)
        followed = len(self._tracker.tracks.landmarks) / max(self._keyframe_count, 1)
        if said is not None and self._front.overrules(said, solution, followed):
            return self._told(frame, said)
        return self._measured(frame, solution)

    def add_keyframe(self, frame: Frame, estimate: FrameEstimate) -> TrackedPose:
        """Insert the frame last tracked as keyframe and optimise around it.

        While tracking is lost nothing is inserted: such a frame stays an ordinary one, until the backend itself
        asks for a new start.

        Raises:
            DataError: the estimate has no dense prediction.
        """
        if estimate.dense is None:
            raise DataError(f"frame {frame.index}: a keyframe's estimate must hold a dense prediction")
        self._front.keyframe(estimate)
        if self._missed and not self._restart:
            return self._answer(frame, self._T_last, self._state, False, None)
        if self._restart:
            self._submaps += 1
            self._submap = self._submaps
            self._tracker.restart(self._views, NO_TRACKS, False)
            self._restart, self._missed, self._lost, self._state = False, 0, False, TrackingState.WEAK
            self._note(f"frame {frame.index}: tracking not regained; a new map starts at the last pose")
        insertion = self._inserter.insert(
            frame.index, self._views, self._T_last, self._tracker.tracks, estimate.dense, self._submap,
            self._covariance, frame.depth_m is not None, self._said,
        )  # fmt: skip
        if insertion.joined:
            self._submap = 0
            self._note(f"frame {frame.index}: the new map was joined to the old one")
        self._optimise(insertion.is_loop)
        self._tell_jumps(self._culler.keyframe_added(self._config.tracker.pose))
        self._follow()
        return self._answer(frame, self._T_last, self._state, True, None)

    def finish(self) -> None:
        """Optimise the whole map, settle its scale, and measure every frame again."""
        config = self._config
        results = adjust_all(self.map, config.adjustment) if len(self.map.keyframes) > 1 else []
        if results and all(r.accepted for r in results):
            results += self._take_out_drift()
        added = 0
        if results and all(r.accepted for r in results):
            added = observe_covisible(self.map, config.tracker.near, config.map_reuse, config.covisibility)
        if added:
            results += adjust_all(self.map, config.adjustment)
        if any(not r.accepted for r in results):
            self._note("closing bundle rejected: the map was kept as it was before it")
        for place in dict.fromkeys(p for r in results for p in r.put_back):
            frame = self.map.keyframes[place].frame_index
            self._note(f"frame {frame}: the closing bundle tore it off its neighbours; held as tracked")
        self.store.rescale(settle_scale(self.map, config.adjustment))
        self._tell_jumps(self.store.refine(config.tracker.pose))
        self.store.bridge_gaps()

    def _take_out_drift(self) -> list[Adjustment]:
        """Bring parts of the map that ended up at different scales to one, and optimise it again."""
        config = self._config.adjustment
        drift = scale_drift(self.map, config, config.solver.sigma_px, self._config.scale_drift)
        if drift is None:
            return []
        before = MapState(self.map)
        stretch(self.map, drift)
        results = adjust_all(self.map, config, passes=1)
        if not results or not all(r.accepted for r in results):
            before.restore()
            return results
        self.store.stretch(drift)
        self._note(f"scale drifted by {np.ptp(drift):.0%} along the way; taken out by what depth says of it")
        return results

    def covariances(self) -> dict[int, Covariance]:
        """Return the covariance of each measured frame; of keyframes alone before `finish`."""
        if len(self.map.keyframes) < 2:
            return {}
        return self.store.covariances(keyframe_covariances(self.map, self._config.adjustment))

    def landmarks(self, frame_index: int) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
        """Return pixels and z-depth in metres of the landmarks of a keyframe that three or more keyframes saw."""
        record = self.store.records.get(frame_index)
        if record is None or not record.is_keyframe:
            return np.empty((0, 2)), np.empty(0)
        places = self.map.places_of(frame_index)
        if places:
            rows = self.map.rows_of_keyframes(places)
            landmarks, pixels = self.map.obs_landmark[rows], self.map.obs_pixel[rows]
        else:  # no longer in the map
            landmarks, pixels = self.store.seen_by(record)
        T = self.store.pose(frame_index)
        z = (self.map.points[landmarks] - T[:3, 3]) @ T[:3, 2]
        seen = np.bincount(self.map.obs_landmark[self.map.obs_good], minlength=len(self.map.points))
        good = (seen[landmarks] >= 3) & (self.map.sigma_log[landmarks] < 0.1) & (z > 0)
        return pixels[good], z[good]

    def _measured(self, frame: Frame, solution: PoseSolution) -> TrackedPose:
        T = solution.T_world_cam
        if self._lost:
            self._note(f"frame {frame.index}: tracking regained")
        self._step = inverse(self._T_last) @ T if not self._missed else np.eye(4)
        self._missed, self._lost, self._restart = 0, False, False
        self._since_keyframe += 1
        answer = self._pose_of(frame, T, TrackingState.OK, solution)
        self.wanted = self._keyframe_due()
        return answer

    def _told(self, frame: Frame, said: Said) -> TrackedPose:
        """Believe the front end rather than what few points say, and start from a new keyframe there."""
        self._tracker.restart(self._views, NO_TRACKS, False)
        self._step = inverse(self._T_last) @ said.T_world_cam if not self._missed else np.eye(4)
        self._missed, self._lost, self._restart = 0, False, False
        self._since_keyframe += 1
        self.wanted = True
        return self._pose_of(frame, said.T_world_cam, TrackingState.WEAK, None)

    def _unmeasured(self, frame: Frame, said: Said | None, textured: bool) -> TrackedPose:
        """Hold the pose up by the front end or the motion so far for a few frames; then it is lost."""
        self._missed += 1
        self.wanted = False
        if self._missed <= self._config.weak_frames and textured:
            T = self._held_up(said)
            return self._pose_of(frame, T, TrackingState.WEAK, None)
        if not self._lost:
            self._note(f"frame {frame.index}: tracking lost")
        self._lost = True
        self._restart = self.wanted = textured and self._missed >= self._config.restart_after_frames
        sure = said is not None and said.covariance is not None
        T = said.T_world_cam if said is not None and sure else self._T_last
        return self._pose_of(frame, T, TrackingState.LOST, None)

    def _held_up(self, said: Said | None) -> Pose:
        """The front end's word, else what the images look like, else the motion so far."""
        if said is not None:
            return said.T_world_cam
        predicted = self._tracker.predicted
        return self._T_last @ self._step if predicted is None else predicted

    def _recover(self, frame_index: int, tracked: PoseSolution | None) -> PoseSolution | None:
        """Look the frame up among the keyframes; None too where as many points agree on the tracked pose."""
        found = self._inserter.look_up(self._views.gray)
        if found is None or (tracked is not None and len(found[0].rows) <= tracked.inliers.sum()):
            return None
        match, pixels = found
        self._submap = self.map.keyframes[match.place].submap
        self._tracker.restart(
            self._views, Tracks(self.map.canonical(match.landmarks), pixels[match.rows]), False
        )
        if not self._lost:
            self._note(f"frame {frame_index}: tracks broke and were found again from keyframes")
        return PoseSolution(match.T_world_cam, np.eye(6) * 1e-4, np.ones(len(match.rows), bool))

    def _keyframe_due(self) -> bool:
        """Few of the keyframe's points are left, or many frames have passed; never while nothing moves.

        Where there were never many points, a keyframe at every frame would not bring more.
        """
        followed = len(self._tracker.tracks.landmarks)
        scarce = self._config.keyframe_survivors * self._config.tracker.features.corners * 0.5
        if followed < min(scarce, SCARCE_SHARE * self._keyframe_count):
            return True
        moved = self._tracker.motion_px()
        least = self._config.keyframe_min_motion_px * self._views.gray.shape[1] / 640
        if moved < least:
            return False
        few = followed < self._config.keyframe_survivors * self._keyframe_count
        return few or self._since_keyframe >= self._config.keyframe_frames

    def _optimise(self, is_loop: bool) -> None:
        self._since_loop += 1
        loop = self._config.keyframing.loop
        if is_loop and self._since_loop >= loop.rest_keyframes:
            self._since_loop = 0
            closed = adjust_loop(self.map, self._config.adjustment, loop)
            what = "optimised" if closed.accepted else "optimisation rejected, kept as it was"
            self._note(f"frame {self.map.keyframes[-1].frame_index}: loop found; whole map {what}")
        result = adjust_window(self.map, self._config.adjustment)
        if result is not None and not result.accepted:
            self._note(f"frame {self.map.keyframes[-1].frame_index}: window optimisation rejected")
        if self._config.online_scale and len(self.map.keyframes) > 2:
            adjustment = self._config.adjustment
            self.store.rescale(settle_scale(self.map, adjustment, adjustment.window))

    def _follow(self) -> None:
        """Go on from the keyframe just inserted."""
        place = len(self.map.keyframes) - 1
        rows = self.map.rows_of_keyframes([place])
        landmarks, first = np.unique(self.map.obs_landmark[rows], return_index=True)
        tracks = Tracks(landmarks, self.map.obs_pixel[rows[first]])
        self._tracker.restart(self._views, tracks, True)
        keyframe = self.map.keyframes[place]
        self._T_last = keyframe.T_world_cam
        self._keyframe_count, self._since_keyframe, self.wanted = len(landmarks), 0, False
        self.store.put(
            keyframe.frame_index, self._T_last, self._state, tracks.landmarks, tracks.pixels, is_keyframe=True
        )

    def _pose_of(
        self, frame: Frame, T: Pose, state: TrackingState, solution: PoseSolution | None
    ) -> TrackedPose:
        self._T_last, self._state = T, state
        self._covariance = None if solution is None else solution.covariance
        if self.map.keyframes:
            tracks = self._tracker.tracks if solution is not None else NO_TRACKS
            self.store.put(frame.index, T, state, tracks.landmarks, tracks.pixels, depths=tracks.depths)
        return self._answer(frame, T, state, False, solution)

    def _answer(
        self, frame: Frame, T: Pose, state: TrackingState, is_keyframe: bool, solution: PoseSolution | None
    ) -> TrackedPose:
        keyframe = self.map.keyframes[-1] if self.map.keyframes else None
        from_index = frame.index if keyframe is None else keyframe.frame_index
        T_from_to = np.eye(4) if keyframe is None else inverse(keyframe.T_world_cam) @ T
        relative = RelativePose(
            from_index,
            frame.index,
            T_from_to,
            PoseKind.LOCAL if solution is None else PoseKind.REFINED,
            None if solution is None else solution.covariance,
            0 if solution is None else int(solution.inliers.sum()),
        )
        return TrackedPose(frame.index, frame.timestamp_s, T, state, is_keyframe, relative)

    def _tell_jumps(self, jumped: list[int]) -> None:
        if jumped:
            self._note(
                f"{len(jumped)} frames jumped when measured again (first {jumped[0]}): kept as tracked"
            )

    def _note(self, text: str) -> None:
        logger.info(text)
        self.notes.append(text)
