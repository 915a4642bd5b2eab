"""Local state: causal attention over the window keyframe … frame, read out as T_key_cam (paper 3.1.3 II).

Shapes: B batch, T frames, D channels of the pose embedding. A window's own keyframe is exactly the identity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from remov3r.config import Config
from remov3r.models.attention import Mlp
from remov3r.models.causal import HIDDEN, CausalStack, KeyValueCache
from remov3r.models.readout import PoseReadout, identity_pose


class LocalStateConfig(Config):
    """Local state."""

    depth: int = 2
    heads: int = 3
    mlp_ratio: int = 2
    hidden: int = 256


@dataclass(frozen=True)
class LocalCache:
    """What streaming keeps of the open window: its keyframe's embedding and the keys and values."""

    keyframe_B1D: Tensor
    attention: KeyValueCache


class LocalState(nn.Module):
    """Pose embeddings of a window to transforms onto its keyframe."""

    def __init__(self, config: LocalStateConfig, dim: int, max_window: int) -> None:
        super().__init__()
        self.attention = CausalStack(
            dim, config.depth, config.heads, config.mlp_ratio, max_window, memory=False
        )
        self.mlp = Mlp(dim, config.hidden, dim)
        self.readout = PoseReadout(3 * dim, config.hidden)

    def _read(self, keyframe: Tensor, embedding: Tensor, attended: Tensor) -> Tensor:
        # The pooled state alone carries little of either frame, so both embeddings are read beside it.
        return self.readout(torch.cat([keyframe, embedding, attended + self.mlp(attended)], -1))

    def forward(self, embedding_BTD: Tensor, keyframe_index_BT: Tensor) -> Tensor:
        """Read out T_key_cam of whole clips, B T 7.

        Windows are masks on the clip: the same as padding each window to the longest, without the padding.
        """
        frame_T = torch.arange(embedding_BTD.shape[1], device=embedding_BTD.device)
        lag_TT = frame_T[:, None] - frame_T
        same_BTT = keyframe_index_BT[:, :, None] == keyframe_index_BT[:, None, :]
        attended_BTD = self.attention(embedding_BTD, lag_TT.where(same_BTT, HIDDEN))
        key_BTD = embedding_BTD.gather(1, keyframe_index_BT[..., None].expand_as(embedding_BTD))
        T_key_cam = self._read(key_BTD, embedding_BTD, attended_BTD)
        is_key_BT = keyframe_index_BT == frame_T
        return identity_pose(T_key_cam).where(is_key_BT[..., None], T_key_cam)

    def open(self, keyframe_B1D: Tensor) -> LocalCache:
        """Start a window at a keyframe (whose own T_key_cam is the identity)."""
        _, attention = self.attention.step(keyframe_B1D, self.attention.start(len(keyframe_B1D)))
        return LocalCache(keyframe_B1D, attention)

    def step(self, embedding_B1D: Tensor, cache: LocalCache) -> tuple[Tensor, LocalCache]:
        """Read out T_key_cam (B 1 7) of the next frame of the window."""
        attended_B1D, attention = self.attention.step(embedding_B1D, cache.attention)
        T_key_cam = self._read(cache.keyframe_B1D, embedding_B1D, attended_B1D)
        return T_key_cam, LocalCache(cache.keyframe_B1D, attention)
