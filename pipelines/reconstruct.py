"""The whole pipeline: frames in, a reconstruction out. Read `Slam.track` and `Slam.finish`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from remov3r.backends.consistency import consistent
from remov3r.backends.depth_alignment import align_depth
from remov3r.backends.mapper import Mapper, View
from remov3r.backends.place_map import MapKeeper
from remov3r.config import build
from remov3r.errors import DataError, Remov3rError, TrackingError
from remov3r.pipelines.build import build_backend, build_front_end, use_threads
from remov3r.pipelines.config import PipelineConfig
from remov3r.pipelines.recording import Recording, grouped
from remov3r.pipelines.session import SessionKeeper, comparable
from remov3r.pipelines.session_files import Manifest, SessionFolder
from remov3r.pipelines.timing import StageTimer
from remov3r.protocols import Backend, FrameSource, FrontEnd, Telling
from remov3r.types import DensePrediction, Frame, Keyframe, Mesh, PointCloud, Reconstruction, TrackedPose

FRAMES_AHEAD = 6  # the front end encodes them while a keyframe is being mapped

OnFrame = Callable[[TrackedPose], None]
OnStage = Callable[[str], None]


class Slam:
    """Tracks frames as they come and, at the end, optimises and fuses what was seen.

    The world frame is the first camera. Ground truth in the frames is never looked at: their pose is taken
    off before anything sees them, and so is their depth unless the front end is the depth sensor.
    """

    def __init__(
        self, front_end: FrontEnd, backend: Backend, config: PipelineConfig, timer: StageTimer | None = None
    ) -> None:
        self._front_end = front_end
        self._backend = backend
        self._config = config
        self._timer = timer or StageTimer()
        self._mapper = Mapper(config.fusion) if config.mesh else None
        self._recording = Recording(config.keyframe_width)
        self._open = True

    @classmethod
    def from_config(cls, config: PipelineConfig, timer: StageTimer | None = None) -> Slam:
        """Build the front end and the backend that a configuration names, and set the number of threads.

        Raises:
            ConfigError: unknown front end, backend or weights.
            MissingDependencyError: a package is missing that the configuration needs.
        """
        use_threads(config.threads)
        return cls(build_front_end(config), build_backend(config), config, timer)

    def __enter__(self) -> Slam:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        self._recording.close()
        if self._mapper is not None:
            self._mapper.close()

    def __len__(self) -> int:
        """Return the number of frames tracked so far."""
        return len(self._recording)

    @classmethod
    def load(cls, folder: str | Path) -> Slam:
        """Build what `save` saved before the end, with its configuration; it goes on as if never stopped.

        Raises:
            DataError: no session there, a finished one, of another version, or damaged.
            ConfigError, MissingDependencyError: as `from_config`.
        """
        path = Path(folder)
        manifest = SessionFolder(path).manifest()
        if manifest is None or manifest.finished:
            what = "no session there" if manifest is None else "that run is finished"
            raise DataError(f"{path}: {what}; there is nothing to go on from")
        slam = cls.from_config(build(PipelineConfig, manifest.config, f"{path}: configuration"))
        slam.restore(SessionFolder(path).read(manifest))
        return slam

    def save(self, folder: str | Path) -> None:
        """Save everything that `load` needs to go on, or the finished map for relocalisation after `finish`.

        Frames that were only announced by `prepare` are not part of it.

        Raises:
            DataError: the disk refuses, or a plug-in holds what cannot be saved.
        """
        config = comparable(self._config)
        manifest = Manifest(source=None, config=config, frames_done=len(self), finished=not self._open)
        SessionFolder(Path(folder)).commit(manifest, self.state())

    def state(self) -> dict[str, Any]:
        """Return everything that the frames to come depend on; after `finish` the map alone."""
        if not self._open:
            return {"map": self._backend.landmark_map() if isinstance(self._backend, MapKeeper) else None}
        stages = {"front_end": self._front_end, "backend": self._backend, "recording": self._recording}
        return {name: stage.__getstate__() for name, stage in stages.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned of a run with the same configuration."""
        stages = {"front_end": self._front_end, "backend": self._backend, "recording": self._recording}
        for name, stage in stages.items():
            getattr(stage, "__setstate__", stage.__dict__.update)(state[name])

    def mesh(self) -> Mesh | None:
        """Return the live map's surface as it is now; None where there is none (see `live_map_keyframes`)."""
        return None if self._mapper is None else self._mapper.mesh()

    def prepare(self, frame: Frame) -> None:
        """Let the front end start on a frame that is tracked soon, while this one is; optional."""
        self._front_end.prepare(self._without_ground_truth(frame))

    def track(self, frame: Frame) -> TrackedPose:
        """Track one frame and return its online pose; hard images never raise, the state says how it went.

        Raises:
            TrackingError: the sequence is finished.
            DataError: the frame is not of the size of those before it.
        """
        self._check_open()
        frame = self._without_ground_truth(frame)
        with self._timer.stage("front_end"):
            estimate = self._front_end.process(frame)
        with self._timer.stage("tracking"):
            tracked = self._backend.track(frame, estimate)
        if estimate.is_keyframe or self._backend.wants_keyframe():
            with self._timer.stage("keyframe_depth"):
                estimate = estimate if estimate.is_keyframe else self._front_end.promote()
            with self._timer.stage("mapping"):
                tracked = self._backend.add_keyframe(frame, estimate)
            self._recording.add_keyframe(frame, estimate)
            self._follow_with_map()
        self._recording.add(tracked)
        self._timer.frame_done()
        return tracked

    def finish(self, on_stage: OnStage | None = None, notes: tuple[str, ...] = ()) -> Reconstruction:
        """Close the sequence: optimise, align the keyframes' depth, fuse.

        Args:
            on_stage: called with the name of each stage as it starts.
            notes: put before the pipeline's own.
        Raises:
            TrackingError: no frame was tracked, or the sequence is finished already.
        """
        self._check_open()
        self._recording.check_not_empty()
        self._open = False
        say = on_stage or (lambda name: None)
        say("closing optimisation")
        with self._timer.stage("closing_optimisation"):
            notes += grouped(self._backend.finish())
        poses = self._backend.poses()
        say("depth alignment")
        keyframes = tuple(self._aligned(keyframe) for keyframe in self._recording.keyframes(poses))
        say("fusion")
        mesh, cloud = (None, None) if self._mapper is None else self._fused(keyframes, self._mapper)
        notes += self._recording.notes(meshed=mesh is not None, wanted=self._config.mesh)
        notes += self._mapper.notes if self._mapper else ()
        telling = self._front_end if isinstance(self._front_end, Telling) else None
        notes += telling.notes() if telling else ()
        scale = telling.scale if telling else "metric"
        trajectory = replace(self._recording.trajectory(poses, self._backend.covariances()), scale=scale)
        online = replace(self._recording.online(), scale=scale)
        return Reconstruction(trajectory, online, keyframes, self._timer.timings(), mesh, cloud, notes)

    def _without_ground_truth(self, frame: Frame) -> Frame:
        depth_m = frame.depth_m if self._config.front_end == "sensor" else None
        return replace(frame, T_world_cam=None, depth_m=depth_m)

    def _aligned(self, keyframe: Keyframe) -> Keyframe:
        if self._config.front_end == "sensor":
            return keyframe  # measured depth is better than triangulated points
        with self._timer.stage("depth_alignment"):
            pixels, depth_m = self._backend.landmarks(keyframe.frame_index)
            camera = self._recording.camera
            aligned = align_depth(keyframe.dense, pixels, depth_m, camera, self._config.alignment)
            return replace(keyframe, aligned=aligned)

    def _consistent(self, keyframes: Sequence[Keyframe]) -> Sequence[DensePrediction]:
        aligned = [k.aligned for k in keyframes]
        if self._config.front_end == "sensor":
            return aligned  # measured depth needs no second opinion
        poses = np.array([k.T_world_cam for k in keyframes]).reshape(-1, 4, 4)
        return consistent(aligned, poses, self._config.consistency)

    def _follow_with_map(self) -> None:
        """Bring the live map to the keyframes' present poses, where one is wanted."""
        every = self._config.live_map_keyframes
        if self._mapper is None or not every or self._recording.keyframe_count % every:
            return
        with self._timer.stage("live_map"):
            self._mapper.update(
                View(k.frame_index, k.T_world_cam, k.dense, k.rgb)
                for k in self._recording.keyframes(self._backend.poses())
                if not self._recording.was_lost(k.frame_index)
            )

    def _fused(
        self, keyframes: tuple[Keyframe, ...], mapper: Mapper
    ) -> tuple[Mesh | None, PointCloud | None]:
        placed = [k for k in keyframes if not self._recording.was_lost(k.frame_index)]
        with self._timer.stage("consistency"):
            masked = self._consistent(placed)
        with self._timer.stage("fusion"):
            views = (View(k.frame_index, k.T_world_cam, d, k.rgb) for k, d in zip(placed, masked))
            mapper.update(views, final=True)
        with self._timer.stage("meshing"):
            mesh, cloud = mapper.mesh(), mapper.cloud()
        return mesh, cloud

    def _check_open(self) -> None:
        if not self._open:
            raise TrackingError("this sequence is finished; make a new Slam for the next one")


def read_ahead(frames: Iterable[Frame], announce: Callable[[Frame], None], depth: int) -> Iterator[Frame]:
    """Announce each frame `depth` frames before it is delivered; frames read before an error come before it."""
    waiting: deque[Frame] = deque()
    try:
        for frame in frames:
            announce(frame)
            waiting.append(frame)
            if len(waiting) > depth:
                yield waiting.popleft()
    except DataError:
        while waiting:
            yield waiting.popleft()
        raise
    yield from waiting


class StoppedEarlyError(Remov3rError):
    """The frames ended before their time; what was done until then is in `reconstruction`.

    Attributes:
        reconstruction: of the frames before the stop.
        cause: KeyboardInterrupt, or the DataError of the source.
    """

    def __init__(self, reconstruction: Reconstruction, cause: BaseException) -> None:
        super().__init__(reconstruction.notes[0])
        self.reconstruction = reconstruction
        self.cause = cause


def reconstruct(
    source: FrameSource,
    config: PipelineConfig,
    on_frame: OnFrame | None = None,
    on_stage: OnStage | None = None,
    session: SessionKeeper | None = None,
) -> Reconstruction:
    """Run the whole pipeline over a source.

    Args:
        on_frame: called with each tracked pose, for a progress bar.
        on_stage: called with the name of each closing stage as it starts.
        session: takes snapshots, and starts the run from the one it found.
    Raises:
        StoppedEarlyError: Ctrl-C, or a frame that cannot be read, after at least one frame was tracked; it
            carries the finished reconstruction of the frames before.
        DataError: the first frame cannot be read.
        TrackingError: the source has no frames.
    """
    timer = StageTimer()
    with Slam.from_config(config, timer) as slam:
        frames = source if session is None else session.begin(slam)
        try:
            for frame in read_ahead(timer.each("reading", frames), slam.prepare, FRAMES_AHEAD):
                tracked = slam.track(frame)
                if session is not None and session.due:
                    with timer.stage("session"):
                        session.snapshot()
                if on_frame:
                    on_frame(tracked)
        except (KeyboardInterrupt, DataError) as stop:
            if not len(slam):
                raise
            reason = "interrupted" if isinstance(stop, KeyboardInterrupt) else str(stop)
            note = f"stopped after {len(slam)} of {len(source)} frames: {reason}"
            raise StoppedEarlyError(slam.finish(on_stage, (note, *_notes(session))), stop) from stop
        return slam.finish(on_stage, _notes(session))


def _notes(session: SessionKeeper | None) -> tuple[str, ...]:
    return () if session is None else session.notes
