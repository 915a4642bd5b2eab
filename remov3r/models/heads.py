"""Dense heads (DPT style): refined depth and pointmap, each with its confidence, at half the input size.

Shapes: B batch, C channels, h w size at stride 2, N SCF tokens at stride 16, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.config import Config
from remov3r.models.decoder import LEAK, UpStep
from remov3r.models.features import VisualFeatures
from remov3r.models.rays import ray_map

LOG_CONFIDENCE_LIMIT = 4.6  # confidence stays within 0.01 .. 100


class HeadsConfig(Config):
    """Dense heads.

    Attributes:
        channels: of the decoder at strides 16, 8, 4.
        largest_ray_offset: how far a point may leave its pixel's ray, per metre of depth.
    """

    kind: Literal["light"] = "light"
    channels: tuple[int, int, int] = (96, 48, 32)
    largest_ray_offset: float = 0.1


@dataclass(frozen=True)
class DenseOutput:
    """Refined log canonical depth B h w, confidences B h w, offsets of points from their rays B h w 3."""

    log_depth: Tensor
    depth_confidence: Tensor
    ray_offset: Tensor
    points_confidence: Tensor


class DenseHeads(nn.Module):
    """SCF tokens to dense maps, with the encoder's finer features and the prior as skips."""

    def __init__(self, config: HeadsConfig, dim: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        c4, c8, c16, _ = channels
        d16, d8, d4 = config.channels
        self.reassemble = nn.Conv2d(dim + c16, d16, 1)
        self.up8 = UpStep(d16, c8, d8)
        self.up4 = UpStep(d8, c4 + 4, d4)  # + the prior's 2×2 pixels
        self.depth = nn.Conv2d(d4, 4 * 2, 3, padding=1)
        self.points = nn.Conv2d(d4, 4 * 4, 3, padding=1)
        starts_near_zero(self.depth, self.points)

    def forward(
        self, scf: tuple[Tensor, ...], features: VisualFeatures, log_prior_Bhw: Tensor, grid: tuple[int, int]
    ) -> DenseOutput:
        """Refine the prior's log canonical depth.

        Args:
            scf: levels B N D; the last is used.
            grid: height and width of the token grid.
        """
        s4, s8, s16, _ = features.maps
        scf_BDhw = scf[-1].transpose(1, 2).unflatten(-1, grid).to(s16.dtype)  # type: ignore[no-untyped-call]
        x = self.reassemble(torch.cat([scf_BDhw, s16], 1))
        x = self.up8(x, s8)
        prior_B4hw = F.pixel_unshuffle(log_prior_Bhw[:, None].detach(), 2).to(s4.dtype)
        x = F.leaky_relu(self.up4(x, torch.cat([s4, prior_B4hw], 1)), LEAK)
        return dense_output(
            F.pixel_shuffle(self.depth(x), 2),
            F.pixel_shuffle(self.points(x), 2),
            log_prior_Bhw,
            self.config.largest_ray_offset,
        )


def starts_near_zero(*heads: nn.Conv2d) -> None:
    """Initialise last convolutions so that at first the prior is hardly changed and confidences are near 1."""
    for head in heads:
        nn.init.normal_(head.weight, std=1e-2)
        nn.init.zeros_(head.bias)  # type: ignore[arg-type]


def dense_output(
    depth_B2hw: Tensor, points_B4hw: Tensor, log_prior_Bhw: Tensor, largest_ray_offset: float
) -> DenseOutput:
    """Read the last maps: a change of log depth and its confidence; offsets from the ray and theirs."""
    depth_B2hw, points_B4hw = depth_B2hw.float(), points_B4hw.float()
    offset_B3hw = points_B4hw[:, :3].tanh() * largest_ray_offset
    return DenseOutput(
        log_prior_Bhw + depth_B2hw[:, 0],
        confidence(depth_B2hw[:, 1]),
        offset_B3hw.permute(0, 2, 3, 1),
        confidence(points_B4hw[:, 3]),
    )


def confidence(logit: Tensor) -> Tensor:
    """Map any number to a confidence of 0.01 to 100; 0 gives 1.

    A lower bound of 1 (as 1 + exp) would keep c = α / E[e] from its optimum wherever the error exceeds α.
    """
    return (LOG_CONFIDENCE_LIMIT * (logit / LOG_CONFIDENCE_LIMIT).tanh()).exp()


def points_on_rays(depth_m_Bhw: Tensor, ray_offset_Bhw3: Tensor, K_B33: Tensor) -> Tensor:
    """Place the points, B h w 3, on or near the rays of their pixels."""
    rays_B2hw = ray_map(K_B33, int(depth_m_Bhw.shape[1]), int(depth_m_Bhw.shape[2]), 2)
    rays_Bhw3 = F.pad(rays_B2hw.permute(0, 2, 3, 1), (0, 1), value=1.0)
    return depth_m_Bhw[..., None] * (rays_Bhw3 + ray_offset_Bhw3)
