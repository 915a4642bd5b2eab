"""Write a reconstruction as files under fixed names; `pipelines.load` reads them back."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from remov3r.config import Config
from remov3r.data.tum_trajectory import write_tum
from remov3r.pipelines.keyframe_files import write_keyframe
from remov3r.pipelines.output_folder import OutputFolder
from remov3r.pipelines.ply import write_ply
from remov3r.pipelines.provenance import code_version, package_versions
from remov3r.pipelines.toml_writer import dump_toml
from remov3r.types import Reconstruction, Timings, TrackingState, Trajectory

# Every name a run may write; what an earlier run left under these and the new one lacks is removed.
OWN_FILES = (
    *("trajectory.tum", "trajectory_online.tum", "keyframes.tum", "reference.tum", "frames.csv"),
    *("covariances.npz", "cloud.ply", "mesh.ply", "timings.json", "metrics.json", "config.toml"),
    *(
        "summary.json",
        "report.html",
        "trajectory.png",
        "errors.png",
        "keyframes/[0-9]*.npz",
        "keyframes/[0-9]*.jpg",
    ),
)


def save_reconstruction(
    folder: OutputFolder, result: Reconstruction, config: Config, source_name: str
) -> None:
    """Put everything a run produced into an output folder, the small and precious files first.

    Args:
        config: the resolved configuration.
        source_name: what was reconstructed, shown to people.
    Raises:
        DataError: the disk refuses; what was put before is safe.
    """
    trajectory = result.trajectory
    put_trajectory(folder, "trajectory.tum", trajectory)
    put_trajectory(folder, "trajectory_online.tum", result.online)
    put_trajectory(folder, "keyframes.tum", trajectory.keyframes())
    folder.put_text("frames.csv", _frames_csv(trajectory))
    header = f"# remov3r {code_version()}; usable as --config\n"
    folder.put_text("config.toml", header + dump_toml(config.model_dump(mode="json")))
    folder.put_text("timings.json", json_text(timings_tree(result.timings)))
    folder.put_text("summary.json", json_text(_summary(result, source_name)))
    if trajectory.covariances is not None:
        covariances = {"timestamps_s": trajectory.timestamps_s, "covariances": trajectory.covariances}
        folder.put("covariances.npz", lambda path: _save_arrays(path, covariances))
    for keyframe in result.keyframes:
        write_keyframe(folder, keyframe)
    if result.cloud is not None:
        cloud = result.cloud
        folder.put("cloud.ply", lambda path: write_ply(path, cloud))
    if result.mesh is not None:
        mesh = result.mesh
        folder.put("mesh.ply", lambda path: write_ply(path, mesh))


def put_trajectory(folder: OutputFolder, name: str, trajectory: Trajectory) -> None:
    """Put poses as a TUM file, `timestamp tx ty tz qx qy qz qw`, camera to world, metres."""
    folder.put(name, lambda path: write_tum(path, trajectory))


def timings_tree(timings: Timings) -> dict[str, Any]:
    """Return the content of `timings.json`."""
    return asdict(timings)


def json_text(tree: Mapping[str, Any]) -> str:
    """Return a tree as indented JSON; NaN and infinity, which JSON lacks, become null."""
    return json.dumps(_finite(tree), indent=2) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _frames_csv(trajectory: Trajectory) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["frame_index", "timestamp_s", "state", "is_keyframe"])
    columns = (trajectory.frame_index, trajectory.timestamps_s, trajectory.state, trajectory.is_keyframe)
    for index, t_s, state, is_keyframe in zip(*columns):
        rows.writerow([int(index), repr(float(t_s)), state.value, int(is_keyframe)])
    return text.getvalue()


def _summary(result: Reconstruction, source_name: str) -> dict[str, Any]:
    states = result.trajectory.state
    return {
        "source": source_name,
        "remov3r": code_version(),
        "packages": package_versions(),
        "frames": len(states),
        "keyframes": len(result.keyframes),
        "states": {state.value: states.count(state) for state in TrackingState},
        "scale": result.trajectory.scale,
        "covariances": "written"
        if result.trajectory.covariances is not None
        else "not known to this backend",
        "notes": list(result.notes),
    }


def _save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
