"""Readout of a rigid transform: translation in metres and a unit quaternion, in pypose's SE3 order.

Shapes: B batch (any), C channels, 7 = x y z qx qy qz qw.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.models.attention import Mlp


class PoseReadout(nn.Module):
    """MLP to a transform that starts near identity."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = Mlp(channels, hidden, 7)
        last = self.mlp[2]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=1e-2)
        nn.init.zeros_(last.bias)

    def forward(self, x_BC: Tensor) -> Tensor:
        """Read out transforms, B 7."""
        with torch.autocast(x_BC.device.type, enabled=False):  # bfloat16 would round them to 4 mm and 0.2°
            y_B7 = self.mlp(x_BC.float())
        q_B4 = F.normalize(y_B7[..., 3:] + identity_pose(y_B7)[3:], dim=-1)
        return torch.cat([y_B7[..., :3], q_B4], -1)


def identity_pose(like: Tensor) -> Tensor:
    """Return the identity transform on the device and in the precision of `like`."""
    return torch.tensor([0.0, 0, 0, 0, 0, 0, 1], device=like.device, dtype=like.dtype)
