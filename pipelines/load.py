"""Read an output directory back into a `Reconstruction`."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from remov3r.data.tum_trajectory import read_tum
from remov3r.errors import DataError
from remov3r.pipelines.keyframe_files import FOLDER, read_keyframe
from remov3r.pipelines.ply import read_ply
from remov3r.types import Mesh, PointCloud, Reconstruction, StageTiming, Timings, TrackingState


def load_reconstruction(path: Path) -> Reconstruction:
    """Load what `save_reconstruction` wrote; half-precision rounding aside it is the same.

    Raises:
        DataError: the directory is not a finished output, or a file in it is damaged.
    """
    if not (path / "trajectory.tum").is_file():
        raise DataError(f"{path}: no trajectory.tum there; give the --out folder of a finished `remov3r run`")
    try:
        index, is_keyframe, states = _read_frames(path / "frames.csv")
        summary = json.loads((path / "summary.json").read_text())
        timings = json.loads((path / "timings.json").read_text())
        stages = {name: StageTiming(**stage) for name, stage in timings["stages"].items()}
        scale = str(summary["scale"])
        final, online = (
            replace(
                read_tum(path / name), frame_index=index, is_keyframe=is_keyframe, state=states, scale=scale
            )
            for name in ("trajectory.tum", "trajectory_online.tum")
        )
        final = replace(final, covariances=_read_covariances(path / "covariances.npz"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a complete output of `remov3r run`: {error}") from error
    keyframes = tuple(read_keyframe(file) for file in sorted((path / FOLDER).glob("[0-9]*.npz")))
    mesh = read_ply(path / "mesh.ply") if (path / "mesh.ply").exists() else None
    cloud = read_ply(path / "cloud.ply") if (path / "cloud.ply").exists() else None
    return Reconstruction(
        final,
        online,
        keyframes,
        Timings(timings["frames_per_s"], stages, timings["peak_rss_mb"] or float("nan")),
        mesh if isinstance(mesh, Mesh) else None,
        cloud if isinstance(cloud, PointCloud) else None,
        tuple(summary["notes"]),
    )


def read_source_name(path: Path) -> str:
    """Return what the output in a directory was made from.

    Raises:
        DataError: there is no readable summary.json.
    """
    try:
        return str(json.loads((path / "summary.json").read_text())["source"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}/summary.json: cannot be read: {error}") from error


def _read_frames(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[TrackingState, ...]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    index = np.array([int(row["frame_index"]) for row in rows], np.int64)
    is_keyframe = np.array([row["is_keyframe"] == "1" for row in rows], bool)
    return index, is_keyframe, tuple(TrackingState(row["state"]) for row in rows)


def _read_covariances(path: Path) -> np.ndarray | None:
    if not path.exists():
        return None
    with np.load(path) as archive:
        return archive["covariances"]
