"""Covariance head: how uncertain a relative transform is, as the Cholesky factor of its 6×6 covariance.

Tangent order: rotation (rad), then translation (m), in the camera's frame.
Shapes: B batch (any), C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from remov3r.models.attention import Mlp

START_RAD, START_M = 0.05, 0.1  # standard deviations before any training
LOG_RANGE = (math.log(1e-4), math.log(10.0))  # of the diagonal


class CovarianceHead(nn.Module):
    """MLP to a lower triangular matrix with a positive diagonal."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = Mlp(channels, hidden, 21)
        last = self.mlp[2]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=1e-2)
        nn.init.zeros_(last.bias)
        start = torch.tensor([math.log(START_RAD)] * 3 + [math.log(START_M)] * 3)
        self.register_buffer("start_6", start, persistent=False)

    def forward(self, x_BC: Tensor) -> Tensor:
        """Read out Cholesky factors, B 6 6; gradients stop at x, so poses do not pay for their covariance."""
        y_B21 = self.mlp(x_BC.detach())
        assert isinstance(self.start_6, Tensor)
        spread_B6 = (y_B21[..., :6] + self.start_6).clamp(*LOG_RANGE).exp()
        below = torch.tril_indices(6, 6, -1, device=x_BC.device)
        L_B66 = torch.diag_embed(torch.ones_like(spread_B6))
        L_B66[..., below[0], below[1]] = y_B21[..., 6:]
        return spread_B6[..., None] * L_B66  # rows in units of their own spread
