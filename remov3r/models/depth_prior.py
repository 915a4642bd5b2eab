"""Depth prior: metric depth of one frame from the encoder's features and the viewing rays.

Depth is predicted for a canonical focal length and multiplied by fx / f_canonical, so that one network serves
cameras of any focal length (an object twice as far through a lens twice as long looks the same).

Shapes: B batch, C channels, h w size at stride 2, N tokens at stride 32, D channels of the context.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.config import Config
from remov3r.models.attention import SelfBlock
from remov3r.models.decoder import LEAK, UpStep
from remov3r.models.features import VisualFeatures
from remov3r.models.rays import ray_code, ray_map

LOG_DEPTH_RANGE = (-5.0, 6.0)  # of log canonical metres: 7 mm to 400 m; keeps exp finite


class DepthPriorConfig(Config):
    """Depth prior.

    Attributes:
        context_dim: channels of the stride-32 tokens that see the whole image.
        channels: of the decoder at strides 16, 8, 4.
        canonical_focal_px: focal length, in pixels of the network's input, at which depth is predicted.
        initial_depth_m: canonical depth before any training.
    """

    kind: Literal["light"] = "light"
    context_dim: int = 192
    context_heads: int = 3
    channels: tuple[int, int, int] = (96, 56, 32)
    canonical_focal_px: float = 230.0
    initial_depth_m: float = 2.0


class DepthPrior(nn.Module):
    """Light decoder on maps at strides 4, 8, 16, 32, with one attention layer over the whole image."""

    def __init__(self, config: DepthPriorConfig, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        c4, c8, c16, c32 = channels
        d16, d8, d4 = config.channels
        self.project = nn.Conv2d(c32, config.context_dim, 1)
        self.context = SelfBlock(config.context_dim, config.context_heads, 2)
        self.context_norm = nn.LayerNorm(config.context_dim)
        self.scale = nn.Linear(config.context_dim, 1)  # one log scale for the image: the metric part
        self.up16 = UpStep(config.context_dim, c16 + 2, d16)
        self.up8 = UpStep(d16, c8 + 2, d8)
        self.up4 = UpStep(d8, c4 + 2, d4)
        self.out = nn.Conv2d(d4, 4, 3, padding=1)
        nn.init.normal_(self.out.weight, std=1e-2)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.scale.weight, std=1e-2)
        nn.init.constant_(self.scale.bias, math.log(config.initial_depth_m))

    def forward(self, rgb_B3HW: Tensor | None, features: VisualFeatures, K_B33: Tensor) -> Tensor:
        """Predict log canonical depth, B h w, from the features alone."""
        s4, s8, s16, s32 = features.maps

        def with_rays(x: Tensor, stride: int) -> Tensor:
            return torch.cat([x, ray_map(K_B33, int(x.shape[2]), int(x.shape[3]), stride).to(x.dtype)], 1)

        x_BDhw = self.project(s32)
        h, w = x_BDhw.shape[2:]
        code_BND = ray_code(ray_map(K_B33, int(h), int(w), 32), self.config.context_dim)
        tokens_BND = self.context(x_BDhw.flatten(2).transpose(1, 2) + code_BND)
        tokens_BND = self.context_norm(tokens_BND)
        x = tokens_BND.transpose(1, 2).reshape(x_BDhw.shape)
        x = self.up16(x, with_rays(s16, 16))
        x = self.up8(x, with_rays(s8, 8))
        x = self.up4(x, with_rays(s4, 4))
        shape_Bhw = F.pixel_shuffle(self.out(F.leaky_relu(x, LEAK)), 2)[:, 0].float()
        scale_B = self.scale(tokens_BND.mean(1)).float()
        return (shape_Bhw + scale_B[..., None]).clamp(*LOG_DEPTH_RANGE)

    def metres(self, log_depth_Bhw: Tensor, K_B33: Tensor) -> Tensor:
        """Turn log canonical depth into metres for the camera at hand."""
        return log_depth_Bhw.exp() * (K_B33[:, 0, 0] / self.config.canonical_focal_px)[:, None, None]
