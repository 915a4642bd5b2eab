"""Checkpoints: everything an exact resume needs, in one file that is always whole."""

from __future__ import annotations

import math
import os
import pickle
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remov3r.errors import DataError

FILE_NAME = "checkpoint.pt"
BEST_NAME = "best.pt"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two steps.

    Attributes:
        config: the resolved configuration, as JSON.
        step: steps done.
        elapsed_s: training time so far, over all runs.
        samples: clips drawn so far, by all processes; the number of the next one.
        rng: states of the random generators of each rank, by device.
        scaler: state of the loss scaling ("fp16").
        best: lowest validation score so far.
    """

    stage: str
    config: str
    step: int
    elapsed_s: float
    samples: int
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]
    rng: list[dict[str, Tensor]]
    scaler: dict[str, Any] = field(default_factory=dict)
    best: float = math.inf


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of this process's random generators."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Set this process's random generators; one without a state stays as it is."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that `path` always holds a whole one, even when the machine loses power.

    Raises:
        DataError: it could not be written; what was at `path` is still there.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            torch.save(checkpoint.__dict__, stream)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise DataError(f"checkpoint {path}: {_why_not_written(path, error)}") from error
    finally:
        part.unlink(missing_ok=True)


def _why_not_written(path: Path, error: Exception) -> str:
    kept = "the one before it is untouched" if path.exists() else "there was none before it"
    free = (
        f"{shutil.disk_usage(path.parent).free / 1e6:.0f} MB are free there, " if path.parent.exists() else ""
    )
    return f"not written, {kept}: {free}free some space and go on with --resume ({error})"


def _sync_folder(folder: Path) -> None:
    """Make a renamed file's new name last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def keep_last(path: Path, step: int, count: int) -> None:
    """Keep a written checkpoint under its step's number too, and the last `count` of such."""
    kept = path.with_name(f"{path.stem}-{step:08d}{path.suffix}")
    kept.unlink(missing_ok=True)
    try:
        os.link(path, kept)  # takes no space
    except OSError:
        shutil.copyfile(path, kept)
    for old in sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))[:-count]:
        old.unlink()


def remove_parts(folder: Path) -> None:
    """Remove what a killed run left half written."""
    for part in folder.glob(".*.part"):
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


def load_boxes(network: torch.nn.Module, state: dict[str, Tensor], where: str) -> list[str]:
    """Load those parts of a network that fit as a whole; the others keep what they have.

    So a run can start from weights that were trained without one of the network's switches.

    Returns:
        the names of the parts that were not loaded.
    Raises:
        DataError: nothing fits.
    """
    kept, own = [], network.state_dict()
    for name, box in network.named_children():
        mine = {k for k in own if k.startswith(f"{name}.")}
        theirs = {k for k in state if k.startswith(f"{name}.")}
        if mine == theirs and all(own[k].shape == state[k].shape for k in mine):
            box.load_state_dict({k.removeprefix(f"{name}."): state[k] for k in mine})
        else:
            kept.append(name)
    if len(kept) == len(list(network.children())):
        raise DataError(f"{where}: no part of this network fits; it is of another kind")
    return kept


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
