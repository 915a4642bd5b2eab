"""WebDataset shards: one tar file per sequence, and an index beside it that gives random access to its frames.

Sample SEQUENCE/000123 of a tar is frame 123: .jpg or .png (RGB), .depth.png (16 bit, millimetres along z, half
the image's size, 0 = missing) and .json (scene, timestamp_s, K of the image, T_world_cam or null). Any
WebDataset loader reads the files; training reads them through the index SEQUENCE.tar.index.npz, since an exact
resume needs any frame at any time. A tar without index is scanned. (The package `wids`, which gives such access
to WebDatasets, was split from `webdataset` and had its last release in February 2025.)
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Int

from remov3r.errors import DataError, MissingDependencyError
from remov3r.training.framing import TrainingFrame, clip_of
from remov3r.training.shards import Clips

ImageFormat = Literal["jpg", "png"]
# Colour at full resolution: the images are small already.
_JPEG = [
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
]
_PARTS = ("image", "depth", "json")
_END_BYTES = 1024  # zeros at the end of every complete tar file


@dataclass(frozen=True)
class TarIndex:
    """Where the parts of each frame lie in a tar file.

    Attributes:
        frame: index of the frame in its source, increasing.
        posed: whether its pose is known.
        offset, size: bytes of image, depth and description.
        tar_bytes: length of the tar file that was indexed.
    """

    sequence: str
    scene: str
    frame: Int[np.ndarray, " n"]
    posed: Bool[np.ndarray, " n"]
    offset: Int[np.ndarray, "n 3"]
    size: Int[np.ndarray, "n 3"]
    tar_bytes: int


def write_tar(
    path: Path, sequence: str, scene: str, frames: Iterable[TrainingFrame], image: ImageFormat = "jpg"
) -> int:
    """Write one sequence and its index so that a reader sees all of it or nothing; returns the frame count.

    Args:
        path: ends in .tar; its folder is created.
        image: "jpg" (quality 95, 4:4:4) or "png" (lossless).
    Raises:
        DataError: there are no frames.
        MissingDependencyError: the package webdataset is not installed.
    """
    webdataset = _load_webdataset()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    index_part = part.with_suffix(".index")
    count = 0
    try:
        with part.open("wb") as stream, webdataset.TarWriter(stream, encoder=False, mtime=0) as writer:
            for frame in frames:
                count += 1
                writer.write({"__key__": f"{sequence}/{frame.index:06d}", **_encoded(frame, scene, image)})
        if count == 0:
            raise DataError(f"{sequence}: no frames to pack")
        index = scan_tar(part)
        with index_part.open("wb") as stream:
            np.savez(stream, **vars(index))
        index_part.replace(index_path(path))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
        index_part.unlink(missing_ok=True)
    return count


def _encoded(frame: TrainingFrame, scene: str, image: ImageFormat) -> dict[str, bytes]:
    flags = _JPEG if image == "jpg" else []
    code = cv2.imencode(f".{image}", cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR), flags)[1]
    about = {
        "scene": scene,
        "timestamp_s": frame.timestamp_s,
        "K": frame.K.tolist(),
        "T_world_cam": None if frame.T_world_cam is None else frame.T_world_cam.tolist(),
    }
    depth = cv2.imencode(".png", frame.depth_mm)[1]
    return {image: code.tobytes(), "depth.png": depth.tobytes(), "json": json.dumps(about).encode()}


def index_path(tar: Path) -> Path:
    """Return where the index of a tar file lies."""
    return tar.with_name(f"{tar.name}.index.npz")


def open_index(tar: Path) -> TarIndex:
    """Read the index of a tar file, or scan the file where there is none or it has another length.

    Raises:
        DataError: the tar file is cut short or not one that `write_tar` wrote.
    """
    try:
        with np.load(index_path(tar)) as a:
            index = TarIndex(str(a["sequence"]), str(a["scene"]), a["frame"], a["posed"], a["offset"], a["size"],
                             int(a["tar_bytes"]))  # fmt: skip
        if index.tar_bytes == tar.stat().st_size:
            return index
    except (OSError, ValueError, KeyError, EOFError):
        pass
    return scan_tar(tar)


def scan_tar(tar: Path) -> TarIndex:
    """Index a tar file by reading its headers and descriptions.

    Raises:
        DataError: it is cut short, or a frame lacks a part.
    """
    places: dict[str, dict[str, tuple[int, int]]] = {}
    length = tar.stat().st_size
    with tar.open("rb") as stream:
        if _bytes(stream, max(length - _END_BYTES, 0), _END_BYTES) != bytes(_END_BYTES):
            raise DataError(f"{tar}: cut short ({length} bytes, no end mark); pack the sequence again")
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                key, _, ending = member.name.rpartition("/")[2].partition(".")
                key = f"{member.name.rpartition('/')[0]}/{key}"
                kind = {"depth.png": "depth", "json": "json"}.get(ending, "image")
                places.setdefault(key, {})[kind] = (member.offset_data, member.size)
        keys = sorted(places)
        table = np.array([[places[key][kind] for kind in _PARTS] for key in keys], np.int64).reshape(-1, 3, 2)
        with tar.open("rb") as stream:
            about = [json.loads(_bytes(stream, *table[i, 2].tolist())) for i in range(len(keys))]
        frames = np.array([int(key.rpartition("/")[2]) for key in keys], np.int64)
        posed = np.array([a["T_world_cam"] is not None for a in about], bool)
        sequence, scene = keys[0].rpartition("/")[0], str(about[0]["scene"])
    except (tarfile.TarError, OSError, KeyError, ValueError, IndexError) as error:
        raise DataError(f"{tar}: not a complete shard of packed frames: {error!r}") from error
    return TarIndex(sequence, scene, frames, posed, table[..., 0], table[..., 1], length)


class PackedSequence:
    """The frames of one tar file, in any order; a `ClipSource`.

    Raises:
        DataError: the file is damaged.
    """

    def __init__(self, tar: Path) -> None:
        self._tar, index = tar, open_index(tar)
        self.name, self.scene, self.indices, self.posed = (
            index.sequence,
            index.scene,
            index.frame,
            index.posed,
        )
        self._row = {int(frame): row for row, frame in enumerate(index.frame)}
        self._offset, self._size = index.offset, index.size

    def read(self, indices: Sequence[int]) -> Clips:
        """Read frames as one clip.

        Raises:
            DataError: a frame is not there or damaged.
        """
        with self._tar.open("rb") as stream:
            return clip_of([self._frame(stream, index) for index in indices])

    def _frame(self, stream: BinaryIO, index: int) -> TrainingFrame:
        try:
            row = self._row[index]
            places = zip(self._offset[row].tolist(), self._size[row].tolist())
            image, depth, about = (_bytes(stream, offset, size) for offset, size in places)
            rgb = cv2.cvtColor(_decoded(image, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            facts: dict[str, Any] = json.loads(about)
            pose = facts["T_world_cam"]
            K, T_world_cam = np.array(facts["K"]), None if pose is None else np.array(pose)
            depth_mm = _decoded(depth, cv2.IMREAD_UNCHANGED)
        except (KeyError, ValueError, cv2.error) as error:
            raise DataError(f"{self._tar}, frame {index}: not readable: {error!r}") from error
        return TrainingFrame(index, float(facts["timestamp_s"]), rgb, depth_mm, K, T_world_cam)


def _bytes(stream: BinaryIO, offset: int, size: int) -> bytes:
    stream.seek(offset)
    return stream.read(size)


def _decoded(data: bytes, flag: int) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if image is None:
        raise ValueError("not an image")
    return np.asarray(image)


def _load_webdataset() -> ModuleType:
    try:
        import webdataset
    except ImportError as error:
        raise MissingDependencyError("packing needs webdataset: pip install 'remov3r[train]'") from error
    return webdataset
