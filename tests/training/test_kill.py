"""A run that is killed at any moment goes on, and ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

from remov3r.training.checkpoint import load_checkpoint
from tests.training.runs import ENVIRONMENT, run_config, same, train_command, weights, write_run, write_shards

STEPS = 6
PATIENCE_S = 240  # on a busy machine


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """SIGKILL at a random moment after the first checkpoint; the end is the same to the bit."""
    config = run_config(validation={"sets": ["val"], "frame_step": 2})
    options = write_run(tmp_path, config, write_shards(tmp_path / "shards"))
    options += ["--stage", "clips", "--max-steps", str(STEPS)]
    whole = subprocess.Popen(train_command(options, tmp_path / "whole"), env=ENVIRONMENT)
    killed = tmp_path / "killed"
    process = subprocess.Popen(train_command(options, killed, "--resume", "auto"), env=ENVIRONMENT)
    while not (killed / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(random.uniform(0, 0.5))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 1 <= load_checkpoint(killed / "checkpoint.pt").step <= STEPS
    resumed = subprocess.Popen(train_command(options, killed, "--resume", "auto"), env=ENVIRONMENT)
    assert (resumed.wait(PATIENCE_S), whole.wait(PATIENCE_S)) == (0, 0)
    assert same(weights(tmp_path / "whole"), weights(killed))
    assert not list(killed.glob(".*.part"))
    lines = [json.loads(line) for line in (killed / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, STEPS + 1))
    expected, found = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "killed"))
    assert (found.samples, found.best, found.scaler) == (expected.samples, expected.best, expected.scaler)
    assert {p.name for p in killed.glob("*.pt")} == {
        "checkpoint.pt", "best.pt", "checkpoint-00000005.pt", "checkpoint-00000006.pt",
    }  # fmt: skip
