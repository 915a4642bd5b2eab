"""What a run reports: a log that a killed run cannot spoil, and TensorBoard's scalars, images and plot."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from remov3r.errors import MissingDependencyError
from remov3r.training.board import Board, coloured
from remov3r.training.distributed import Ranks
from remov3r.training.monitor import Monitor, peak_memory_mb
from remov3r.training.trainer import RunOptions, Trainer
from tests.models.tiny import tiny_network
from tests.training.runs import run_config

CPU = torch.device("cpu")


def test_records_of_later_steps_and_cut_lines_go(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step}) for step in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "lo')
    Monitor(tmp_path, 2, 4, Ranks(), CPU, tensorboard=False)
    assert (tmp_path / "log.jsonl").read_text() == "".join(line + "\n" for line in lines[:2])


def test_a_run_reports_speed_memory_and_pictures(shards: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = run_config(validation={"sets": ["val"], "frame_step": 2}, tensorboard=True)
    Trainer(config, RunOptions(shards, tmp_path, "depth", max_steps=2), tiny_network()).run()
    first = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert first["samples_per_s"] > 0
    assert 0 <= first["data_wait"] <= 1
    assert first["peak_mb"] == pytest.approx(peak_memory_mb(CPU), rel=0.5)
    assert first["loss"] == pytest.approx(sum(first[k] for k in ("prior_log", "refined_log", "gradient"))
        + sum(v for k, v in first.items() if k.endswith("_confidence")))  # fmt: skip
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "train/lr", "train/samples_per_s", "train/terms/refined_log"} <= set(
        tags["scalars"]
    )
    assert {"validation mean/abs_rel", "validation val/abs_rel"} <= set(tags["scalars"])
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2]
    frames = {f"frames/{n}" for n in ("rgb", "depth", "true depth", "confidence", "pointmap")}
    assert frames | {"reliability"} <= {tag.removesuffix("/0") for tag in tags["images"]}


def test_colours_of_both_ends() -> None:
    low, high = coloured(np.array([[[0.0, -5.0]], [[1.0, 7.0]]]), 0.0, 1.0)
    assert (low[0, 0] == low[0, 1]).all()
    assert (high[0, 0] == high[0, 1]).all()
    assert not (low == high).all()


def test_missing_tensorboard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r"remov3r\[train\]"):
        Board(tmp_path, 0)
