"""Pose a second video in the map of a first run: `remov3r relocalise`, and `relocalise` in Python."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from remov3r.backends.features import to_gray
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.localiser import Localiser
from remov3r.backends.place_map import MapKeeper
from remov3r.config import build
from remov3r.data.sources import open_source
from remov3r.errors import DataError
from remov3r.geometry import project_to_se3
from remov3r.pipelines.build import build_backend
from remov3r.pipelines.config import PipelineConfig
from remov3r.pipelines.export import put_trajectory
from remov3r.pipelines.output_folder import OutputFolder
from remov3r.pipelines.session_files import FOLDER, MANIFEST, SessionFolder
from remov3r.pipelines.terminal import ProgressBar, say
from remov3r.protocols import FrameSource
from remov3r.types import Pose, TrackingState, Trajectory


@dataclass(frozen=True)
class Relocalised:
    """Where the frames of a video were taken, in the world of the map.

    Attributes:
        frame_index, timestamps_s: of all frames.
        found: which of them were found; nothing is said about where the others were taken.
        trajectory: of the frames that were found.
    """

    frame_index: Int[np.ndarray, " n"]
    timestamps_s: Float[np.ndarray, " n"]
    found: Bool[np.ndarray, " n"]
    trajectory: Trajectory


def relocalise(
    session: str | Path, source: FrameSource, on_frame: Callable[[], None] | None = None
) -> Relocalised:
    """Pose every frame of a source in the map of a session; only its images are looked at.

    Args:
        session: output folder of a run, its session folder, or what `Slam.save` wrote.
        on_frame: called after each frame, for a progress bar.
    Raises:
        DataError: no session there, one without landmarks, of another version, or damaged; or a frame of the
            source cannot be read.
    """
    localiser = Localiser(load_map(session), source.camera)
    rows: list[tuple[int, float, Pose | None]] = []
    for frame in source:
        rows.append((frame.index, frame.timestamp_s, localiser.locate(to_gray(frame.rgb))))
        if on_frame:
            on_frame()
    found = [row for row in rows if row[2] is not None]
    poses = np.array([T for _, _, T in found], np.float64).reshape(-1, 4, 4)
    trajectory = Trajectory(
        np.array([index for index, _, _ in found], np.int64),
        np.array([time_s for _, time_s, _ in found], np.float64),
        project_to_se3(poses),
        np.zeros(len(found), bool),
        (TrackingState.OK,) * len(found),
    )
    index, times_s = (np.array([row[k] for row in rows]) for k in (0, 1))
    known = np.array([T is not None for _, _, T in rows], bool)
    return Relocalised(index.astype(np.int64), times_s.astype(np.float64), known, trajectory)


def load_map(session: str | Path) -> LandmarkMap:
    """Read the landmarks of a session, of a finished run or of one that was stopped.

    Raises:
        DataError: no session there, one without landmarks, of another version, or damaged.
    """
    path = Path(session)
    path = path / FOLDER if (path / FOLDER / MANIFEST).exists() else path
    folder = SessionFolder(path)
    manifest = folder.manifest()
    if manifest is None:
        raise DataError(f"{path}: no session there; give the --out folder of a `remov3r run`")
    state = folder.read(manifest)
    if manifest.finished:
        found = state["map"]
    else:
        backend = build_backend(build(PipelineConfig, manifest.config, f"{path}: configuration"))
        getattr(backend, "__setstate__", backend.__dict__.update)(state["backend"])
        found = backend.landmark_map() if isinstance(backend, MapKeeper) else None
    if not isinstance(found, LandmarkMap) or not found.keyframes:
        raise DataError(
            f"{path}: holds no landmarks; run with --backend bundle, or pose_graph with loop closure"
        )
    return found


def relocalise_command(arguments: argparse.Namespace) -> int:
    """Pose a video in a session's map and save where each frame was taken; 1 where none was found."""
    source = open_source(
        arguments.input,
        arguments.dataset,
        arguments.camera,
        arguments.start,
        arguments.stride,
        arguments.max_frames,
        fps=arguments.fps,
    )
    folder = OutputFolder(Path(arguments.out))
    with ProgressBar(len(source), "relocalising") as bar:
        result = relocalise(arguments.session, source, bar.advance)
    put_trajectory(folder, "trajectory.tum", result.trajectory)
    folder.put_text("frames.csv", _frames_csv(result))
    total, count = len(result.found), int(result.found.sum())
    say(
        f"{count} of {total} frames found; written to {folder.path}: trajectory.tum (those), frames.csv (all)"
    )
    if count == 0:
        sys.stderr.write(f"remov3r: no frame of {source.name} was found in the map of {arguments.session}\n")
    return int(count == 0)


def _frames_csv(result: Relocalised) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["frame_index", "timestamp_s", "state"])
    for index, t_s, found in zip(result.frame_index, result.timestamps_s, result.found):
        state = TrackingState.OK if found else TrackingState.LOST
        rows.writerow([int(index), repr(float(t_s)), state.value])
    return text.getvalue()
