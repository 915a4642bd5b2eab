"""Fusion: depth tokens and a pose token attend to each other, then to the visual tokens (paper 3.1.1).

Gives the semantically-conditioned feature (SCF) embeddings and one pose embedding per frame.
Shapes: B batch, N tokens at stride 16, D channels of the fusion, E of the depth tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.config import Config
from remov3r.models.attention import Attention, Mlp
from remov3r.models.encoder import FEATURE_CHANNELS, EncoderFeatures
from remov3r.models.rays import ray_code, ray_map


class FusionConfig(Config):
    """Fusion; `dim` is also the size of the pose embedding."""

    dim: int = 192
    depth: int = 2
    heads: int = 3
    mlp_ratio: int = 2


class FusionBlock(nn.Module):
    """Self-attention of geometry, cross-attention to the image, MLP."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        dim = config.dim
        self.self_norm, self.cross_norm, self.mlp_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.self_attention = Attention(dim, config.heads)
        self.cross_attention = Attention(dim, config.heads)
        self.mlp = Mlp(dim, config.mlp_ratio * dim)

    def forward(self, x_BND: Tensor, visual_BND: Tensor) -> Tensor:
        """Update the geometry tokens."""
        y_BND = self.self_norm(x_BND)
        x_BND = x_BND + self.self_attention(y_BND, y_BND)
        x_BND = x_BND + self.cross_attention(self.cross_norm(x_BND), visual_BND)
        return x_BND + self.mlp(self.mlp_norm(x_BND))


class Fusion(nn.Module):
    """Depth tokens, pose token and visual tokens to SCF tokens and a pose embedding."""

    def __init__(self, config: FusionConfig, depth_dim: int) -> None:
        super().__init__()
        self.config = config
        _, _, c16, c32 = FEATURE_CHANNELS
        self.depth_in = nn.Linear(depth_dim, config.dim)
        self.visual16 = nn.Conv2d(c16, config.dim, 1)
        self.visual32 = nn.Conv2d(c32, config.dim, 1)
        self.visual_norm = nn.LayerNorm(config.dim)
        self.pose_token_D = nn.Parameter(torch.randn(config.dim) * 0.02)
        self.blocks = nn.ModuleList(FusionBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, depth_BNE: Tensor, features: EncoderFeatures, K_B33: Tensor) -> tuple[Tensor, Tensor]:
        """Return the SCF tokens, B N D, and the pose embedding, B D."""
        h, w = features.s16.shape[2:]
        code_BND = ray_code(ray_map(K_B33, int(h), int(w), 16), self.config.dim)
        coarse = F.interpolate(self.visual32(features.s32), scale_factor=2.0, mode="nearest")
        visual_BND = (self.visual16(features.s16) + coarse).flatten(2).transpose(1, 2)
        visual_BND = self.visual_norm(visual_BND + code_BND)
        pose_B1D = self.pose_token_D.expand(len(depth_BNE), 1, -1)
        x_BND = torch.cat([pose_B1D, self.depth_in(depth_BNE) + code_BND], 1)
        for block in self.blocks:
            x_BND = block(x_BND, visual_BND)
        x_BND = self.norm(x_BND).float()
        return x_BND[:, 1:], x_BND[:, 0]
