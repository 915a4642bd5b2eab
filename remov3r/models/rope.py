"""Attention blocks with two-dimensional rotary positions.

Half of a head's channels turn with the token's row, half with its column; channel pair i turns by
position · 100^(-i / F) rad, so that scores depend on where tokens lie to each other, not in the image.

Shapes: B batch, N tokens, D channels, H heads, E = D / H, F = E / 4 frequencies.
References: Su et al. 2021 (RoFormer); Weinzaepfel et al. 2023 (CroCo v2: both axes, base 100).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.errors import ConfigError
from remov3r.models.attention import Attention

BASE = 100.0
NORM_EPS = 1e-6


def grid_angles(height: int, width: int, head_dim: int, device: torch.device) -> Float[Tensor, "n 2 f"]:
    """Give the angles, rad, of the tokens of a grid, row by row: first those of the row, then of the column."""
    frequencies_F = BASE ** -(torch.arange(head_dim // 4, device=device) / (head_dim // 4))
    rows_N = torch.arange(height, device=device).repeat_interleave(width)
    columns_N = torch.arange(width, device=device).repeat(height)
    return torch.stack([rows_N, columns_N], 1)[..., None] * frequencies_F


def rotate(x_BHNE: Tensor, angles_N2F: Tensor) -> Tensor:
    """Turn each pair of channels; of each axis' half, the first half holds the pairs' first parts."""
    real, imaginary = x_BHNE.view(*x_BHNE.shape[:-1], 2, 2, -1).unbind(-2)
    cos, sin = angles_N2F.cos(), angles_N2F.sin()
    turned = torch.stack([real * cos - imaginary * sin, imaginary * cos + real * sin], -2)
    return turned.flatten(-3).to(x_BHNE.dtype)


class RotaryAttention(Attention):
    """Self-attention whose queries and keys carry the tokens' positions."""

    def rotated(self, x_BND: Tensor, angles_N2F: Tensor) -> Tensor:
        """Let the tokens attend to each other."""
        k_BHNE, v_BHNE = self.keys_values(x_BND)
        q_BHNE = rotate(self._split(self.query(x_BND)), angles_N2F)
        y_BHNE = F.scaled_dot_product_attention(q_BHNE, rotate(k_BHNE, angles_N2F), v_BHNE)
        return self.out(y_BHNE.transpose(1, 2).flatten(2))


class RotaryBlock(nn.Module):
    """Self-attention, then an MLP with the exact GELU, both pre-norm and residual."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        """Build the block.

        Raises:
            ConfigError: a head's channels do not split into pairs for rows and columns.
        """
        super().__init__()
        if dim % (4 * heads):
            raise ConfigError(f"rotary positions: dim = {dim} is no multiple of 4 x {heads} heads")
        self.norm, self.mlp_norm = nn.LayerNorm(dim, NORM_EPS), nn.LayerNorm(dim, NORM_EPS)
        self.attention = RotaryAttention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))

    def forward(self, x_BND: Tensor, angles_N2F: Tensor) -> Tensor:
        """Update the tokens."""
        x_BND = x_BND + self.attention.rotated(self.norm(x_BND), angles_N2F)
        return x_BND + self.mlp(self.mlp_norm(x_BND))
