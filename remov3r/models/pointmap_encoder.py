"""Pointmap encoder: a small ViT on the unprojected depth prior, one token per 16×16 image pixels.

Shapes: B batch, h w size at stride 2, N tokens, D channels, P = 8 prior pixels to a token's side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.config import Config
from remov3r.models.attention import SelfBlock
from remov3r.models.rays import ray_code, ray_map

PATCH = 8


class PointmapEncoderConfig(Config):
    """Pointmap encoder."""

    dim: int = 128
    depth: int = 2
    heads: int = 2
    mlp_ratio: int = 3


class PointmapEncoder(nn.Module):
    """Patches of points to tokens."""

    def __init__(self, config: PointmapEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.patches = nn.Linear(3 * PATCH**2, config.dim)
        self.blocks = nn.ModuleList(
            SelfBlock(config.dim, config.heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, depth_m_Bhw: Tensor, K_B33: Tensor) -> Tensor:
        """Encode metric depth at stride 2 into tokens B N D, row by row.

        The depth is an observation here: no gradient returns through it.
        """
        h, w = depth_m_Bhw.shape[1:]
        points_B3hw = compressed_points(depth_m_Bhw.detach(), ray_map(K_B33, int(h), int(w), 2))
        x_BND = self.patches(F.pixel_unshuffle(points_B3hw, PATCH).flatten(2).transpose(1, 2))
        x_BND = x_BND + ray_code(ray_map(K_B33, int(h) // PATCH, int(w) // PATCH, 2 * PATCH), self.config.dim)
        for block in self.blocks:
            x_BND = block(x_BND)
        return self.norm(x_BND)


def compressed_points(depth_m_Bhw: Tensor, rays_B2hw: Tensor) -> Tensor:
    """Unproject, then shorten each point to the logarithm of its distance, which keeps far ones in range."""
    points_B3hw = torch.cat([rays_B2hw, torch.ones_like(rays_B2hw[:, :1])], 1) * depth_m_Bhw[:, None]
    distance_B1hw = points_B3hw.square().sum(1, keepdim=True).sqrt().clamp(min=1e-6)
    return points_B3hw * (distance_B1hw.log1p() / distance_B1hw)
