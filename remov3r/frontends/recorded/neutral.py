"""The neutral format: a folder with a manifest and one .npz a frame (docs/recorded.md)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from remov3r.config import Config, build
from remov3r.errors import ConfigError, DataError
from remov3r.frontends.recorded.arrays import intrinsic_matrix, load_archive, with_shape
from remov3r.frontends.recorded.local_estimates import local_frames
from remov3r.frontends.recorded.recording import (
    Framing,
    LoadDense,
    Match,
    RecordedDense,
    RecordedFrame,
    Recording,
)
from remov3r.geometry import checked_pose
from remov3r.types import DepthMap, Pose

MANIFEST = "recording.json"
KEYFRAME = ".key.npz"


class Manifest(Config):
    """What `recording.json` holds.

    Attributes:
        poses: "world": each frame has T_world_cam; "local": each has keyframe_index and T_key_cam.
        match: whether frames are found by frame_index or by timestamp_s.
        frames: how many there are.
    """

    format: Literal["remov3r-recording"] = "remov3r-recording"
    version: Literal[1] = 1
    poses: Literal["world", "local"] = "world"
    scale: Literal["metric", "unknown"] = "unknown"
    match: Match = Match.INDEX
    framing: Framing = Framing.INTRINSICS
    frames: int = Field(0, ge=0)


@dataclass(frozen=True)
class NeutralFrame:
    """One frame to be written.

    Attributes:
        frame_index: index in the source.
        T_world_cam: camera to world, OpenCV axes; None where tracking was lost.
        K: intrinsics at the size of the maps; needed with either of them.
        depth_m: z-depth, 0 = missing.
        points_cam: points in the camera frame, in place of `depth_m` or besides it.
        is_keyframe: None where the front end has no keyframes.
    """

    frame_index: int
    timestamp_s: float
    T_world_cam: Pose | None
    K: Float[np.ndarray, "3 3"] | None = None
    depth_m: DepthMap | None = None
    points_cam: Float[np.ndarray, "h w 3"] | None = None
    confidence: DepthMap | None = None
    sigma_m: DepthMap | None = None
    is_keyframe: bool | None = None


def write_recording(
    path: str | Path,
    frames: Iterable[NeutralFrame],
    *,
    scale: Literal["metric", "unknown"],
    match: Match = Match.INDEX,
    framing: Framing = Framing.INTRINSICS,
) -> None:
    """Write a recording in the neutral format.

    Args:
        path: a folder that does not exist or is empty.
        scale: "metric" when lengths are metres.
        match: find frames by index, or by timestamp where the source's indices are not known.
        framing: how the maps lie in the source's images.
    Raises:
        DataError: the folder is not empty, a map comes without K, or a pose is not rigid.
    """
    folder, count = new_folder(Path(path)), 0
    for frame in frames:
        where = f"frame {frame.frame_index}"
        if (frame.depth_m is not None or frame.points_cam is not None) and frame.K is None:
            raise DataError(f"{where}: depth or points need the intrinsics K at their size")
        if frame.T_world_cam is not None:
            checked_pose(frame.T_world_cam, where)
        values = {name: value for name, value in vars(frame).items() if value is not None}
        np.savez(folder / frame_file(frame.frame_index), **values)
        count += 1
    put_manifest(folder, Manifest(scale=scale, match=match, framing=framing, frames=count))


def new_folder(path: Path) -> Path:
    """Make a folder for a recording.

    Raises:
        DataError: something is there already, or it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise DataError(f"{path}: not empty; give a new folder for the recording")
    except OSError as error:
        raise DataError(f"{path}: cannot be made: {error.strerror}") from error
    return path


def put_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest in one step."""
    new = folder / f"{MANIFEST}.new"
    new.write_text(json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n")
    os.replace(new, folder / MANIFEST)


def frame_file(frame_index: int) -> str:
    """Name the file of a frame."""
    return f"{frame_index:06d}.npz"


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a recording.

    Raises:
        DataError: missing, not JSON, of a later version, or with unknown keys or values.
    """
    try:
        tree = json.loads((folder / MANIFEST).read_text())
    except OSError as error:
        raise DataError(f"{folder / MANIFEST}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{folder / MANIFEST}: not JSON: {error}") from error
    try:
        return build(Manifest, tree, str(folder / MANIFEST))
    except ConfigError as error:
        raise DataError(str(error)) from error


def frame_files(folder: Path, manifest: Manifest) -> list[Path]:
    """List the files of the frames in order.

    Raises:
        DataError: there are not as many as the manifest says.
    """
    files = sorted(p for p in folder.glob("*.npz") if not p.name.endswith(KEYFRAME))
    if len(files) != manifest.frames:
        raise DataError(f"{folder}: holds {len(files)} frames, {MANIFEST} says {manifest.frames}")
    return files


def read_neutral(folder: Path) -> Recording:
    """Open a recording in the neutral format; dense geometry stays on disk.

    Raises:
        DataError: a file is missing or damaged, or holds what cannot be right; names it.
    """
    manifest = read_manifest(folder)
    files = frame_files(folder, manifest)
    if manifest.poses == "local":
        frames = local_frames(files, KEYFRAME, _dense_loader)
    else:
        frames = tuple(read_world_frame(file, manifest.match) for file in files)
        frames = tuple(sorted(frames, key=lambda frame: frame.number))
    return Recording("remov3r", folder, frames, manifest.match, manifest.framing, scale=manifest.scale)


def read_world_frame(file: Path, match: Match) -> RecordedFrame:
    """Read number, pose and keyframe mark of one frame.

    Raises:
        DataError: the file is damaged, or the pose is not rigid.
    """
    number = "frame_index" if match is Match.INDEX else "timestamp_s"
    values = load_archive(file, [number], ["T_world_cam", "is_keyframe"])
    T = checked_pose(values["T_world_cam"], str(file)) if "T_world_cam" in values else None
    is_keyframe = bool(values["is_keyframe"]) if "is_keyframe" in values else None
    at = float(with_shape(values[number], (), f"{file}: {number}"))
    return RecordedFrame(at, str(file), T, is_keyframe, _dense_loader(file))


def _dense_loader(file: Path) -> LoadDense:
    return lambda camera: read_dense(file)


def read_dense(file: Path) -> RecordedDense | None:
    """Read the maps of one frame, None where there are none.

    Raises:
        DataError: the file is damaged, or has maps but no K.
    """
    maps = ("depth_m", "confidence", "points_confidence", "sigma_m")
    values = load_archive(file, (), (*maps, "points_cam", "K"))
    points = values.get("points_cam")
    if points is not None:
        with_shape(points, (None, None, 3), f"{file}: points_cam")
    depth = values.get("depth_m", None if points is None else points[..., 2])
    if depth is None:
        return None
    if "K" not in values:
        raise DataError(f"{file}: has depth or points but no intrinsics K at their size")
    found = {
        name: with_shape(values[name], depth.shape, f"{file}: {name}") for name in maps if name in values
    }
    with_shape(depth, (None, None), f"{file}: depth_m")
    found["depth_m"] = depth
    if points is not None:
        with_shape(points, (*depth.shape, 3), f"{file}: points_cam")
    return RecordedDense(K=intrinsic_matrix(values["K"], f"{file}: K"), points_cam=points, **found)
