"""How a run starts: where it reads and writes, how long it lasts, and with which weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from remov3r.config import build
from remov3r.errors import DataError
from remov3r.models.network import Remov3rNetwork
from remov3r.models.weights import load_network
from remov3r.training.checkpoint import FILE_NAME, Checkpoint, load_boxes, load_checkpoint, load_matching
from remov3r.training.config import Stage, TrainConfig
from remov3r.training.distributed import Ranks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """Where a run reads and writes, and how long it lasts.

    Attributes:
        shards: holds one folder per set.
        out: gets checkpoint.pt, best.pt, log.jsonl, validation.json and config.json.
        time_budget_s: the learning rate is decayed to its end by then, validation included; None: no limit.
        max_steps: the same in steps; whichever comes first.
        resume: go on from the checkpoint in `out`; "auto": if there is one.
        init: a checkpoint whose averaged weights to start from, or a weights file (.safetensors); of several the
            mean. Parts of the network that they do not fit start anew. Without any, pretrained parts are taken.
        weights_dir: where pretrained parts lie; None: in their packages and caches.
    """

    shards: Path
    out: Path
    stage: Stage
    time_budget_s: float | None = None
    max_steps: int | None = None
    resume: bool | Literal["auto"] = False
    init: tuple[Path, ...] = ()
    weights_dir: Path | None = None


def load_network_of(checkpoint: Checkpoint) -> tuple[TrainConfig, Remov3rNetwork]:
    """Build the network of a checkpoint with its averaged weights."""
    config = build(TrainConfig, json.loads(checkpoint.config), "checkpoint")
    network = Remov3rNetwork(config.network)
    load_matching(network, checkpoint.average, "checkpoint")
    return config, network


def resumes(options: RunOptions, ranks: Ranks) -> bool:
    """Decide, as rank 0 sees it, whether there is a run to go on with."""
    if options.resume != "auto":
        return options.resume
    found = ranks.highest([float(ranks.first and (options.out / FILE_NAME).exists())])
    return bool(found[0])


def new_network(config: TrainConfig, options: RunOptions, resumes: bool) -> Remov3rNetwork:
    """Build a network with the weights that a run starts from; random ones if it resumes.

    Raises:
        DataError: weights are missing, do not fit, or differ in shape among themselves.
    """
    network = Remov3rNetwork(config.network)
    if resumes:
        return network
    if options.init:
        where = " + ".join(map(str, options.init))
        for name in load_boxes(network, mean_state(options.init), where):
            log.warning("%s does not fit %s, which starts anew", where, name)
        return network
    from remov3r.models.pretrained import load_pretrained

    for note in load_pretrained(network, options.weights_dir):
        log.info("%s", note)
    return network


def mean_state(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Average the weights of runs that share their first steps; such a mean often generalises better than each.

    Source: Wortsman et al., Model soups (2022).
    """
    states = [_initial_state(path) for path in paths]
    first = states[0]
    for path, state in zip(paths, states, strict=True):
        if {n: t.shape for n, t in state.items()} != {n: t.shape for n, t in first.items()}:
            raise DataError(f"{path}: is of another network than {paths[0]}, so they have no mean")
    means = {n: torch.stack([s[n].double() for s in states]).mean(0) for n in first}
    return {n: mean.to(first[n].dtype) for n, mean in means.items()}


def _initial_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_network(path).state_dict()
    return load_checkpoint(path).average
