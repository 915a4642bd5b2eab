"""Several training processes: who they are, what they agree on, and gradients averaged over them.

torchrun starts the processes and describes their group in environment variables; a process on its own is a
group of one and talks to nobody.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from remov3r.errors import ConfigError

# Others wait for rank 0 while it validates and writes; torchrun ends them at once when a process dies.
_PATIENCE = datetime.timedelta(hours=2)


@dataclass(frozen=True)
class Ranks:
    """The group of training processes, and this one's place in it.

    Attributes:
        rank: of this process, 0 to count − 1; rank 0 alone writes files.
        count: processes of all nodes.
        local: rank among the processes of this node, and the number of its GPU.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def highest(self, values: Sequence[float]) -> list[float]:
        """Return, on every rank, the highest of what the ranks give, value by value."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def mean(self, values: Sequence[float]) -> list[float]:
        """Return, on every rank, the mean of what the ranks give, value by value."""
        return [v / self.count for v in self._reduced(values, dist.ReduceOp.SUM)]

    def _reduced(self, values: Sequence[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self.count == 1:
            return list(values)
        all_values = torch.tensor(values, dtype=torch.float64)  # on the CPU: no wait for a GPU
        dist.all_reduce(all_values, how)
        return all_values.tolist()

    def gathered(self, value: Any) -> list[Any]:
        """Return, on every rank, what all ranks give, in their order."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.highest([0.0])

    def averaging(self, module: nn.Module) -> nn.Module:
        """Wrap a module so that backward passes average its gradients over the ranks.

        Rank 0's weights go to all. Weights that a step does not use are looked for each time, because the depth
        stage leaves the states out and terms of the loss can be switched off.
        """
        if self.count == 1:
            return module
        # the module is on its device already, so that DDP need not know which that is
        return DistributedDataParallel(module, find_unused_parameters=True)


def without_averaging(module: nn.Module) -> AbstractContextManager[None]:
    """Return a context in which backward passes add up gradients on each rank alone."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def pick_device(name: str, local_rank: int = 0) -> str:
    """Resolve "auto" to this process's GPU if there is one.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not name.startswith("cuda"):
        return name
    if not torch.cuda.is_available():
        raise ConfigError(f'device {name!r}: torch sees no GPU; use device = "auto" or "cpu"')
    if name == "cuda":
        name = f"cuda:{local_rank}"
    if int(name.partition(":")[2]) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name}: torch sees {torch.cuda.device_count()} GPU(s); start one process per GPU "
            "(torchrun --nproc-per-node)"
        )
    return name


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the group that torchrun describes: gloo between CPUs, nccl between GPUs; alone without torchrun.

    Args:
        device: as in the configuration.
    Raises:
        ConfigError: there is no GPU for this process, or a restart could not work.
    """
    count = int(os.environ.get("WORLD_SIZE", "1")) if dist.is_torchelastic_launched() else 1
    if count == 1:
        yield Ranks()
        return
    _check_restarts()
    ranks = Ranks(int(os.environ["RANK"]), count, int(os.environ["LOCAL_RANK"]))
    picked = pick_device(device, ranks.local)
    if picked.startswith("cuda"):
        torch.cuda.set_device(picked)
    backend = "cpu:gloo,cuda:nccl" if picked.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    yield ranks
    # not after an error: the others may be waiting in the group, and only their end frees them
    dist.destroy_process_group()


def _check_restarts() -> None:
    """Refuse a torchrun whose restarted workers would meet the addresses of the ones that died."""
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if restarts and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise ConfigError(
            "torchrun --max-restarts: its processes would be started again with the addresses of those that "
            "died; set the environment variable TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun"
        )
