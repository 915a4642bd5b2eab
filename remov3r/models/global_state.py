"""Global state: causal attention over keyframes and a memory, read out as T_world_key (paper 3.1.3 III).

Shapes: B batch, T frames, D channels of the pose embedding. The first keyframe is exactly identity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from remov3r.config import Config
from remov3r.models.attention import Mlp
from remov3r.models.causal import CausalStack, KeyValueCache
from remov3r.models.readout import PoseReadout, full_precision, identity_pose
from remov3r.models.windows import scene_padding


class GlobalStateConfig(Config):
    """Global state.

    Attributes:
        max_keyframes: how many of the last keyframes are seen; bounds memory and time.
    """

    depth: int = 2
    heads: int = 3
    mlp_ratio: int = 2
    hidden: int = 256
    max_keyframes: int = 64


@dataclass(frozen=True)
class GlobalCache:
    """What streaming keeps: the first keyframe's embedding and the keys and values of the last ones."""

    first_B1D: Tensor
    attention: KeyValueCache


class GlobalState(nn.Module):
    """Pose embeddings of keyframes to transforms into the world."""

    def __init__(self, config: GlobalStateConfig, dim: int) -> None:
        super().__init__()
        self.attention = CausalStack(
            dim, config.depth, config.heads, config.mlp_ratio, config.max_keyframes, memory=True
        )
        self.mlp = Mlp(dim, config.hidden, dim)
        self.readout = PoseReadout(3 * dim, config.hidden)

    def _read(self, first: Tensor, embedding: Tensor, attended: Tensor) -> Tensor:
        return self.readout(torch.cat([first, embedding, attended + self.mlp(attended)], -1))

    @full_precision
    def forward(self, embedding_BTD: Tensor, keyframe_index_BT: Tensor) -> Tensor:
        """Read out T_world_key of each frame's keyframe, B T 7."""
        padding = scene_padding(keyframe_index_BT)
        keys_BLD = padding.pad(embedding_BTD)
        attended_BLD = self.attention(keys_BLD)
        T_world_key = padding.unpad(self._read(keys_BLD[:, :1].expand_as(keys_BLD), keys_BLD, attended_BLD))
        return identity_pose(T_world_key).where((keyframe_index_BT == 0)[..., None], T_world_key)

    @full_precision
    def open(self, first_B1D: Tensor) -> GlobalCache:
        """Start a scene at its first keyframe (whose T_world_key is the identity)."""
        _, attention = self.attention.step(first_B1D, self.attention.start(len(first_B1D)))
        return GlobalCache(first_B1D, attention)

    @full_precision
    def step(self, keyframe_B1D: Tensor, cache: GlobalCache) -> tuple[Tensor, GlobalCache]:
        """Read out T_world_key (B 1 7) of the next keyframe."""
        attended_B1D, attention = self.attention.step(keyframe_B1D, cache.attention)
        T_world_key = self._read(cache.first_B1D, keyframe_B1D, attended_B1D)
        return T_world_key, GlobalCache(cache.first_B1D, attention)
