"""The optimiser's groups of weights, and the running average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from remov3r.errors import ConfigError
from remov3r.models.network import Remov3rNetwork
from remov3r.training.config import OptimizerConfig, StageConfig


def build_optimizer(network: nn.Module, stage: StageConfig, config: OptimizerConfig) -> torch.optim.AdamW:
    """Build AdamW with a group for each learning rate factor and for weights that are not decayed.

    Weights whose factor is 0 are frozen; those that the network has frozen stay so.

    Raises:
        ConfigError: a factor's name is no part of the network, or nothing is left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    unknown = [part for part in stage.lr_factors if not any(_within(n, part) for n in names)]
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        factor = lr_factor(name, stage.lr_factors)
        if factor == 0:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    if unknown or not groups:
        parts = ", ".join(dict.fromkeys(n.partition(".")[0] for n in names))
        raise ConfigError(f"lr_factors: {unknown or 'everything is frozen'}; the network's parts are {parts}")
    return torch.optim.AdamW(
        [{"params": p, "factor": f, "weight_decay": d} for (f, d), p in groups.items()], lr=stage.lr
    )


def lr_factor(name: str, factors: dict[str, float]) -> float:
    """Return the factor of a parameter: that of the longest part that its dotted name begins with."""
    fitting = [part for part in factors if _within(name, part)]
    return factors[max(fitting, key=len)] if fitting else 1.0


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


class Average:
    """The running average of a network's weights; frozen weights are shared, not copied."""

    def __init__(self, network: Remov3rNetwork, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        pairs = list(zip(self.network.parameters(), network.parameters(), strict=True))
        for ours, theirs in pairs:
            if not theirs.requires_grad:
                ours.data = theirs.data
        self._ours: list[Tensor] = [ours for ours, theirs in pairs if theirs.requires_grad]
        self._theirs: list[Tensor] = [theirs for _, theirs in pairs if theirs.requires_grad]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step; the first steps count more."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._ours, self._theirs, 1 - decay)
