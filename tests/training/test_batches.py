"""Batches: a function of the step, whoever makes them; clips are cut and keyframed as the network needs."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from remov3r.errors import DataError
from remov3r.models.keyframes import KeyframeConfig, checked_keyframes
from remov3r.training.augment import AugmentConfig
from remov3r.training.batches import Batch, BatchMaker, BatchSettings, batches, random_keyframes, shortened
from remov3r.training.shards import ShardSet


def settings(root: Path, frames: int = 3, sets: dict[str, float] | None = None) -> BatchSettings:
    return BatchSettings(root, sets or {"paths": 1.0}, 7, 2, frames, 64, 64, 5, 4, AugmentConfig())


def equal(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch))


def test_a_batch_depends_on_its_step_alone(shards: Path) -> None:
    first, second = BatchMaker(settings(shards)), BatchMaker(settings(shards))
    a = [first.make(step) for step in range(8)]
    assert equal(second.make(7), a[7])
    assert not equal(a[6], a[7])
    assert a[0].rgb.shape == (2, 3, 64, 64, 3)
    assert a[0].depth_mm.shape == (2, 3, 32, 32)


def test_worker_processes_make_the_same_batches_in_order(shards: Path) -> None:
    maker = BatchMaker(settings(shards))
    with batches(settings(shards), 4, workers=1) as stream:
        for step in (4, 5, 6):
            batch = next(stream)
            assert batch.step == step
            assert equal(batch, maker.make(step))


def test_missing_shards_are_reported_in_the_main_process(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing"), batches(settings(tmp_path, sets={"nothing": 1.0}), 0, 1):
        pass


def test_short_clips_are_refused(shards: Path) -> None:
    clip = ShardSet(shards / "paths").clip(0)
    with pytest.raises(DataError, match="clips of 5 frames wanted"):
        shortened(clip, 5, np.random.default_rng(0))


def test_stretches_are_contiguous_forwards_or_backwards(shards: Path) -> None:
    clip = ShardSet(shards / "paths").clip(0)
    x = clip.T_world_cam[0, :, 0, 3]
    seen = set()
    for seed in range(20):
        cut = shortened(clip, 3, np.random.default_rng(seed)).T_world_cam[0, :, 0, 3]
        index = tuple(int(np.flatnonzero(x == v)[0]) for v in cut)
        assert set(np.diff(index)) in ({1}, {-1})
        seen.add(index)
    assert len(seen) == 4


@pytest.mark.parametrize("frames", [1, 2, 12])
def test_keyframes_are_what_the_network_accepts(frames: int) -> None:
    for seed in range(10):
        index = random_keyframes(frames, 5, np.random.default_rng(seed))
        assert index.shape == (frames,)
        checked_keyframes(torch.from_numpy(index)[None], KeyframeConfig(max_window=5))
