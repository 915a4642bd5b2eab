"""Sets of clips to train on: folders of shards, packed sequences, and data sets as they were downloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int
from pydantic import Field

from remov3r.config import Config
from remov3r.data.scenes import find_sequences
from remov3r.data.sources import DEPTH_SETS, open_source
from remov3r.data.splits import Part, frame_range, held_out_scenes
from remov3r.data.stream import StreamedSource
from remov3r.errors import ConfigError, DataError
from remov3r.training.framing import Framing, clip_of, framed
from remov3r.training.shards import Clips, ShardSet
from remov3r.training.tar_shards import PackedSequence


@runtime_checkable
class ClipSet(Protocol):
    """Clips to draw from."""

    def __len__(self) -> int:
        """Return how many indices there are."""
        ...

    def clip(self, index: int, frames: int, rng: np.random.Generator) -> Clips:
        """Read one clip (c = 1) of exactly so many frames; what is random about it depends on `rng` alone.

        Raises:
            DataError: there is no clip of so many frames, or a file cannot be read.
        """
        ...


@runtime_checkable
class ClipSource(Protocol):
    """The frames of one sequence, at any index.

    Attributes:
        scene: names the place, which other sequences may show too.
        indices: of the frames that can be read, increasing; neighbours in the video differ by 1.
        posed: whether the pose of each is known.
    """

    name: str
    scene: str
    indices: Int[np.ndarray, " n"]
    posed: Bool[np.ndarray, " n"]

    def read(self, indices: Sequence[int]) -> Clips:
        """Read frames of increasing indices as one clip. Raises DataError naming the file."""
        ...


class ClipSourceConfig(Config):
    """A data set, packed or as downloaded, from which clips are cut while training.

    Attributes:
        path: a sequence, or a folder with sequences somewhere below it.
        dataset: a layout that `remov3r run --dataset` knows, "packed" (made by `remov3r data pack`), or "auto".
        part: "all", or which side of the split.
        split: "scenes" (a fifth of the places is held out), "frames" (the last fifth of each sequence) or a file
            that lists the scenes held out.
        stride: smallest and largest number of source frames from one frame of a clip to the next.
        width, height: the images' size; packed sets have theirs already, as they have their largest depth.
        largest_depth_m: farther depth counts as missing.
        camera: intrinsics or calibration file, where the data set's own will not do.
    """

    path: Path
    dataset: str = "auto"
    part: Part = "all"
    split: str = "scenes"
    stride: tuple[int, int] = (1, 3)
    width: int = Field(320, ge=2, multiple_of=2)
    height: int = Field(240, ge=2, multiple_of=2)
    largest_depth_m: float = Field(20.0, gt=0, le=65)
    camera: str | None = None


class SourceClips:
    """A source of frames with depth as a `ClipSource`: every frame is decoded when it is drawn."""

    def __init__(self, source: StreamedSource, scene: str, framing: Framing) -> None:
        poses = source.poses()
        self.name, self.scene = source.name, scene
        self.indices = np.array(list(poses), np.int64)
        self.posed = np.array([pose is not None for pose in poses.values()], bool)
        self._source, self._framing = source, framing

    def read(self, indices: Sequence[int]) -> Clips:
        """Read frames as one clip."""
        return clip_of([framed(frame, self._framing) for frame in self._source.frames(indices)])


class ClipDataset:
    """Contiguous clips of any length, cut out of sequences at a random stride; a `ClipSet`.

    An index stands for a frame, and its clip holds that moment. A frame without pose, or one that is missing,
    ends a stretch, and clips stay within one stretch; clips of one frame need no pose.
    """

    def __init__(
        self, sources: Sequence[ClipSource], stride: tuple[int, int] = (1, 1), part: Part = "all"
    ) -> None:
        """Find the stretches.

        Args:
            stride: smallest and largest; where a stretch is too short for it, the largest that fits.
            part: which frames of each sequence, by `frame_range`.
        Raises:
            ConfigError: the strides are not increasing positive numbers.
            DataError: there are no frames.
        """
        if not 1 <= stride[0] <= stride[1]:
            raise ConfigError(f"stride {stride}: need smallest, largest, from 1 on")
        self._sources, self._stride = sources, stride
        picks = [frame_range(len(s.indices), part) for s in sources]
        numbers = [s.indices[p.start : p.stop] for s, p in zip(sources, picks)]
        if not sum(len(n) for n in numbers):
            raise DataError(
                f"no frames in {', '.join(s.name for s in sources) or 'an empty list of sequences'}"
            )
        self._source = np.concatenate([np.full(len(n), i, np.int32) for i, n in enumerate(numbers)])
        self._frame = np.concatenate(numbers)
        posed = np.concatenate([s.posed[p.start : p.stop] for s, p in zip(sources, picks)])
        self._first, self._length = _stretches(self._source, self._frame, posed)

    def __len__(self) -> int:
        return len(self._frame)

    def clip(self, index: int, frames: int, rng: np.random.Generator) -> Clips:
        """Read a clip around a frame; where its stretch is too short, around another one drawn at random.

        Raises:
            DataError: no stretch is long enough, or a file cannot be read.
        """
        if frames > 1 and self._length[index] < frames:
            long_enough = np.flatnonzero(self._length >= frames)
            if not len(long_enough):
                raise DataError(
                    f"{self._sources[self._source[index]].name}: the longest stretch of frames with poses is "
                    f"{int(self._length.max())}, clips of {frames} were asked for"
                )
            index = int(rng.choice(long_enough))
        if frames == 1:
            return self.window(index, 1)
        first, length = int(self._first[index]), int(self._length[index])
        largest = min(self._stride[1], (length - 1) // (frames - 1))
        stride = int(rng.integers(min(self._stride[0], largest), largest + 1))
        span = (frames - 1) * stride + 1
        earliest, latest = max(first, index - span + 1), min(index, first + length - span)
        return self.window(int(rng.integers(earliest, latest + 1)), frames, stride)

    def starts(self, frames: int) -> tuple[Int[np.ndarray, " n"], int]:
        """Return where clips begin that follow one another at stride 1, and their length: `frames` or fewer."""
        frames = min(frames, max(int(self._length.max()), 1))
        if frames == 1:
            return np.arange(len(self)), 1
        offset = np.arange(len(self)) - self._first
        return np.flatnonzero((offset % frames == 0) & (offset + frames <= self._length)), frames

    def window(self, start: int, frames: int, stride: int = 1) -> Clips:
        """Read the clip that begins at an index.

        Raises:
            DataError: a file cannot be read.
        """
        source = self._sources[self._source[start]]
        clip = source.read([int(i) for i in self._frame[start : start + (frames - 1) * stride + 1 : stride]])
        if clip.frames != frames:
            raise DataError(f"{source.name}: {clip.frames} of {frames} frames could be read")
        return clip


def _stretches(source: np.ndarray, frame: np.ndarray, posed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each frame where its stretch begins and how long it is; 0 for frames without pose."""
    breaks = np.ones(len(frame), bool)
    breaks[1:] = (np.diff(source) != 0) | (np.diff(frame) != 1) | ~(posed[1:] & posed[:-1])
    first = np.flatnonzero(breaks)
    length = np.diff(np.append(first, len(frame)))
    which = np.cumsum(breaks) - 1
    return first[which], np.where(posed, length[which], 0)


class FixedClips:
    """Clips of one length that do not overlap, for validation: `clip(i)` is always the same.

    Args:
        frames: per clip; fewer where no stretch is as long, and 1 where no pose is known.
    """

    def __init__(self, dataset: ClipDataset, frames: int) -> None:
        self._dataset = dataset
        self._starts, self._frames = dataset.starts(frames)

    def __len__(self) -> int:
        return len(self._starts)

    def clip(self, index: int) -> Clips:
        """Read one clip (c = 1). Raises DataError naming the file."""
        return self._dataset.window(int(self._starts[index]), self._frames)


def open_clip_dataset(config: ClipSourceConfig) -> ClipDataset:
    """Open a data set as its configuration says.

    Raises:
        DataError: nothing there, a damaged file, or the split leaves nothing.
        ConfigError: an unknown data set.
    """
    sources = _open_sources(config)
    if config.part == "all" or config.split == "frames":
        return ClipDataset(sources, config.stride, config.part)
    held = held_out_scenes([s.scene for s in sources], config.split)
    chosen = [s for s in sources if (s.scene in held) == (config.part == "test")]
    if not chosen:
        raise DataError(f"{config.path}: the split {config.split!r} leaves no scene for part {config.part!r}")
    return ClipDataset(chosen, config.stride)


def _open_sources(config: ClipSourceConfig) -> list[ClipSource]:
    path = config.path.expanduser()
    known = ("auto", "packed", *DEPTH_SETS)
    if config.dataset not in known:
        raise ConfigError(f"dataset {config.dataset!r}: not one of {', '.join(known)}")
    tars = sorted(path.glob("*.tar"))
    if config.dataset == "packed" or (config.dataset == "auto" and tars):
        if not tars:
            raise DataError(f"{path}: holds no packed sequences (*.tar)")
        return [PackedSequence(tar) for tar in tars]
    framing = Framing(config.width, config.height, config.largest_depth_m)
    return [
        SourceClips(open_source(f.path, f.dataset, config.camera, sensor=True), f.scene, framing)
        for f in find_sequences(path, config.dataset)
    ]


def open_clip_set(folder: Path) -> ClipDataset | ShardSet:
    """Open a folder of packed sequences (*.tar) or of shards (*.npz, also if there are none yet)."""
    if any(folder.glob("*.tar")):
        return open_clip_dataset(ClipSourceConfig(path=folder))
    return ShardSet(folder)


def open_validation_set(
    root: Path, name: str, data: Mapping[str, ClipSourceConfig], frames: int
) -> FixedClips | ShardSet:
    """Open a set whose clips are the same at every validation.

    Args:
        root: folder with one folder per set, for names that `data` does not hold.
        frames: per clip, for sets that are cut into clips here; shards have their own length.
    Raises:
        DataError: nothing there, or a damaged file.
    """
    found = open_clip_dataset(data[name]) if name in data else open_clip_set(root / name)
    return FixedClips(found, frames) if isinstance(found, ClipDataset) else found
