"""torchrun: a killed worker is started again and goes on; two nodes train as one node with two processes does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remov3r.errors import ConfigError
from remov3r.training.checkpoint import load_checkpoint
from remov3r.training.distributed import joined
from tests.training.runs import ENVIRONMENT, run_config, same, weights, write_run, write_shards

STEPS = 4
PATIENCE_S = 240  # on a busy machine


def torchrun(options: list[str], out: Path, *launch: str) -> subprocess.Popen[bytes]:
    """The training program under torchrun, with sockets on this machine alone."""
    command = [sys.executable, "-m", "torch.distributed.run", "--local-addr", "127.0.0.1", *launch]
    command += ["-m", "remov3r.training", *options, "--out", str(out), "--resume", "auto"]
    return subprocess.Popen(command, env={**ENVIRONMENT, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"})


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def workers_of(agent: int) -> list[int]:
    """Process numbers of the training processes that a torchrun has started."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return [int(pid) for pid in children if b"remov3r.training" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def two_nodes(options: list[str], out: Path) -> bool:
    """Train on two nodes that are this machine; False when another program took the port first."""
    endpoint = f"127.0.0.1:{free_port()}"
    nodes = [
        torchrun(
            options, out, "--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1", "--rdzv-backend=c10d",
            f"--rdzv-endpoint={endpoint}", "--rdzv-id=test",
        )
        for node in range(2)
    ]  # fmt: skip
    return [node.wait(PATIENCE_S) for node in nodes] == [0, 0]


def one_node_with_a_killed_worker(options: list[str], out: Path) -> int:
    """Train in two processes, one of which is killed after the first checkpoint; returns torchrun's status."""
    agent = torchrun(
        options, out, "--nproc-per-node=2", "--max-restarts=2", "--rdzv-backend=c10d",
        "--rdzv-endpoint=127.0.0.1:0", "--monitor-interval=0.1",
    )  # fmt: skip
    while not (out / "checkpoint.pt").exists():
        assert agent.poll() is None
        time.sleep(0.02)
    victim = workers_of(agent.pid)[-1]
    os.kill(victim, signal.SIGKILL)
    assert load_checkpoint(out / "checkpoint.pt").step < STEPS
    return agent.wait(PATIENCE_S)


def test_a_killed_worker_and_two_nodes_change_nothing(tmp_path: Path) -> None:
    """Both runs have two ranks and the same batches, so they end the same to the bit."""
    options = write_run(tmp_path, run_config(), write_shards(tmp_path / "shards"))
    options += ["--stage", "clips", "--max-steps", str(STEPS)]
    assert one_node_with_a_killed_worker(options, tmp_path / "killed") == 0
    assert any(two_nodes(options, tmp_path / "nodes") for _ in range(3))
    found = [load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("killed", "nodes")]
    assert [(c.step, c.samples, len(c.rng)) for c in found] == [(STEPS, 4 * STEPS, 2)] * 2
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "nodes"))


def test_restarts_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"), joined("cpu"):
        pass
