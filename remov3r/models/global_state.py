"""Global state: causal attention over keyframes and a memory, read out as T_world_key (paper 3.1.3 III).

Shapes: B batch, T frames, D channels of the pose embedding. The first keyframe is exactly identity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from remov3r.config import Config
from remov3r.models.attention import Mlp
from remov3r.models.causal import HIDDEN, CausalStack, KeyValueCache
from remov3r.models.readout import PoseReadout, identity_pose


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

    def forward(self, embedding_BTD: Tensor, keyframe_index_BT: Tensor) -> Tensor:
        """Read out T_world_key of each frame's keyframe, B T 7.

        Frames that are no keyframes are masked out, as padding would be.
        """
        frame_T = torch.arange(embedding_BTD.shape[1], device=embedding_BTD.device)
        is_key_BT = keyframe_index_BT == frame_T
        ordinal_BT = is_key_BT.long().cumsum(1)
        lag_BTT = ordinal_BT[:, :, None] - ordinal_BT[:, None, :]
        visible_BTT = is_key_BT[:, None, :] & (frame_T <= frame_T[:, None])
        attended_BTD = self.attention(embedding_BTD, lag_BTT.where(visible_BTT, HIDDEN))
        T_world_key = self._read(embedding_BTD[:, :1].expand_as(embedding_BTD), embedding_BTD, attended_BTD)
        T_world_key = T_world_key.gather(1, keyframe_index_BT[..., None].expand_as(T_world_key))
        return identity_pose(T_world_key).where((keyframe_index_BT == 0)[..., None], T_world_key)

    def open(self, first_B1D: Tensor) -> GlobalCache:
        """Start a scene at its first keyframe (whose T_world_key is the identity)."""
        _, attention = self.attention.step(first_B1D, self.attention.start(len(first_B1D)))
        return GlobalCache(first_B1D, attention)

    def step(self, keyframe_B1D: Tensor, cache: GlobalCache) -> tuple[Tensor, GlobalCache]:
        """Read out T_world_key (B 1 7) of the next keyframe."""
        attended_B1D, attention = self.attention.step(keyframe_B1D, cache.attention)
        T_world_key = self._read(cache.first_B1D, keyframe_B1D, attended_B1D)
        return T_world_key, GlobalCache(cache.first_B1D, attention)
