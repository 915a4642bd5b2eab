"""Checkpoints: whole or not there; a full disk leaves the old one; only the last few are kept."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from remov3r.errors import DataError
from remov3r.training.checkpoint import (
    Checkpoint,
    keep_last,
    load_checkpoint,
    load_matching,
    random_state,
    remove_parts,
    save_checkpoint,
    set_random_state,
)


def checkpoint(step: int, values: int = 4) -> Checkpoint:
    state = {"w": torch.full((values,), float(step))}
    return Checkpoint("depth", "{}", step, 1.0, step, state, state, {}, [random_state(torch.device("cpu"))])


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_failed_write_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint(1))
    with files_no_larger_than(20_000), pytest.raises(DataError, match=r"untouched.*MB are free.*--resume"):
        save_checkpoint(path, checkpoint(2, values=100_000))
    assert load_checkpoint(path).step == 1
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for step in (9, 10, 11):
        save_checkpoint(path, checkpoint(step))
        keep_last(path, step, 2)
    keep_last(path, 11, 2)
    names = {p.name: load_checkpoint(p).step for p in tmp_path.iterdir()}
    assert names == {"checkpoint.pt": 11, "checkpoint-00000010.pt": 10, "checkpoint-00000011.pt": 11}


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.pt.123.part").write_bytes(b"half")
    (tmp_path / "other.part").write_bytes(b"somebody else's")
    remove_parts(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["other.part"]


def test_random_numbers_go_on(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint.pt", checkpoint(1))
    expected = torch.rand(3)
    set_random_state(load_checkpoint(tmp_path / "checkpoint.pt").rng[0], torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)


def test_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK not a checkpoint")
    with pytest.raises(DataError, match="not readable"):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_weights_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError, match=r"2 weights do not fit.*weight"):
        load_matching(torch.nn.Linear(2, 2), {"bias": torch.zeros(2), "wait": torch.zeros(1)}, "x.pt")
