"""A front end's own estimates as files, one of the two kinds of poses of the neutral format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from remov3r.errors import DataError
from remov3r.frontends.recorded.arrays import load_archive, with_shape
from remov3r.frontends.recorded.recording import LoadDense, RecordedFrame, no_dense
from remov3r.geometry import checked_pose
from remov3r.types import FrameEstimate, Pose

_OPTIONAL = ("T_world_key", "pose_embedding", "covariance")


def estimate_arrays(estimate: FrameEstimate, timestamp_s: float) -> dict[str, np.ndarray]:
    """Lay an estimate out as named arrays."""
    values = {
        "frame_index": np.array(estimate.frame_index),
        "timestamp_s": np.array(timestamp_s),
        "keyframe_index": np.array(estimate.keyframe_index),
        "T_key_cam": estimate.T_key_cam,
    }
    optional = {name: getattr(estimate, name) for name in _OPTIONAL}
    values |= {name: value for name, value in optional.items() if value is not None}
    dense = estimate.dense
    if dense is not None:
        values |= {
            "K": dense.camera.K,
            "depth_m": dense.depth_m,
            "confidence": dense.depth_confidence,
            "points_cam": dense.points_cam,
            "points_confidence": dense.points_confidence,
            "sigma_m": dense.sigma_m,
        }
    return values


def read_estimate(file: Path) -> FrameEstimate:
    """Read an estimate without its dense geometry.

    Raises:
        DataError: the file is damaged, or holds what cannot be right.
    """
    names = ("frame_index", "keyframe_index", "T_key_cam")
    values = load_archive(file, names, _OPTIONAL)
    index, keyframe = (int(with_shape(values[name], (), f"{file}: {name}")) for name in names[:2])
    for name in ("T_key_cam", "T_world_key"):
        if name in values:
            checked_pose(values[name], f"{file}: {name}")  # but kept to the bit
    if "covariance" in values:
        with_shape(values["covariance"], (6, 6), f"{file}: covariance")
    world, embedding, covariance = (values.get(name) for name in _OPTIONAL)
    return FrameEstimate(index, keyframe, values["T_key_cam"], world, embedding, covariance)


@dataclass
class _World:
    """World poses put together from the estimates in their order."""

    T_last: Pose
    of_keyframe: dict[int, Pose]

    def place(self, estimate: FrameEstimate, file: Path) -> Pose:
        """Return T_world_cam of a frame and remember it where it is a keyframe."""
        if estimate.is_keyframe:
            T = self.T_last if estimate.T_world_key is None else estimate.T_world_key
            self.of_keyframe[estimate.frame_index] = T
        elif estimate.keyframe_index in self.of_keyframe:
            T = self.of_keyframe[estimate.keyframe_index] @ estimate.T_key_cam
        else:
            raise DataError(f"{file}: its keyframe {estimate.keyframe_index} is not in the recording")
        self.T_last = T
        return T


def local_frames(
    files: Sequence[Path], keyframe_suffix: str, dense_of: Callable[[Path], LoadDense]
) -> tuple[RecordedFrame, ...]:
    """Read the estimates of a whole recording.

    Args:
        files: of the frames in order; a file of the same name with `keyframe_suffix` holds the estimate after the
            backend made the frame a keyframe.
    Raises:
        DataError: a file is damaged, or a keyframe is missing.
    """
    world, frames = _World(np.eye(4), {}), []
    for file in files:
        estimate = read_estimate(file)
        T = world.place(estimate, file)
        key_file = file.with_name(file.stem + keyframe_suffix)
        promoted = read_estimate(key_file) if key_file.exists() else None
        if promoted is not None:
            world.place(promoted, key_file)
        holder = key_file if promoted is not None else file if estimate.is_keyframe else None
        load = no_dense if holder is None else dense_of(holder)
        frames.append(
            RecordedFrame(
                float(estimate.frame_index), str(file), T, estimate.is_keyframe, load, estimate, promoted
            )
        )
    return tuple(frames)
