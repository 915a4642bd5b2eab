"""Causal self-attention over a sliding window, whole clips at once or token by token, with one result.

Position enters as a learned bias per lag (how many tokens back), so a stream of any length stays within what
was trained, and the caches hold at most the longest lag.

Shapes: B batch, T tokens, D channels, H heads, E = D / H, M cached tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from remov3r.models.attention import SelfBlock


@dataclass(frozen=True)
class KeyValueCache:
    """Keys and values B H M E of the tokens that may still be seen, one entry per block."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    def __len__(self) -> int:
        return self.keys[0].shape[2] if self.keys else 0


class CausalStack(nn.Module):
    """Blocks in which a token sees itself, the `max_lag` - 1 before it, and a memory token if any."""

    def __init__(self, dim: int, depth: int, heads: int, mlp_ratio: int, max_lag: int, memory: bool) -> None:
        super().__init__()
        self.max_lag = max_lag
        self.blocks = nn.ModuleList(SelfBlock(dim, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.lag_bias_HL = nn.Parameter(torch.zeros(heads, max_lag))
        self.memory_D = nn.Parameter(torch.randn(dim) * 0.02) if memory else None

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Run whole rows of tokens; padding after a row's last token changes nothing before it."""
        token_T = torch.arange(x_BTD.shape[1], device=x_BTD.device)
        lag_TT = token_T[:, None] - token_T
        hidden_TT = (lag_TT < 0) | (lag_TT >= self.max_lag)
        bias = self.lag_bias_HL[:, lag_TT.clamp(0, self.max_lag - 1)]
        bias = bias.masked_fill(hidden_TT, float("-inf"))
        if self.memory_D is not None:
            x_BTD = torch.cat([self.memory_D.expand(len(x_BTD), 1, -1), x_BTD], 1)
            bias = nn.functional.pad(bias, (1, 0, 0, 0), value=0.0)  # everybody sees the memory,
            bias = nn.functional.pad(bias, (0, 0, 1, 0), value=float("-inf"))
            bias[:, 0, 0] = 0.0  # which sees itself alone
        for block in self.blocks:
            x_BTD = block(x_BTD, bias)
        x_BTD = self.norm(x_BTD)
        return x_BTD if self.memory_D is None else x_BTD[:, 1:]

    def start(self, batch: int = 1) -> KeyValueCache:
        """Return the cache before the first token: empty, or the memory token's keys and values."""
        if self.memory_D is None:
            return KeyValueCache((), ())
        x_B1D, keys, values = self.memory_D.expand(batch, 1, -1), [], []
        for block in self.blocks:
            k, v = block.attention.keys_values(block.norm(x_B1D))  # type: ignore[operator, union-attr]
            keys.append(k)
            values.append(v)
            x_B1D = block(x_B1D)
        return KeyValueCache(tuple(keys), tuple(values))

    def step(self, x_B1D: Tensor, cache: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        """Run one more token; returns its output and the cache with it, without the oldest when full."""
        remembered = 0 if self.memory_D is None else 1
        seen = min(max(len(cache) - remembered, 0) + 1, self.max_lag)
        bias_HM = self.lag_bias_HL[:, :seen].flip(1)
        bias_H1M = nn.functional.pad(bias_HM, (remembered, 0), value=0.0)[:, None]
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            y_B1D = block.norm(x_B1D)  # type: ignore[operator]
            k, v = block.attention.keys_values(y_B1D)  # type: ignore[operator, union-attr]
            if len(cache):
                k = _append(cache.keys[i], k, remembered, seen)
                v = _append(cache.values[i], v, remembered, seen)
            x_B1D = x_B1D + block.attention.attend(y_B1D, k, v, bias_H1M)  # type: ignore[operator, union-attr]
            x_B1D = x_B1D + block.mlp(block.mlp_norm(x_B1D))  # type: ignore[operator]
            keys.append(k)
            values.append(v)
        return self.norm(x_B1D), KeyValueCache(tuple(keys), tuple(values))


def _append(past_BHME: Tensor, new_BH1E: Tensor, remembered: int, seen: int) -> Tensor:
    recent = past_BHME[:, :, remembered:]
    recent = recent[:, :, recent.shape[2] - (seen - 1) :]
    return torch.cat([past_BHME[:, :, :remembered], recent, new_BH1E], 2)
