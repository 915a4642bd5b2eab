"""Fusion: depth tokens and a pose token attend to each other, then to the visual tokens (paper 3.1.1).

Gives the semantically-conditioned feature (SCF) embeddings and one pose embedding per frame.
Shapes: B batch, N depth tokens, M visual tokens, D channels of the fusion, E of the depth tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.config import Config
from remov3r.models.attention import Attention, Mlp
from remov3r.models.features import VisualFeatures
from remov3r.models.rays import ray_code, ray_map

COARSEST_FINE = 14  # input pixels: maps finer than this have too many cells to be attended to


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

    def forward(self, x_BND: Tensor, visual_BMD: Tensor) -> Tensor:
        """Update the geometry tokens."""
        y_BND = self.self_norm(x_BND)
        x_BND = x_BND + self.self_attention(y_BND, y_BND)
        x_BND = x_BND + self.cross_attention(self.cross_norm(x_BND), visual_BMD)
        return x_BND + self.mlp(self.mlp_norm(x_BND))


class Fusion(nn.Module):
    """Depth tokens, pose token and visual tokens to SCF tokens and a pose embedding."""

    def __init__(
        self,
        config: FusionConfig,
        depth: tuple[int, int],
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        levels: tuple[int, ...],
    ) -> None:
        """Build the blocks.

        Args:
            depth: channels and stride of the depth tokens.
            channels: of the visual encoder's maps.
            strides: of the same; those of COARSEST_FINE pixels and more become visual tokens.
            levels: blocks whose tokens are given out, the last block among them.
        """
        super().__init__()
        self.config, self.levels = config, levels
        self.depth_stride = depth[1]
        self.used = tuple(i for i, s in enumerate(strides) if s >= COARSEST_FINE)
        self.visual_stride = strides[self.used[0]]
        self.depth_in = nn.Linear(depth[0], config.dim)
        self.visual = nn.ModuleList(nn.Conv2d(channels[i], config.dim, 1) for i in self.used)
        self.visual_norm = nn.LayerNorm(config.dim)
        self.pose_token_D = nn.Parameter(torch.randn(config.dim) * 0.02)
        self.blocks = nn.ModuleList(FusionBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)

    def forward(
        self, depth_BNE: Tensor, features: VisualFeatures, K_B33: Tensor, size: tuple[int, int]
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the SCF tokens of the wanted levels, each B N D, and the pose embedding, B D.

        Args:
            size: height and width of the input image.
        """
        visual_BMD = self._visual_tokens(features, K_B33)
        height, width = size[0] // self.depth_stride, size[1] // self.depth_stride
        code_BND = ray_code(ray_map(K_B33, height, width, self.depth_stride), self.config.dim)
        pose_B1D = self.pose_token_D.expand(len(depth_BNE), 1, -1)
        x_BND = torch.cat([pose_B1D, self.depth_in(depth_BNE) + code_BND], 1)
        levels = []
        for i, block in enumerate(self.blocks):
            x_BND = block(x_BND, visual_BMD)
            if i in self.levels[:-1]:
                levels.append(x_BND[:, 1:].float())
        x_BND = self.norm(x_BND).float()
        return (*levels, x_BND[:, 1:]), x_BND[:, 0]

    def _visual_tokens(self, features: VisualFeatures, K_B33: Tensor) -> Tensor:
        """Add up the coarse maps on the grid of the finest of them."""
        maps = [conv(features.maps[i]) for conv, i in zip(self.visual, self.used, strict=True)]
        h, w = int(maps[0].shape[2]), int(maps[0].shape[3])
        x_BDhw = maps[0]
        for coarse in maps[1:]:
            x_BDhw = x_BDhw + F.interpolate(coarse, size=(h, w), mode="nearest")
        code_BMD = ray_code(ray_map(K_B33, h, w, self.visual_stride), self.config.dim)
        return self.visual_norm(x_BDhw.flatten(2).transpose(1, 2) + code_BMD)
