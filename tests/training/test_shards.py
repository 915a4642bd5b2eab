"""Shards: what is written is read, broken files are skipped by name, draws follow seed, step and weights."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from remov3r.errors import DataError
from remov3r.training.mixer import ShardMixer
from remov3r.training.shards import Clips, ShardSet, open_shard, write_shard


def clips(count: int, frames: int = 2, value: int = 0) -> Clips:
    rng = np.random.default_rng(value)
    return Clips(
        np.full((count, frames, 6, 8, 3), value, np.uint8),
        rng.integers(0, 5000, (count, frames, 3, 4)).astype(np.uint16),
        np.broadcast_to(np.eye(3, dtype=np.float32), (count, frames, 3, 3)),
        rng.normal(size=(count, frames, 4, 4)).astype(np.float32),
    )


def test_round_trip_is_exact(tmp_path: Path) -> None:
    written = clips(3)
    write_shard(tmp_path / "new" / "a-00000.npz", written)
    read = open_shard(tmp_path / "new" / "a-00000.npz")
    for name in ("rgb", "depth_mm", "K", "T_world_cam"):
        assert np.array_equal(getattr(read, name), getattr(written, name))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a-00000.npz"]  # no temporary file is left


def test_numpy_reads_the_same_file(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.npz", clips(2))
    with np.load(tmp_path / "a.npz") as data:
        assert sorted(data.files) == ["K", "T_world_cam", "depth_mm", "rgb"]


@pytest.mark.parametrize("kept", [0, 10, 300, -40])
def test_truncated_shard_is_skipped_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kept: int
) -> None:
    write_shard(tmp_path / "a.npz", clips(2))
    write_shard(tmp_path / "broken.npz", clips(2))
    content = (tmp_path / "broken.npz").read_bytes()
    (tmp_path / "broken.npz").write_bytes(content[:kept])
    with caplog.at_level(logging.WARNING):
        found = ShardSet(tmp_path)
    assert len(found) == 2
    assert "broken.npz" in caplog.text
    with pytest.raises(DataError, match=r"broken\.npz"):
        open_shard(tmp_path / "broken.npz")


def test_compressed_or_foreign_files_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **clips(1).__dict__)
    np.savez(tmp_path / "b.npz", rgb=np.zeros(3))
    for name, reason in (("a.npz", "compressed"), ("b.npz", "depth_mm")):
        with pytest.raises(DataError, match=reason):
            open_shard(tmp_path / name)


def test_a_repaired_shard_is_taken_in(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"half of it")
    found = ShardSet(tmp_path)
    assert len(found) == 0
    write_shard(tmp_path / "a.npz", clips(2))
    found.rescan()
    assert len(found) == 2


def test_wrong_shapes_are_named(tmp_path: Path) -> None:
    good = clips(2).__dict__
    np.savez(tmp_path / "a.npz", **{**good, "depth_mm": good["depth_mm"][:1]})
    np.savez(tmp_path / "b.npz", **{**good, "K": good["K"][..., :2]})
    np.savez(tmp_path / "c.npz", **{**good, "rgb": good["rgb"].astype(np.float32)})
    for name, reason in (("a.npz", "depth_mm"), ("b.npz", "end in"), ("c.npz", "float32")):
        with pytest.raises(DataError, match=reason):
            open_shard(tmp_path / name)


def test_draws_depend_on_seed_and_step_alone_and_follow_the_weights(tmp_path: Path) -> None:
    write_shard(tmp_path / "one" / "a.npz", clips(5, value=1))
    write_shard(tmp_path / "two" / "b.npz", clips(7, value=2))
    weights = {"one": 0.25, "two": 0.75, "not_there_yet": 5.0}
    first, second = (ShardMixer(tmp_path, weights, seed=3) for _ in range(2))
    second.draw(second.generator(1), 4)  # what was drawn before does not matter
    a, b = (m.draw(m.generator(17), 200) for m in (first, second))
    assert all(np.array_equal(x.depth_mm, y.depth_mm) for x, y in zip(a, b))
    share = np.mean([c.rgb.flat[0] == 2 for c in a])
    assert 0.65 < share < 0.85
    other = first.draw(first.generator(18), 200)
    assert any(not np.array_equal(x.depth_mm, y.depth_mm) for x, y in zip(a, other))
    write_shard(tmp_path / "not_there_yet" / "c.npz", clips(1, value=3))
    first.rescan()
    assert first.sizes() == {"one": 5, "two": 7, "not_there_yet": 1}
    assert np.mean([c.rgb.flat[0] == 3 for c in first.draw(first.generator(0), 100)]) > 0.7


def test_no_shards_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing"):
        ShardMixer(tmp_path, {"nothing": 1.0}, 0)
