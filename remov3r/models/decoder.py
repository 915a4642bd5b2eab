"""The step that both dense decoders are made of: go up one octave and take in a finer feature map.

Shapes: B batch, C channels, h w size of the finer map. References: Ranftl et al. 2021 (DPT), fusion block.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

LEAK = 0.1  # plain ReLU died in training: 1 to 6 % of the decoder's activations were left after 900 steps


class ResidualConv(nn.Module):
    """Two 3×3 convolutions around a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Refine a map."""
        return x_BChw + self.second(F.leaky_relu(self.first(F.leaky_relu(x_BChw, LEAK)), LEAK, inplace=True))


class UpStep(nn.Module):
    """Upsample a map twice, add a finer one, refine."""

    def __init__(self, coarse: int, skip: int, channels: int) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(coarse, channels, 1)
        self.skip = nn.Conv2d(skip, channels, 1)
        self.refine = ResidualConv(channels)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Map B C h/2 w/2 and a skip map at h w to B C' h w."""
        up = F.interpolate(self.coarse(coarse), scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.refine(up + self.skip(skip))
