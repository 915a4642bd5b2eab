"""Mixed precision: bf16 and fp16 learn, and fp16 leaves out steps that overflow and remembers its scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from remov3r.errors import OptimizationError
from remov3r.training.batches import BatchMaker
from remov3r.training.checkpoint import load_checkpoint
from remov3r.training.config import Precision
from remov3r.training.trainer import RunOptions, Trainer
from tests.models.tiny import tiny_network
from tests.training.runs import run_config


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_in_float32_weights(precision: Precision, shards: Path, tmp_path: Path) -> None:
    config = run_config(precision=precision)
    trainer = Trainer(config, RunOptions(shards, tmp_path, "clips", max_steps=100), tiny_network())
    batch = BatchMaker(trainer._settings()).make(0)
    losses = [float(trainer.train_step(batch)[0].total().detach()) for _ in range(6)]
    assert losses[-1] < 0.9 * losses[0]
    assert {p.dtype for p in trainer.network.parameters()} == {torch.float32}


def test_fp16_lowers_its_scale_and_goes_on(shards: Path, tmp_path: Path) -> None:
    """A scale that overflows costs one step; it is halved, saved and restored."""
    options = RunOptions(shards, tmp_path, "depth", max_steps=100)
    trainer = Trainer(run_config(precision="fp16"), options, tiny_network())
    scaler = trainer._update.scaler
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**120})
    batch = BatchMaker(trainer._settings()).make(0)
    before = [p.clone() for p in trainer.network.parameters()]
    trainer.train_step(batch)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.network.parameters()))
    assert scaler.get_scale() == 2.0**119
    trainer.save()
    assert load_checkpoint(tmp_path / "checkpoint.pt").scaler["scale"] == 2.0**119
    resumed = Trainer(run_config(precision="fp16"), replace(options, resume=True), tiny_network())
    assert resumed._update.scaler.get_scale() == 2.0**119


def test_fp16_stops_when_no_scale_helps(shards: Path, tmp_path: Path) -> None:
    options = RunOptions(shards, tmp_path, "depth", max_steps=100)
    trainer = Trainer(run_config(precision="fp16"), options, tiny_network())
    batch = BatchMaker(trainer._settings()).make(0)
    weight = next(p for p in trainer.network.parameters() if p.requires_grad)
    weight.register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]
    scaler = trainer._update.scaler
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**-8})
    with pytest.raises(OptimizationError, match="batch of samples 0 to 1: gradient norm"):
        trainer.train_step(batch)
