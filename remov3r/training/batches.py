"""Batches: clips drawn, augmented and stacked, by processes that work ahead.

Samples are numbered through the whole run, and each is drawn by a random generator of its own number. So a
batch is a function of the configuration, its sample numbers and the shards on disk: a resumed run sees what
an uninterrupted one would have seen, and N processes with batches of B what one process with N·B would.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int64, UInt8, UInt16

from remov3r.training.augment import AugmentConfig, augment
from remov3r.training.clip_sets import ClipSourceConfig
from remov3r.training.mixer import ShardMixer
from remov3r.training.shards import Clips

_AHEAD = 3  # batches prepared in advance, per worker


@dataclass(frozen=True)
class BatchSettings:
    """What a worker process needs to know to make batches (plain values, so that it starts quickly)."""

    root: Path
    sets: dict[str, float]
    seed: int
    batch: int
    frames: int
    width: int
    height: int
    rescan_samples: int
    longest_window: int
    augment: AugmentConfig
    data: dict[str, ClipSourceConfig]


@dataclass(frozen=True)
class Batch:
    """B clips of T frames; depth is at half the image size.

    Attributes:
        first: number of the first sample; the others follow it.
        depth_mm: 0 = missing.
        T_world_cam: NaN where unknown.
        keyframe_index: index within the clip of each frame's keyframe.
    """

    first: int
    rgb: UInt8[np.ndarray, "B T H W 3"]
    depth_mm: UInt16[np.ndarray, "B T h w"]
    K: Float[np.ndarray, "B T 3 3"]
    T_world_cam: Float[np.ndarray, "B T 4 4"]
    keyframe_index: Int64[np.ndarray, "B T"]


class BatchMaker:
    """Makes the batch of any sample numbers."""

    def __init__(self, settings: BatchSettings) -> None:
        self._settings = settings
        self._mixer = ShardMixer(settings.root, settings.sets, settings.seed, settings.data)
        self._scanned = 0

    def make(self, first: int) -> Batch:
        """Draw, augment and stack the samples from `first` on.

        Raises:
            DataError: a set has no clip as long as the batch asks for, or a file cannot be read.
        """
        s = self._settings
        period = first // s.rescan_samples
        if period != self._scanned:
            self._scanned = period
            self._mixer.rescan()
        samples = [self._sample(number) for number in range(first, first + s.batch)]
        return stacked(first, [clip for clip, _ in samples], np.stack([index for _, index in samples]))

    def _sample(self, number: int) -> tuple[Clips, Int64[np.ndarray, " T"]]:
        """Return one clip and its keyframes."""
        s = self._settings
        rng = self._mixer.generator(number)
        clip = augment(self._mixer.draw(rng, 1, s.frames)[0], s.width, s.height, s.augment, rng)
        return clip, random_keyframes(s.frames, s.longest_window, rng)


def stacked(first: int, clips: Sequence[Clips], keyframe_index: Int64[np.ndarray, "B T"]) -> Batch:
    """Stack clips of one size into a batch."""
    return Batch(
        first,
        rgb=np.concatenate([c.rgb for c in clips]),
        depth_mm=np.concatenate([c.depth_mm for c in clips]),
        K=np.concatenate([c.K for c in clips]),
        T_world_cam=np.concatenate([c.T_world_cam for c in clips]),
        keyframe_index=keyframe_index,
    )


def random_keyframes(frames: int, longest: int, rng: np.random.Generator) -> Int64[np.ndarray, " T"]:
    """Place keyframes at random distances from 2 to `longest`, so that no one rule is learnt."""
    starts = np.cumsum(rng.integers(min(2, longest), longest + 1, size=frames))
    return np.repeat(np.concatenate([[0], starts]), np.diff(np.concatenate([[0], starts, [starts[-1] + 1]])))[
        :frames
    ]


@contextmanager
def batches(settings: BatchSettings, firsts: Iterable[int], workers: int) -> Iterator[Iterator[Batch]]:
    """Open the sequence of batches whose first samples are `firsts`; the worker processes end with the block.

    Args:
        workers: processes that work ahead; 0 makes each batch when it is asked for.
    """
    if workers == 0:
        maker = BatchMaker(settings)
        yield (maker.make(first) for first in firsts)
        return
    BatchMaker(settings)  # missing shards are reported here and not from a worker
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(settings,))
    try:
        yield _ahead(pool, firsts, workers * _AHEAD)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ahead(pool: ProcessPoolExecutor, firsts: Iterable[int], depth: int) -> Iterator[Batch]:
    waiting: deque[Future[Batch]] = deque()
    for first in firsts:
        waiting.append(pool.submit(_make, first))
        if len(waiting) > depth:
            yield waiting.popleft().result()


_maker: BatchMaker  # one per worker process


def _start_worker(settings: BatchSettings) -> None:
    global _maker
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _maker = BatchMaker(settings)


def _end_with_parent() -> None:
    """Leave no worker behind when the trainer is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(0)


def _make(first: int) -> Batch:
    return _maker.make(first)
