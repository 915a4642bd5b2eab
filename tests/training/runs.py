"""Small training runs: their shards, configuration, first weights and command lines."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remov3r.pipelines.toml_writer import dump_toml
from remov3r.training.checkpoint import load_checkpoint
from remov3r.training.config import TrainConfig
from remov3r.training.shards import write_shard
from remov3r.training.trainer import RunOptions, Trainer
from tests.models.tiny import tiny_config, tiny_network
from tests.training.conftest import small_clips

ROOT = Path(__file__).parents[2]
# subprocesses: one thread, sockets on this machine alone, the code of this checkout
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT),
}  # fmt: skip


def run_config(**changes: Any) -> TrainConfig:
    """The tiny network with a frozen encoder on 64×64 images, two clips a step, a checkpoint after each."""
    base: dict[str, Any] = {
        "width": 64,
        "height": 64,
        "workers": 0,
        "device": "cpu",
        "log_steps": 1,
        "checkpoint_min": 0.0,
        "network": tiny_config(),
        "optimizer": {"warmup_steps": 1},
        "depth": {"sets": {"planes": 1.0}, "batch": 2, "lr_factors": {"encoder": 0.0}},
        "clips": {
            "sets": {"paths": 1.0},
            "batch": 2,
            "frames": 4,
            "longest_window": 3,
            "lr_factors": {"encoder": 0.0},
        },
    }
    return TrainConfig.model_validate(base | changes)


def write_shards(root: Path) -> Path:
    """Write sets `planes` (single frames), `paths` and `val` (clips of 4)."""
    write_shard(root / "planes" / "planes-00000.npz", small_clips(6, 1, 0))
    write_shard(root / "paths" / "paths-00000.npz", small_clips(4, 4, 1))
    write_shard(root / "val" / "val-00000.npz", small_clips(2, 4, 2))
    return root


def write_run(folder: Path, config: TrainConfig, shards: Path) -> list[str]:
    """Write configuration and first weights; returns the options of the training program but --out."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.toml").write_text(dump_toml(config.model_dump(mode="json", exclude_none=True)))
    options = RunOptions(shards, folder / "init", "depth", max_steps=1)
    Trainer(config, options, tiny_network()).save()
    init = folder / "init" / "checkpoint.pt"
    return ["--config", str(folder / "run.toml"), "--shards", str(shards), "--init", str(init)]


def train_command(options: list[str], out: Path, *more: str) -> list[str]:
    """The training program on one process."""
    return [sys.executable, "-m", "remov3r.training", *options, "--out", str(out), *more]


def weights(out: Path) -> dict[str, Tensor]:
    """All weights of a run's checkpoint, the averaged ones too."""
    checkpoint = load_checkpoint(out / "checkpoint.pt")
    return {**checkpoint.network, **{f"average.{k}": v for k, v in checkpoint.average.items()}}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are the same to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
