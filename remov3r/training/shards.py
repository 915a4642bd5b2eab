"""Training shards: uncompressed .npz files of clips, written atomically and read by memory mapping.

A shard holds c clips of t frames: rgb uint8 (c t h w 3), depth_mm uint16 (c t hd wd; z-depth, 0 = missing;
the same field of view as rgb at another size), K float32 (c t 3 3) of rgb, T_world_cam float32 (c t 4 4; NaN
where unknown). The pixels of a clip are read from the file when the clip is drawn, so memory stays flat
however many shards there are, and any clip can be drawn at any time.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8, UInt16

from remov3r.errors import DataError, ShapeError

log = logging.getLogger(__name__)

_FIELDS = {"rgb": np.uint8, "depth_mm": np.uint16, "K": np.float32, "T_world_cam": np.float32}
_TAILS = {"rgb": (5, (3,)), "depth_mm": (4, ()), "K": (4, (3, 3)), "T_world_cam": (4, (4, 4))}


@dataclass(frozen=True)
class Clips:
    """c clips of t frames each, as they stand in a shard."""

    rgb: UInt8[np.ndarray, "c t h w 3"]
    depth_mm: UInt16[np.ndarray, "c t hd wd"]
    K: Float[np.ndarray, "c t 3 3"]
    T_world_cam: Float[np.ndarray, "c t 4 4"]

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def frames(self) -> int:
        """Frames per clip."""
        return self.rgb.shape[1]

    def cut(self, start: int, frames: int) -> Clips:
        """Return the stretch of `frames` frames of each clip that begins at `start`."""
        part = slice(start, start + frames)
        return Clips(self.rgb[:, part], self.depth_mm[:, part], self.K[:, part], self.T_world_cam[:, part])


def write_shard(path: Path, clips: Clips) -> None:
    """Write one shard so that a reader sees all of it or nothing.

    Args:
        path: ends in .npz; its folder is created.
    Raises:
        ShapeError: the fields differ in clips or frames.
    """
    _check({name: getattr(clips, name) for name in _FIELDS})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # no reader looks for this name
    try:
        with part.open("wb") as stream:
            np.savez(stream, rgb=clips.rgb, depth_mm=clips.depth_mm, K=clips.K, T_world_cam=clips.T_world_cam)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def open_shard(path: Path) -> Clips:
    """Map a shard into memory; its pixels are read when they are used.

    Raises:
        DataError: the file is truncated, compressed, or not a shard.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {m.filename: m for m in archive.infolist()}
            arrays = {name: _mapped(path, members[f"{name}.npy"]) for name in _FIELDS}
        _check(arrays)
        return Clips(**arrays)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, ShapeError) as error:
        raise DataError(f"shard {path}: not readable as a shard: {error!r}") from error


def _check(arrays: Mapping[str, np.ndarray]) -> None:
    lead = arrays["rgb"].shape[:2]
    for name, dtype in _FIELDS.items():
        value, (ndim, tail) = arrays[name], _TAILS[name]
        if value.dtype != dtype or value.ndim != ndim or value.shape[:2] != lead:
            raise ShapeError(
                f"shard field {name}: {value.dtype} {value.shape} does not fit {lead} clips × frames"
            )
        if tail and value.shape[-len(tail) :] != tail:
            raise ShapeError(f"shard field {name}: shape {value.shape} must end in {tail}")


def _mapped(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """Map one uncompressed .npy member of a zip file."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    with path.open("rb") as stream:
        stream.seek(member.header_offset + 26)  # the local header's own lengths of file name and extra field
        skip = sum(int.from_bytes(stream.read(2), "little") for _ in range(2))
        stream.seek(member.header_offset + 30 + skip)
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(stream)
        if fortran or dtype.hasobject:
            raise ValueError(f"{member.filename} is not a plain C-ordered array")
        return np.memmap(path, dtype=dtype, mode="r", offset=stream.tell(), shape=shape)


class ShardSet:
    """The shards of one folder; `rescan` takes in those that were added since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards: dict[str, Clips] = {}
        self._refused: dict[str, int] = {}
        self._clips: list[tuple[str, int]] = []
        self.rescan()

    def rescan(self) -> None:
        """Open new shards; unreadable ones are left out with a warning that names them."""
        for path in sorted(self.folder.glob("*.npz")):
            size = path.stat().st_size
            if path.name in self._shards or self._refused.get(path.name) == size:
                continue
            try:
                self._shards[path.name] = open_shard(path)
            except DataError as error:
                self._refused[path.name] = size
                log.warning("skipped: %s", error)
        self._clips = [(name, i) for name in sorted(self._shards) for i in range(len(self._shards[name]))]

    def __len__(self) -> int:
        return len(self._clips)

    def clip(self, index: int, frames: int | None = None, rng: np.random.Generator | None = None) -> Clips:
        """Read one clip into memory (c = 1): a random stretch of `frames` of it, or all of it.

        Raises:
            DataError: the clip is too short.
        """
        name, i = self._clips[index]
        shard = self._shards[name]
        start, count = 0, shard.frames
        if frames is not None and rng is not None:
            if shard.frames < frames:
                raise DataError(
                    f"shard {name}: clips of {frames} frames wanted, its clips have {shard.frames}"
                )
            start, count = int(rng.integers(shard.frames - frames + 1)), frames
        part = (slice(i, i + 1), slice(start, start + count))
        return Clips(*(np.array(getattr(shard, field)[part]) for field in _FIELDS))
