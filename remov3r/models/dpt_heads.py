"""Dense heads for transformer features: DPT on four levels of SCF tokens, at half the input size.

Shapes: B batch, N tokens of the grid h w, D channels of the SCF, C of the decoder.
References: Ranftl et al. 2021 (DPT), section 3.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.config import Config
from remov3r.models.decoder import LEAK, ResidualConv
from remov3r.models.features import VisualFeatures
from remov3r.models.heads import DenseOutput, dense_output, starts_near_zero

LEVELS = 4
RELATIVE_SIZES = (4.0, 2.0, 1.0, 0.5)  # of each level's map to the token grid, finest first


class DptHeadsConfig(Config):
    """DPT heads.

    Attributes:
        channels: of the decoder; half of them in the last convolutions.
        largest_ray_offset: how far a point may leave its pixel's ray, per metre of depth.
    """

    kind: Literal["dpt"] = "dpt"
    channels: int = 128
    largest_ray_offset: float = 0.1


class DptHeads(nn.Module):
    """Levels of tokens to dense maps, coarse to fine, with the prior beside the last map."""

    def __init__(self, config: DptHeadsConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        self.reassemble = nn.ModuleList(nn.Conv2d(dim, c, 1) for _ in range(LEVELS))
        self.refine = nn.ModuleList(ResidualConv(c) for _ in range(LEVELS))
        self.out = nn.Conv2d(c + 1, c // 2, 3, padding=1)
        self.depth, self.points = nn.Conv2d(c // 2, 2, 3, padding=1), nn.Conv2d(c // 2, 4, 3, padding=1)
        starts_near_zero(self.depth, self.points)

    def forward(
        self, scf: tuple[Tensor, ...], features: VisualFeatures, log_prior_Bhw: Tensor, grid: tuple[int, int]
    ) -> DenseOutput:
        """Refine the prior's log canonical depth.

        Args:
            scf: four levels B N D, the earliest block's first.
            grid: height and width of the token grid.
        """
        x_BChw: Tensor | None = None
        for i in reversed(range(LEVELS)):  # the last block's tokens are the coarsest map
            tokens_BDhw = scf[i].transpose(1, 2).unflatten(-1, grid)  # type: ignore[no-untyped-call]
            size = tuple(max(int(n * RELATIVE_SIZES[i]), 1) for n in grid)
            level = _resized(self.reassemble[i](tokens_BDhw), size)
            x_BChw = self.refine[i](level if x_BChw is None else level + _resized(x_BChw, size))
        assert x_BChw is not None
        prior_B1hw = log_prior_Bhw[:, None].detach().to(x_BChw.dtype)
        fine = _resized(x_BChw, (int(prior_B1hw.shape[2]), int(prior_B1hw.shape[3])))
        y = F.leaky_relu(self.out(torch.cat([fine, prior_B1hw], 1)), LEAK)
        return dense_output(self.depth(y), self.points(y), log_prior_Bhw, self.config.largest_ray_offset)


def _resized(x_BChw: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x_BChw, size=size, mode="bilinear", align_corners=False)
