"""Pointmap encoder: a ViT on the unprojected depth prior, one token per `patch` by `patch` image pixels.

Shapes: B batch, h w size at stride 2, N tokens, D channels, P = patch / 2 prior pixels to a token's side.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.config import Config
from remov3r.errors import ConfigError
from remov3r.models.attention import SelfBlock
from remov3r.models.rays import ray_code, ray_map
from remov3r.models.rope import RotaryBlock, grid_angles

SMALLEST_EXTENT_M = 1e-6


class PointmapEncoderConfig(Config):
    """Pointmap encoder.

    Attributes:
        patch: input pixels to a token's side.
        position: "rays": tokens know their viewing ray, points are metric with their distance's logarithm;
            "rope": the design of Align3R's depth encoder, whose weights `load_pretrained` puts in: rotary
            positions, points scaled to their bounding box, whose limits enter behind the frozen blocks.
        trainable_blocks: the patches and all blocks but the last so many are frozen; None trains everything.
    """

    patch: int = Field(default=16, gt=0, multiple_of=2)
    dim: int = 128
    depth: int = 2
    heads: int = 2
    mlp_ratio: int = 3
    position: Literal["rays", "rope"] = "rays"
    trainable_blocks: int | None = Field(default=None, ge=0)


class PointmapEncoder(nn.Module):
    """Patches of points to tokens."""

    def __init__(self, config: PointmapEncoderConfig) -> None:
        """Build the encoder.

        Raises:
            ConfigError: more blocks are to be trained than there are, or the heads do not divide the channels.
        """
        super().__init__()
        self.config = config
        self.dim, self.stride = config.dim, config.patch
        self.cell = config.patch // 2
        self.patches = nn.Linear(3 * self.cell**2, config.dim)
        block = SelfBlock if config.position == "rays" else RotaryBlock
        self.blocks = nn.ModuleList(
            block(config.dim, config.heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)
        if config.position == "rope":
            self.box = nn.Linear(6, config.dim)  # zero: at first the tokens are those of Align3R
            nn.init.zeros_(self.box.weight)
            nn.init.zeros_(self.box.bias)
        self.frozen_blocks = self._freeze(config.trainable_blocks)

    def _freeze(self, trainable_blocks: int | None) -> int:
        if trainable_blocks is None:
            return 0
        frozen = len(self.blocks) - trainable_blocks
        if frozen < 0:
            raise ConfigError(
                f"pointmap_encoder.trainable_blocks = {trainable_blocks}: there are {len(self.blocks)} blocks"
            )
        self.patches.requires_grad_(False)
        self.blocks[:frozen].requires_grad_(False)
        return frozen

    def forward(self, depth_m_Bhw: Tensor, K_B33: Tensor) -> Tensor:
        """Encode metric depth at stride 2 into tokens B N D, row by row.

        The depth is an observation here: no gradient returns through it.
        """
        h, w = int(depth_m_Bhw.shape[1]), int(depth_m_Bhw.shape[2])
        rays_B2hw = ray_map(K_B33, h, w, 2)
        grid = h // self.cell, w // self.cell
        if self.config.position == "rays":
            tokens_BND = self._by_rays(depth_m_Bhw.detach(), rays_B2hw, K_B33, grid)
        else:
            tokens_BND = self._by_rope(depth_m_Bhw.detach(), rays_B2hw, grid)
        return self.norm(tokens_BND)

    def _patched(self, points_B3hw: Tensor) -> Tensor:
        return self.patches(F.pixel_unshuffle(points_B3hw, self.cell).flatten(2).transpose(1, 2))

    def _by_rays(
        self, depth_m_Bhw: Tensor, rays_B2hw: Tensor, K_B33: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        x_BND = self._patched(compressed_points(depth_m_Bhw, rays_B2hw))
        x_BND = x_BND + ray_code(ray_map(K_B33, *grid, self.stride), self.dim)
        for block in self.blocks:
            x_BND = block(x_BND)
        return x_BND

    def _by_rope(self, depth_m_Bhw: Tensor, rays_B2hw: Tensor, grid: tuple[int, int]) -> Tensor:
        points_B3hw, limits_B6 = boxed_points(depth_m_Bhw, rays_B2hw)
        x_BND = self._patched(points_B3hw)
        angles_N2F = grid_angles(*grid, self.dim // self.config.heads, x_BND.device)
        for i in range(len(self.blocks) + 1):
            if i == self.frozen_blocks:
                x_BND = x_BND + self.box(limits_B6.sign() * limits_B6.abs().log1p())[:, None]
            if i < len(self.blocks):
                x_BND = self.blocks[i](x_BND, angles_N2F)
        return x_BND


def points_m(depth_m_Bhw: Tensor, rays_B2hw: Tensor) -> Tensor:
    """Unproject depth to points B 3 h w, metres in the camera's frame."""
    return torch.cat([rays_B2hw, torch.ones_like(rays_B2hw[:, :1])], 1) * depth_m_Bhw[:, None]


def compressed_points(depth_m_Bhw: Tensor, rays_B2hw: Tensor) -> Tensor:
    """Unproject, then shorten each point to the logarithm of its distance, which keeps far ones in range."""
    points_B3hw = points_m(depth_m_Bhw, rays_B2hw)
    distance_B1hw = points_B3hw.square().sum(1, keepdim=True).sqrt().clamp(min=1e-6)
    return points_B3hw * (distance_B1hw.log1p() / distance_B1hw)


def boxed_points(depth_m_Bhw: Tensor, rays_B2hw: Tensor) -> tuple[Tensor, Tensor]:
    """Unproject, then scale each image's points to 0..1 along each axis, as Align3R's depth encoder saw them.

    Returns:
        points B 3 h w and the limits of the box they came from, B 6: the lowest x y z, the highest; metres.
    """
    points_B3hw = points_m(depth_m_Bhw, rays_B2hw)
    lowest_B3, highest_B3 = points_B3hw.amin((2, 3)), points_B3hw.amax((2, 3))
    extent_B3 = (highest_B3 - lowest_B3).clamp(min=SMALLEST_EXTENT_M)
    boxed_B3hw = (points_B3hw - lowest_B3[..., None, None]) / extent_B3[..., None, None]
    return boxed_B3hw, torch.cat([lowest_B3, highest_B3], 1)
