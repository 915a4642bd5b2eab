"""Readout of a rigid transform: translation in metres and a unit quaternion, in pypose's SE3 order.

Shapes: B batch (any), C channels, 7 = x y z qx qy qz qw.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.models.attention import Mlp

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(method: Callable[P, R]) -> Callable[P, R]:
    """Run a method of a state in float32 under autocast: bfloat16 rounds poses to 4 mm and 0.2°, and costs
    little less at these sizes.
    """

    @functools.wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(a.device.type for a in args if isinstance(a, Tensor))
        with torch.autocast(device, enabled=False):
            return method(*args, **kwargs)

    return wrapped


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
        y_B7 = self.mlp(x_BC)
        q_B4 = F.normalize(y_B7[..., 3:] + identity_pose(y_B7)[3:], dim=-1)
        return torch.cat([y_B7[..., :3], q_B4], -1)


def identity_pose(like: Tensor) -> Tensor:
    """Return the identity transform on the device and in the precision of `like`."""
    return torch.tensor([0.0, 0, 0, 0, 0, 0, 1], device=like.device, dtype=like.dtype)
