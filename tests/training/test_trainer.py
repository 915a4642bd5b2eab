"""The loop: it learns, resumes exactly, stops on a signal, refuses what is not finite, and ends decayed."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from remov3r.errors import ConfigError, DataError, OptimizationError
from remov3r.models.network import Remov3rNetwork
from remov3r.training.batches import Batch, BatchMaker
from remov3r.training.checkpoint import load_checkpoint
from remov3r.training.config import OptimizerConfig, TrainConfig
from remov3r.training.objective import LossParts
from remov3r.training.trainer import RunOptions, Trainer, learning_rate, pick_device


def network(seed: int = 0) -> Remov3rNetwork:
    torch.manual_seed(seed)
    return Remov3rNetwork()


def weights(path: Path) -> dict[str, Tensor]:
    checkpoint = load_checkpoint(path / "checkpoint.pt")
    return {**checkpoint.network, **{f"average.{k}": v for k, v in checkpoint.average.items()}}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("stage", ["depth", "clips"])
def test_steps_on_one_batch_lower_its_loss(
    stage: str, shards: Path, config: TrainConfig, tmp_path: Path
) -> None:
    options = RunOptions(shards, tmp_path / "out", "depth" if stage == "depth" else "clips", max_steps=100)
    trainer = Trainer(config, options, network())
    batch = BatchMaker(trainer._settings()).make(0)
    losses = [float(trainer.train_step(batch).total().detach()) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]
    pose_terms = trainer.train_step(batch).figures()["local_rotation"]
    assert (pose_terms > 0) == (stage == "clips")


def test_stopped_and_resumed_equals_uninterrupted(
    shards: Path, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM after the second of four steps; all that comes out is the same to the bit."""
    whole = RunOptions(shards, tmp_path / "whole", "depth", max_steps=4)
    expected = Trainer(config, whole, network()).run()
    interrupted = RunOptions(shards, tmp_path / "parts", "depth", max_steps=4)
    trainer = Trainer(config, interrupted, network())
    step = Trainer.train_step

    def killed(self: Trainer, batch: Batch) -> LossParts:
        parts = step(self, batch)
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return parts

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", killed)
        assert trainer.run() is None
    assert load_checkpoint(interrupted.out / "checkpoint.pt").step == 2
    found = Trainer(config, replace(interrupted, resume=True), network(seed=1)).run()
    assert same(weights(whole.out), weights(interrupted.out))
    assert found == expected
    steps = [json.loads(line) for line in (interrupted.out / "log.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps if "loss" in s] == [1, 2, 3, 4]


def test_not_finite_stops_before_the_step(shards: Path, config: TrainConfig, tmp_path: Path) -> None:
    options = RunOptions(shards, tmp_path / "out", "depth", max_steps=5)
    trainer = Trainer(config, options, network())
    batch = BatchMaker(trainer._settings()).make(3)
    with torch.no_grad():
        trainer.network.depth_prior.scale.bias.fill_(math.nan)
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    with pytest.raises(OptimizationError, match="batch 3"):
        trainer.train_step(batch)
    after = trainer.network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if k != "depth_prior.scale.bias")
    assert load_checkpoint(options.out / "checkpoint.pt").step == 0


def test_factors_freeze_and_slow_down(shards: Path, config: TrainConfig, tmp_path: Path) -> None:
    stage = config.depth.model_copy(update={"lr_factors": {"encoder": 0.0, "heads": 0.5}})
    changed = config.model_copy(update={"depth": stage})
    trainer = Trainer(changed, RunOptions(shards, tmp_path, "depth", max_steps=2), network())
    assert not any(p.requires_grad for p in trainer.network.encoder.parameters())
    assert {group["factor"] for group in trainer.optimizer.param_groups} == {0.5, 1.0}
    wrong = config.model_copy(
        update={"depth": config.depth.model_copy(update={"lr_factors": {"hades": 1.0}})}
    )
    with pytest.raises(ConfigError, match="hades"):
        Trainer(wrong, RunOptions(shards, tmp_path, "depth", max_steps=2), network())


def test_rate_rises_then_decays_to_its_end() -> None:
    config = OptimizerConfig(warmup_steps=10, final=0.01)
    assert learning_rate(0, 0.0, config) == pytest.approx(0.1)
    assert learning_rate(9, 0.0, config) == pytest.approx(1)
    assert learning_rate(500, 0.5, config) == pytest.approx(0.505)
    assert learning_rate(999, 1.0, config) == pytest.approx(0.01)


def test_bad_options_are_named(shards: Path, config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="time-budget"):
        Trainer(config, RunOptions(shards, tmp_path, "depth"), network())
    with pytest.raises(DataError, match=r"checkpoint\.pt"):
        Trainer(config, RunOptions(shards, tmp_path / "none", "depth", max_steps=1, resume=True), network())
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU"):
            pick_device("cuda")
    options = RunOptions(shards, tmp_path / "out", "depth", max_steps=1)
    Trainer(config, options, network()).save()
    with pytest.raises(DataError, match="stage depth"):
        Trainer(config, replace(options, stage="clips", resume=True), network())


def test_resuming_with_other_factors_is_refused(shards: Path, config: TrainConfig, tmp_path: Path) -> None:
    options = RunOptions(shards, tmp_path, "depth", max_steps=1)
    Trainer(config, options, network()).save()
    stage = config.depth.model_copy(update={"lr_factors": {"encoder": 0.0}})
    with pytest.raises(DataError, match="lr_factors"):
        Trainer(config.model_copy(update={"depth": stage}), replace(options, resume=True), network())


def test_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK not a checkpoint")
    with pytest.raises(DataError, match="not readable"):
        load_checkpoint(tmp_path / "checkpoint.pt")
