"""Viewing rays of feature maps and their sine-cosine code, the position code of attention over an image.

Shapes: B batch, h w feature map size, D channels.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from remov3r.errors import ShapeError

LOWEST_RAD, HIGHEST_RAD = 0.5 * math.pi, 16 * math.pi  # per unit of x/z; tokens lie about 0.07 apart


def ray_map(K_B33: Float[Tensor, "b 3 3"], height: int, width: int, stride: int) -> Float[Tensor, "b 2 h w"]:
    """Give x/z and y/z of each cell's centre in a map that is `stride` times smaller than the image.

    Args:
        K_B33: intrinsics in pixels of the image; the centre of its top-left pixel is (0, 0).
        height: of the feature map, a plain int: while the network is recorded, sizes are tensors.
        width: of the feature map.
    """
    u_w = (torch.arange(width, device=K_B33.device, dtype=K_B33.dtype) + 0.5) * stride - 0.5
    v_h = (torch.arange(height, device=K_B33.device, dtype=K_B33.dtype) + 0.5) * stride - 0.5
    x_Bw = (u_w - K_B33[:, 0, 2, None]) / K_B33[:, 0, 0, None]
    y_Bh = (v_h - K_B33[:, 1, 2, None]) / K_B33[:, 1, 1, None]
    x_Bhw = x_Bw[:, None, :].expand(-1, height, -1)
    y_Bhw = y_Bh[:, :, None].expand(-1, -1, width)
    return torch.stack([x_Bhw, y_Bhw], 1)


def ray_code(rays_B2hw: Float[Tensor, "b 2 h w"], dim: int) -> Float[Tensor, "b n dim"]:
    """Code each ray direction as sines and cosines, one token per cell in row order.

    Raises:
        ShapeError: dim is not a multiple of 4.
    """
    if dim % 4:
        raise ShapeError(f"ray code of {dim} channels: need a multiple of 4")
    exponents = torch.linspace(0, 1, dim // 4, device=rays_B2hw.device, dtype=rays_B2hw.dtype)
    frequencies = LOWEST_RAD * (HIGHEST_RAD / LOWEST_RAD) ** exponents
    phase = rays_B2hw.flatten(2).transpose(1, 2)[..., None] * frequencies
    return torch.cat([phase.sin(), phase.cos()], -1).flatten(2)
