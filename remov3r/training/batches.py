"""Batches: clips drawn, cut to length, augmented and stacked, by processes that work ahead.

A batch is a function of the configuration, the step and the shards on disk, so a resumed run sees what an
uninterrupted one would have seen, whatever the number of worker processes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int64, UInt8, UInt16

from remov3r.errors import DataError
from remov3r.training.augment import AugmentConfig, augment
from remov3r.training.shards import Clips, ShardMixer

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
    rescan_steps: int
    longest_window: int
    augment: AugmentConfig


@dataclass(frozen=True)
class Batch:
    """B clips of T frames; depth is at half the image size.

    Attributes:
        depth_mm: 0 = missing.
        T_world_cam: NaN where unknown.
        keyframe_index: index within the clip of each frame's keyframe.
    """

    step: int
    rgb: UInt8[np.ndarray, "B T H W 3"]
    depth_mm: UInt16[np.ndarray, "B T h w"]
    K: Float[np.ndarray, "B T 3 3"]
    T_world_cam: Float[np.ndarray, "B T 4 4"]
    keyframe_index: Int64[np.ndarray, "B T"]


class BatchMaker:
    """Makes the batch of any step."""

    def __init__(self, settings: BatchSettings) -> None:
        self._settings = settings
        self._mixer = ShardMixer(settings.root, settings.sets, settings.seed)
        self._scanned = 0

    def make(self, step: int) -> Batch:
        """Draw, cut, augment and stack the clips of one step.

        Raises:
            DataError: a shard's clips are shorter than the batch asks for.
        """
        s = self._settings
        period = step // s.rescan_steps
        if period != self._scanned:
            self._scanned = period
            self._mixer.rescan()
        rng = self._mixer.generator(step)
        drawn = [shortened(clip, s.frames, rng) for clip in self._mixer.draw(rng, s.batch)]
        clips = [augment(clip, s.width, s.height, s.augment, rng) for clip in drawn]
        keyframes = np.stack([random_keyframes(s.frames, s.longest_window, rng) for _ in clips])
        return stacked(step, clips, keyframes)


def stacked(step: int, clips: Sequence[Clips], keyframe_index: Int64[np.ndarray, "B T"]) -> Batch:
    """Stack clips of one size into a batch."""
    return Batch(
        step,
        rgb=np.concatenate([c.rgb for c in clips]),
        depth_mm=np.concatenate([c.depth_mm for c in clips]),
        K=np.concatenate([c.K for c in clips]),
        T_world_cam=np.concatenate([c.T_world_cam for c in clips]),
        keyframe_index=keyframe_index,
    )


def shortened(clip: Clips, frames: int, rng: np.random.Generator) -> Clips:
    """Cut a random stretch of `frames` out of a clip; stretches are played backwards half of the time.

    Raises:
        DataError: the clip is too short.
    """
    if clip.frames < frames:
        raise DataError(f"clips of {frames} frames wanted, a shard has clips of {clip.frames}")
    start = int(rng.integers(clip.frames - frames + 1))
    cut = clip.cut(start, frames)
    if rng.random() < 0.5:
        cut = Clips(cut.rgb[:, ::-1], cut.depth_mm[:, ::-1], cut.K[:, ::-1], cut.T_world_cam[:, ::-1])
    return cut


def random_keyframes(frames: int, longest: int, rng: np.random.Generator) -> Int64[np.ndarray, " T"]:
    """Place keyframes at random distances from 2 to `longest`, so that no one rule is learnt."""
    starts = np.cumsum(rng.integers(min(2, longest), longest + 1, size=frames))
    return np.repeat(np.concatenate([[0], starts]), np.diff(np.concatenate([[0], starts, [starts[-1] + 1]])))[
        :frames
    ]


@contextmanager
def batches(settings: BatchSettings, first_step: int, workers: int) -> Iterator[Iterator[Batch]]:
    """Open an endless sequence of batches from a step on; the worker processes end with the block.

    Args:
        workers: processes that work ahead; 0 makes each batch when it is asked for.
    """
    if workers == 0:
        maker = BatchMaker(settings)
        yield (maker.make(step) for step in _count(first_step))
        return
    BatchMaker(settings)  # missing shards are reported here and not from a worker
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(settings,))
    try:
        yield _ahead(pool, first_step, workers * _AHEAD)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ahead(pool: ProcessPoolExecutor, first_step: int, depth: int) -> Iterator[Batch]:
    waiting: deque[Future[Batch]] = deque()
    for step in _count(first_step):
        waiting.append(pool.submit(_make, step))
        if len(waiting) > depth:
            yield waiting.popleft().result()


def _count(start: int) -> Iterator[int]:
    while True:
        yield start
        start += 1


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


def _make(step: int) -> Batch:
    return _maker.make(step)
