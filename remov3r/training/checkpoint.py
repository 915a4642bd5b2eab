"""Checkpoints: everything an exact resume needs, in one file that is always whole."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remov3r.errors import DataError

FILE_NAME = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two steps.

    Attributes:
        config: the resolved configuration, as JSON.
        step: steps done.
        elapsed_s: training time so far, over all runs.
        samples: clips seen so far.
        rng: state of torch's random generator.
    """

    stage: str
    config: str
    step: int
    elapsed_s: float
    samples: int
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]
    rng: Tensor


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that `path` always holds a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        torch.save(checkpoint.__dict__, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        DataError: the file is missing or not a checkpoint.
    """
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, TypeError, KeyError, pickle.UnpicklingError) as error:
        raise DataError(f"checkpoint {path}: not readable: {error}") from error


def load_matching(network: torch.nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Load weights, or say which do not fit.

    Raises:
        DataError: names the first tensors that are missing, unknown or of another shape.
    """
    own = network.state_dict()
    wrong = [k for k in own if k not in state] + [k for k in state if k not in own]
    wrong += [k for k in own if k in state and own[k].shape != state[k].shape]
    if wrong:
        raise DataError(f"{where}: {len(wrong)} weights do not fit this network: {', '.join(wrong[:3])} ...")
    network.load_state_dict(state)
