"""Scale-shift head: one scale and one shift per image for the depth prior (the paper's section 5 misses it).

Also the place where a prior that does not know the focal length learns to use it.
Shapes: B batch, C channels, h w size at stride 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from remov3r.models.attention import Mlp

HIDDEN = 128
LARGEST_LOG_SCALE = 1.5
LARGEST_SHIFT = 0.5  # of the mean depth


class ScaleShift(nn.Module):
    """Starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = Mlp(channels + 3, HIDDEN, 2)
        last = self.mlp[2]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, log_prior_Bhw: Tensor, coarse_BChw: Tensor, focal_B2: Tensor) -> Tensor:
        """Return the log of scale · (depth + shift · mean depth).

        Args:
            coarse_BChw: the visual encoder's coarsest map.
            focal_B2: focal lengths over image width and height.
        """
        mean_B1 = log_prior_Bhw.detach().mean((1, 2))[:, None]
        x_BC = torch.cat([coarse_BChw.float().mean((2, 3)), mean_B1, focal_B2.log()], -1)
        scale_B, shift_B = self.mlp(x_BC).float().tanh().unbind(-1)
        depth_Bhw = log_prior_Bhw.exp()
        offset_B = LARGEST_SHIFT * shift_B * depth_Bhw.detach().mean((1, 2))
        shifted_Bhw = torch.maximum(depth_Bhw + offset_B[:, None, None], 0.05 * depth_Bhw)
        return shifted_Bhw.log() + LARGEST_LOG_SCALE * scale_B[:, None, None]
