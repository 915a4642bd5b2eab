"""The loop: it learns, resumes exactly, stops on a signal, refuses what is not finite, and keeps the best."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from remov3r.errors import ConfigError, DataError, OptimizationError
from remov3r.training.batches import Batch, BatchMaker
from remov3r.training.checkpoint import load_checkpoint
from remov3r.training.config import Stage, TrainConfig
from remov3r.training.distributed import pick_device
from remov3r.training.objective import LossParts
from remov3r.training.trainer import RunOptions, Trainer
from tests.models.tiny import tiny_network
from tests.training.runs import run_config, same, weights


def with_factors(factors: dict[str, float]) -> TrainConfig:
    return run_config(depth={"sets": {"planes": 1.0}, "batch": 2, "lr_factors": factors})


@pytest.mark.parametrize("stage", ["depth", "clips"])
def test_steps_on_one_batch_lower_its_loss(stage: Stage, shards: Path, tmp_path: Path) -> None:
    trainer = Trainer(
        run_config(), RunOptions(shards, tmp_path / "out", stage, max_steps=100), tiny_network()
    )
    batch = BatchMaker(trainer._settings()).make(0)
    losses = [float(trainer.train_step(batch)[0].total().detach()) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]
    (parts,) = trainer.train_step(batch)
    assert (parts.figures()["local_rotation"] > 0) == (stage == "clips")


def test_stopped_and_resumed_equals_uninterrupted(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM after the second of four steps; all that comes out is the same to the bit."""
    config = run_config(validation={"sets": ["val", "absent"], "frame_step": 2}, checkpoint_min=5.0)
    whole = RunOptions(shards, tmp_path / "whole", "depth", max_steps=4)
    expected = Trainer(config, whole, tiny_network()).run()
    interrupted = RunOptions(shards, tmp_path / "parts", "depth", max_steps=4)
    trainer = Trainer(config, interrupted, tiny_network())
    step = Trainer.train_step

    def killed(self: Trainer, *micro: Batch) -> list[LossParts]:
        parts = step(self, *micro)
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return parts

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", killed)
        assert trainer.run() is None
    assert load_checkpoint(interrupted.out / "checkpoint.pt").step == 2
    found = Trainer(config, replace(interrupted, resume="auto"), tiny_network()).run()
    assert same(weights(whole.out), weights(interrupted.out))
    assert found == expected
    steps = [json.loads(line) for line in (interrupted.out / "log.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps if "loss" in s] == [1, 2, 3, 4]


def test_accumulated_batches_equal_one_large_batch(shards: Path, tmp_path: Path) -> None:
    found = []
    for batch, accumulate in ((4, 1), (2, 2)):
        stage: dict[str, Any] = {"sets": {"planes": 1.0}, "batch": batch, "accumulate": accumulate}
        config = run_config(depth=stage | {"lr_factors": {"encoder": 0.0}})
        options = RunOptions(shards, tmp_path / str(batch), "depth", max_steps=5)
        trainer = Trainer(config, options, tiny_network())
        maker, firsts = BatchMaker(trainer._settings()), trainer._firsts()
        trainer.train_step(*[maker.make(next(firsts)) for _ in range(accumulate)])
        assert trainer.samples == 4
        found.append([p.grad for p in trainer.network.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(*found, strict=True))


def test_not_finite_stops_before_the_step(shards: Path, tmp_path: Path) -> None:
    options = RunOptions(shards, tmp_path / "out", "depth", max_steps=5)
    trainer = Trainer(run_config(), options, tiny_network())
    batch = BatchMaker(trainer._settings()).make(6)
    name, bad = next((n, p) for n, p in trainer.network.named_parameters() if p.requires_grad)
    with torch.no_grad():
        bad.fill_(math.nan)
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    with pytest.raises(OptimizationError, match="rank 0, batch of samples 6 to 7: loss terms"):
        trainer.train_step(batch)
    after = trainer.network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if k != name)
    assert load_checkpoint(options.out / "checkpoint.pt").step == 0


def test_the_best_validation_is_kept(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three validations is the best, and its weights stay in best.pt."""
    config = run_config(validation={"sets": ["val"], "frame_step": 2, "every_min": 0.0})
    trainer = Trainer(config, RunOptions(shards, tmp_path / "out", "depth", max_steps=2), tiny_network())
    scores = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr("remov3r.training.trainer.score", lambda report: next(scores))
    trainer.run()
    best = load_checkpoint(tmp_path / "out" / "best.pt")
    assert (best.step, best.best) == (2, 1.0)
    assert load_checkpoint(tmp_path / "out" / "checkpoint.pt").best == 1.0


def test_factors_freeze_and_slow_down(shards: Path, tmp_path: Path) -> None:
    """A factor is of a part by its dotted name: `encoder` is not `pointmap_encoder`."""
    options = RunOptions(shards, tmp_path, "depth", max_steps=2)
    trainer = Trainer(with_factors({"encoder": 0.0, "heads": 0.5}), options, tiny_network())
    assert not any(p.requires_grad for p in trainer.network.encoder.parameters())
    assert all(p.requires_grad for p in trainer.network.pointmap_encoder.parameters())
    assert {group["factor"] for group in trainer.optimizer.param_groups} == {0.5, 1.0}
    shared = {p.data_ptr() for p in trainer.average.encoder.parameters()}
    assert shared == {p.data_ptr() for p in trainer.network.encoder.parameters()}
    with pytest.raises(ConfigError, match="hades"):
        Trainer(with_factors({"hades": 1.0}), options, tiny_network())


def test_data_sets_lie_below_the_shards_unless_elsewhere(shards: Path, tmp_path: Path) -> None:
    config = run_config(data={"here": {"path": "scannet"}, "there": {"path": "/data/7scenes"}})
    trainer = Trainer(config, RunOptions(shards, tmp_path, "depth", max_steps=1), tiny_network())
    found = {name: data.path for name, data in trainer._settings().data.items()}
    assert found == {"here": shards / "scannet", "there": Path("/data/7scenes")}


def test_bad_options_are_named(shards: Path, tmp_path: Path) -> None:
    config = run_config()
    with pytest.raises(ConfigError, match="time-budget"):
        Trainer(config, RunOptions(shards, tmp_path, "depth"), tiny_network())
    missing = RunOptions(shards, tmp_path / "none", "depth", max_steps=1, resume=True)
    with pytest.raises(DataError, match=r"checkpoint\.pt"):
        Trainer(config, missing, tiny_network())
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU"):
            pick_device("cuda")
    options = RunOptions(shards, tmp_path / "out", "depth", max_steps=1)
    Trainer(config, options, tiny_network()).save()
    with pytest.raises(DataError, match="stage depth"):
        Trainer(config, replace(options, stage="clips", resume=True), tiny_network())
    with pytest.raises(ConfigError, match="--resume"):
        Trainer(config, options, tiny_network()).run()


def test_resuming_with_other_factors_is_refused(shards: Path, tmp_path: Path) -> None:
    options = RunOptions(shards, tmp_path, "depth", max_steps=1)
    Trainer(run_config(), options, tiny_network()).save()
    with pytest.raises(DataError, match="lr_factors"):
        Trainer(with_factors({"heads": 0.0}), replace(options, resume=True), tiny_network())
