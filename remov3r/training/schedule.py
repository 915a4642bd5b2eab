"""The learning rate over a run, and how much of the run is done."""

from __future__ import annotations

import math

from remov3r.training.config import EpochConfig, OptimizerConfig


def learning_rate(
    step: int, progress: float, config: OptimizerConfig, epochs: EpochConfig | None = None
) -> float:
    """Return the fraction of the highest learning rate: a linear warm-up times a decay.

    Args:
        step: steps done.
        progress: how much of the run is done, 0 to 1; a cosine falls over it.
        epochs: if given, the rate falls by `gamma` after each epoch instead.
    References: paper, table 1.
    """
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    if epochs is not None:
        return warm * epochs.gamma ** (step // epochs.steps)
    return warm * (config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * progress)))


def run_steps(max_steps: int | None, epochs: EpochConfig | None) -> int | None:
    """Return the steps of the whole run: what the command asks for, else all epochs; None: no limit."""
    if max_steps is None and epochs is not None:
        return epochs.count * epochs.steps
    return max_steps


def progress(elapsed_s: float, step: int, time_budget_s: float | None, max_steps: int | None) -> float:
    """Return how much of a run is done, 0 to 1, by whichever budget is used up first."""
    parts = [0.0]
    if time_budget_s is not None:
        parts.append(elapsed_s / time_budget_s)
    if max_steps is not None:
        parts.append(step / max_steps)
    return min(max(parts), 1.0)
