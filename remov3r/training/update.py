"""One update of the weights: losses of the micro-batches, gradients over all ranks, clip, step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from remov3r.errors import OptimizationError
from remov3r.models.network import Remov3rNetwork
from remov3r.training.batches import Batch
from remov3r.training.config import Stage, TrainConfig
from remov3r.training.distributed import Ranks, without_averaging
from remov3r.training.objective import LossParts, Truth, clip_objective, depth_objective, to_device

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SMALLEST_SCALE = 2.0**-6  # of the fp16 loss: when even this overflows, the gradient is not finite


class Objective(nn.Module):
    """The network and what is minimised, so that DDP sees the whole forward pass."""

    def __init__(self, network: Remov3rNetwork, stage: Stage, config: TrainConfig) -> None:
        super().__init__()
        self.network = network
        self._stage, self._config = stage, config

    def forward(self, truth: Truth) -> tuple[Tensor, LossParts]:
        """Return the loss of a batch, and its terms."""
        kind = _AUTOCAST.get(self._config.precision)
        with torch.autocast(truth.rgb.device.type, kind or torch.bfloat16, enabled=kind is not None):
            if self._stage == "depth":
                depth = self.network.forward_depth(truth.image.flatten(0, 1), truth.K.flatten(0, 1))
            else:
                clip = self.network(truth.image, truth.K, truth.keyframe_index)
        if self._stage == "depth":
            parts = depth_objective(depth, truth, self._config.loss)
        else:
            parts = clip_objective(clip, truth, self._config.loss)
        return parts.total(), parts


class Update:
    """Computes gradients and steps; refuses, on all ranks at once, what is not finite."""

    def __init__(
        self, objective: Objective, optimizer: torch.optim.Optimizer, config: TrainConfig,
        device: torch.device, ranks: Ranks,
    ) -> None:  # fmt: skip
        self.optimizer = optimizer
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self._objective, self._averaging = objective, ranks.averaging(objective)
        self._config, self._device, self._ranks = config, device, ranks
        self._weights = [p for group in optimizer.param_groups for p in group["params"]]

    def __call__(self, micro: Sequence[Batch]) -> list[LossParts]:
        """Take one step on the mean loss of this rank's micro-batches and all other ranks'.

        In fp16 a step whose gradient overflows is left out, and the loss is scaled down for the next.

        Raises:
            OptimizationError: a loss or gradient of some rank is not finite; no weight has been changed on any.
        """
        self.optimizer.zero_grad(set_to_none=True)
        finite, parts = torch.ones((), dtype=torch.bool, device=self._device), []
        for i, batch in enumerate(micro):
            with nullcontext() if i == len(micro) - 1 else without_averaging(self._averaging):
                loss, terms = self._averaging(to_device(batch, self._config, self._device))
                self.scaler.scale(loss / len(micro)).backward()
            finite &= loss.detach().isfinite()
            parts.append(terms)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self._weights, self._config.optimizer.clip)
        if not self.scaler.is_enabled() or self.scaler.get_scale() < _SMALLEST_SCALE:
            finite &= norm.isfinite()
        if self._ranks.highest([float(not finite)])[0]:
            raise OptimizationError(self._what_is_not_finite(micro))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return parts

    def _what_is_not_finite(self, micro: Sequence[Batch]) -> str:
        """Compute each micro-batch again, on each rank alone, and say which of them are not finite."""
        found = []
        for batch in micro:
            self.optimizer.zero_grad(set_to_none=True)
            loss, parts = self._objective(to_device(batch, self._config, self._device))
            loss.backward()
            gradients = [p.grad for p in self._weights if p.grad is not None]
            norm = float(nn.utils.get_total_norm(gradients))
            figures = parts.figures()
            if not math.isfinite(norm) or not math.isfinite(sum(figures.values())):
                bad = {k: v for k, v in figures.items() if not math.isfinite(v)}
                last = batch.first + len(batch.rgb) - 1
                found.append(
                    f"rank {self._ranks.rank}, batch of samples {batch.first} to {last}: "
                    + (f"loss terms {bad}" if bad else f"gradient norm {norm}")
                )
        self.optimizer.zero_grad(set_to_none=True)
        everywhere = [line for lines in self._ranks.gathered(found) for line in lines]
        return "; ".join(everywhere) or "the sum over the batches, each of which is finite on its own"
