"""Batches: a function of their sample numbers, whoever makes them; clips are cut and keyframed as needed."""

from __future__ import annotations

from dataclasses import fields
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from remov3r.errors import DataError
from remov3r.models.keyframes import KeyframeConfig, checked_keyframes
from remov3r.training.augment import PLAIN, AugmentConfig, either_way
from remov3r.training.batches import Batch, BatchMaker, BatchSettings, batches, random_keyframes
from remov3r.training.shards import ShardSet


def settings(
    root: Path, frames: int = 3, sets: dict[str, float] | None = None, batch: int = 2
) -> BatchSettings:
    return BatchSettings(root, sets or {"paths": 1.0}, 7, batch, frames, 64, 64, 10, 4, AugmentConfig(), {})


def equal(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch))


def test_a_batch_depends_on_its_numbers_alone(shards: Path) -> None:
    first, second = BatchMaker(settings(shards)), BatchMaker(settings(shards))
    a = [first.make(number) for number in range(0, 16, 2)]
    assert equal(second.make(14), a[7])
    assert not equal(a[6], a[7])
    assert a[0].rgb.shape == (2, 3, 64, 64, 3)
    assert a[0].depth_mm.shape == (2, 3, 32, 32)


def test_small_batches_make_up_the_large_one(shards: Path) -> None:
    """What two processes with batches of 2 see is what one with 4 sees."""
    whole = BatchMaker(settings(shards, batch=4)).make(8)
    half = BatchMaker(settings(shards, batch=2))
    halves = [half.make(8), half.make(10)]
    for name in ("rgb", "depth_mm", "K", "T_world_cam", "keyframe_index"):
        assert np.array_equal(getattr(whole, name), np.concatenate([getattr(h, name) for h in halves])), name


def test_worker_processes_make_the_same_batches_in_order(shards: Path) -> None:
    maker = BatchMaker(settings(shards))
    with batches(settings(shards), count(4, 6), workers=1) as stream:
        for first in (4, 10, 16):
            batch = next(stream)
            assert batch.first == first
            assert equal(batch, maker.make(first))


def test_missing_shards_are_reported_in_the_main_process(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="nothing"),
        batches(settings(tmp_path, sets={"nothing": 1.0}), count(), 1),
    ):
        pass


def test_short_clips_are_refused(shards: Path) -> None:
    with pytest.raises(DataError, match="clips of 5 frames wanted"):
        BatchMaker(settings(shards, frames=5)).make(0)


def test_clips_are_played_either_way(shards: Path) -> None:
    clip = ShardSet(shards / "paths").clip(0)
    found = [either_way(clip, 0.5, np.random.default_rng(seed)) for seed in range(20)]
    forwards = [bool(np.array_equal(c.T_world_cam, clip.T_world_cam)) for c in found]
    backwards = [bool(np.array_equal(c.T_world_cam, clip.T_world_cam[:, ::-1])) for c in found]
    assert all(f != b for f, b in zip(forwards, backwards))
    assert any(forwards)
    assert any(backwards)
    assert either_way(clip, PLAIN.reverse, np.random.default_rng(3)) is clip


@pytest.mark.parametrize("frames", [1, 2, 12])
def test_keyframes_are_what_the_network_accepts(frames: int) -> None:
    for seed in range(10):
        index = random_keyframes(frames, 5, np.random.default_rng(seed))
        assert index.shape == (frames,)
        checked_keyframes(torch.from_numpy(index)[None], KeyframeConfig(max_window=5))
