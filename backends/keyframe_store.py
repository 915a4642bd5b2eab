"""The keyframes of a long run: the latest in memory, the others in files, one each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np

from remov3r.backends.spilling import Codec, SpillingMap, load_arrays, save_arrays, write_whole
from remov3r.camera import Camera
from remov3r.errors import DataError
from remov3r.types import DensePrediction, Keyframe

VERSION = 1
MANIFEST = "keyframe_store.json"
MAPS = tuple(field.name for field in fields(DensePrediction) if field.name != "camera")


class KeyframeStore:
    """Keyframes by frame index, given back bit for bit, in the order in which they were first put.

    With a folder, every keyframe's file can be made whole there at any time (`flush`), and a later process
    that opens the folder finds them, in the order of their indices. Without one, a temporary folder takes
    what memory does not hold and is removed by `close`.
    """

    def __init__(self, in_memory: int = 32, folder: Path | None = None) -> None:
        """Open a store; a folder may hold keyframes of an earlier process, which are read on demand.

        Args:
            in_memory: how many keyframes stay in memory.
        Raises:
            DataError: the folder cannot be used, or was written by another version or by something else.
        """
        self._keyframes: SpillingMap[int, Keyframe] = SpillingMap(
            CODEC, in_memory, folder, keep=folder is not None
        )
        if folder is not None:
            _open_folder(folder)
            for path in sorted(folder.glob("*.npz")):
                if path.stem.isdecimal():
                    self._keyframes.adopt(int(path.stem))

    def __len__(self) -> int:
        return len(self._keyframes)

    def __contains__(self, frame_index: int) -> bool:
        return frame_index in self._keyframes

    def __iter__(self) -> Iterator[Keyframe]:
        """Yield the keyframes one after the other; those on disk are read and not kept in memory."""
        return map(self._keyframes.peek, self._keyframes)

    @property
    def indices(self) -> tuple[int, ...]:
        """The frame indices of all keyframes, in order."""
        return tuple(self._keyframes)

    @property
    def in_memory(self) -> int:
        """How many keyframes are in memory now."""
        return self._keyframes.in_memory

    @property
    def notes(self) -> tuple[str, ...]:
        """What went wrong, in words."""
        trouble = self._keyframes.trouble
        return (f"keyframes stay in memory: {trouble}",) if trouble else ()

    def put(self, keyframe: Keyframe) -> None:
        """Add a keyframe, or replace the one of that frame index. A full disk costs memory, never a keyframe.

        Raises:
            DataError: the frame index is negative.
        """
        if keyframe.frame_index < 0:
            raise DataError(f"keyframe {keyframe.frame_index}: a frame index is 0 or more")
        self._keyframes[keyframe.frame_index] = keyframe

    def get(self, frame_index: int) -> Keyframe:
        """Return a keyframe.

        Raises:
            KeyError: there is none of that index.
            DataError: its file is missing, truncated or damaged.
        """
        return self._keyframes[frame_index]

    def flush(self) -> None:
        """Write the files of the keyframes in memory too.

        Raises:
            DataError: the disk refuses.
        """
        self._keyframes.flush()

    def close(self) -> None:
        """Forget the keyframes and remove a temporary folder; files in a given folder stay (see `flush`)."""
        self._keyframes.close()


def _open_folder(folder: Path) -> None:
    manifest = folder / MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for half in folder.glob(".writing-*"):
            half.unlink()  # left by a process that was killed
        if not manifest.exists():
            if any(folder.iterdir()):
                raise DataError(f"{folder}: not empty and not a keyframe store; choose another folder")
            text = json.dumps({"format": "remov3r keyframes", "version": VERSION})
            write_whole(manifest, lambda file: file.write(text.encode()))
        version = json.loads(manifest.read_text(encoding="utf-8"))["version"]
    except OSError as error:
        raise DataError(f"{folder}: cannot be used for keyframes: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest}: damaged: {error}") from error
    if version != VERSION:
        raise DataError(f"{manifest}: version {version}, need {VERSION}; choose another folder")


def _save(file: BinaryIO, keyframe: Keyframe) -> None:
    arrays = {
        "frame_index": np.int64(keyframe.frame_index),
        "timestamp_s": np.float64(keyframe.timestamp_s),
        "T_world_cam": keyframe.T_world_cam,
        "rgb": keyframe.rgb,
        **_dense_arrays("dense", keyframe.dense),
    }
    if keyframe.aligned is not keyframe.dense:
        arrays |= _dense_arrays("aligned", keyframe.aligned)
    save_arrays(file, arrays)


def _load(file: BinaryIO) -> Keyframe:
    a = load_arrays(file)
    dense = _dense("dense", a)
    aligned = _dense("aligned", a) if "aligned_camera" in a else dense
    return Keyframe(
        int(a["frame_index"]), float(a["timestamp_s"]), a["rgb"], a["T_world_cam"], dense, aligned
    )


CODEC: Codec[int, Keyframe] = Codec(lambda index: f"{index:08d}.npz", _save, _load)


def camera_text(camera: Camera) -> str:
    """Write all of a camera's fields as one text, exactly."""
    return json.dumps(astuple(camera))


def camera_from_text(text: str) -> Camera:
    """Read what `camera_text` wrote."""
    width, height, fx, fy, cx, cy, distortion, coefficients = json.loads(text)
    return Camera(width, height, fx, fy, cx, cy, distortion, tuple(coefficients))


def _dense_arrays(prefix: str, dense: DensePrediction) -> dict[str, np.ndarray]:
    maps = {f"{prefix}_{name}": getattr(dense, name) for name in MAPS}
    return {f"{prefix}_camera": np.array(camera_text(dense.camera)), **maps}


def _dense(prefix: str, arrays: dict[str, np.ndarray]) -> DensePrediction:
    maps = {name: arrays[f"{prefix}_{name}"] for name in MAPS}
    return DensePrediction(camera=camera_from_text(str(arrays[f"{prefix}_camera"])), **maps)
