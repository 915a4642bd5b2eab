"""Two processes with gloo: their averaged gradient is that of one process with the same global batch."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from remov3r.errors import OptimizationError
from remov3r.training.augment import PLAIN
from remov3r.training.batches import BatchMaker
from remov3r.training.config import Stage, TrainConfig
from remov3r.training.distributed import Ranks, joined
from remov3r.training.trainer import RunOptions, Trainer
from tests.models.tiny import tiny_network
from tests.training.runs import run_config, write_shards

GLOBAL_BATCH = 4


def config_of(stage: Stage, batch: int, accumulate: int) -> TrainConfig:
    config = run_config(augment=PLAIN, optimizer={"clip": 1e9})
    changed = config.stage(stage).model_copy(update={"batch": batch, "accumulate": accumulate})
    return config.model_copy(update={stage: changed})


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    """The gradient of one step, over all ranks."""
    maker, firsts = BatchMaker(trainer._settings()), trainer._firsts()
    trainer.train_step(*[maker.make(next(firsts)) for _ in range(trainer.stage.accumulate)])
    return {n: p.grad.clone() for n, p in trainer.network.named_parameters() if p.grad is not None}


def one_of_two(rank: int, port: int, root: Path) -> None:
    """What each process does: gradients of all cases, then a batch that is not finite on rank 1 alone."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test", "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    torch.set_num_threads(1)
    with joined("cpu") as ranks:
        found = {}
        for stage, accumulate in CASES:
            config = config_of(stage, GLOBAL_BATCH // 2 // accumulate, accumulate)
            options = RunOptions(root / "shards", root / f"{stage}{accumulate}", stage, max_steps=5)
            found[stage, accumulate] = gradients(Trainer(config, options, tiny_network(), ranks))
        torch.save((found, refusal(ranks, root)), root / f"rank{rank}.pt")


def refusal(ranks: Ranks, root: Path) -> tuple[str, bool]:
    """The message about a batch that is not finite on rank 1, and whether the weights stayed as they were."""
    options = RunOptions(root / "shards", root / "refused", "depth", max_steps=5)
    trainer = Trainer(config_of("depth", 2, 1), options, tiny_network(), ranks)
    batch = BatchMaker(trainer._settings()).make(next(trainer._firsts()))
    if ranks.rank == 1:
        batch.K[:] = float("nan")
    before = [p.clone() for p in trainer.network.parameters()]
    try:
        trainer.train_step(batch)
    except OptimizationError as error:
        same = all(torch.equal(a, b) for a, b in zip(before, trainer.network.parameters()))
        return str(error), same
    return "", False


Both = tuple[Path, list[Any]]
CASES: tuple[tuple[Stage, int], ...] = (("depth", 1), ("clips", 1), ("clips", 2))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Both processes' findings."""
    root = tmp_path_factory.mktemp("two")
    write_shards(root / "shards")
    for _ in range(3):  # another program may take the port before rank 0 does
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        both = [context.Process(target=one_of_two, args=(rank, port, root)) for rank in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join(240)
        if all(process.exitcode == 0 for process in both):
            break
    return root, [torch.load(root / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize(("stage", "accumulate"), CASES)
def test_gradients_equal_those_of_one_process(stage: Stage, accumulate: int, two: Both) -> None:
    root, (first, second) = two
    options = RunOptions(root / "shards", root / "one", stage, max_steps=5)
    expected = gradients(Trainer(config_of(stage, GLOBAL_BATCH, 1), options, tiny_network()))
    largest = max(float(g.abs().max()) for g in expected.values())
    for found in (first[0][stage, accumulate], second[0][stage, accumulate]):
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5 * largest), name


def test_not_finite_on_one_rank_stops_both(two: Both) -> None:
    _, (first, second) = two
    for message, unchanged in (first[1], second[1]):
        assert unchanged
        assert "rank 1, batch of samples 2 to 3" in message
        assert "rank 0" not in message
