"""Local state: causal attention over the window keyframe … frame, read out as T_key_cam (paper 3.1.3 II).

Shapes: B batch, T frames, D channels of the pose embedding. A window's own keyframe is exactly the identity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import field_validator
from torch import Tensor, nn

from remov3r.config import Config
from remov3r.models.attention import Mlp
from remov3r.models.causal import CausalStack, KeyValueCache
from remov3r.models.covariance import CovarianceHead
from remov3r.models.dense_readout import DenseReadout, DenseReadoutConfig, FrameTokens
from remov3r.models.readout import PoseReadout, full_precision, identity_pose
from remov3r.models.windows import window_padding


class LocalStateConfig(Config):
    """Local state.

    Attributes:
        dense: also compare the frame's SCF tokens with the keyframe's; None (in TOML: false) leaves the pose
            tokens alone.
        covariance: also read out the covariance of T_key_cam.
    """

    depth: int = 2
    heads: int = 3
    mlp_ratio: int = 2
    hidden: int = 256
    dense: DenseReadoutConfig | None = None
    covariance: bool = False

    @field_validator("dense", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value is False else value


@dataclass(frozen=True)
class LocalOutput:
    """T_key_cam, … 7, and the Cholesky factor of its covariance, … 6 6, None without that head."""

    T_key_cam: Tensor
    cholesky: Tensor | None


@dataclass(frozen=True)
class LocalCache:
    """What streaming keeps of the open window: its keyframe's embedding and tokens, and the keys and values."""

    keyframe_B1D: Tensor
    tokens: FrameTokens
    attention: KeyValueCache


class LocalState(nn.Module):
    """Pose embeddings of a window to transforms onto its keyframe."""

    def __init__(self, config: LocalStateConfig, dim: int, max_window: int) -> None:
        super().__init__()
        self.max_window = max_window
        self.attention = CausalStack(
            dim, config.depth, config.heads, config.mlp_ratio, max_window, memory=False
        )
        self.mlp = Mlp(dim, config.hidden, dim)
        self.dense = None if config.dense is None else DenseReadout(config.dense, dim)
        channels = 3 * dim + (0 if config.dense is None else config.dense.dim)
        self.readout = PoseReadout(channels, config.hidden)
        self.covariance = CovarianceHead(channels, config.hidden) if config.covariance else None

    def _read(
        self, keyframe: Tensor, embedding: Tensor, attended: Tensor, frame: FrameTokens, key: FrameTokens
    ) -> LocalOutput:
        # The pooled state alone carries little of either frame, so both embeddings are read beside it.
        parts = [keyframe, embedding, attended + self.mlp(attended)]
        if self.dense is not None:
            parts.append(self.dense(frame, key).view(*embedding.shape[:-1], -1).to(embedding.dtype))
        x = torch.cat(parts, -1)
        return LocalOutput(self.readout(x), None if self.covariance is None else self.covariance(x))

    @full_precision
    def forward(self, embedding_BTD: Tensor, keyframe_index_BT: Tensor, tokens: FrameTokens) -> LocalOutput:
        """Read out T_key_cam of whole clips, B T 7.

        Args:
            tokens: B T N C; looked at by the dense readout only.
        """
        padding = window_padding(keyframe_index_BT, self.max_window)
        attended_BTD = padding.unpad(self.attention(padding.pad(embedding_BTD)))
        key_BTD = embedding_BTD.gather(1, keyframe_index_BT[..., None].expand_as(embedding_BTD))
        key = tokens.of(keyframe_index_BT).flatten() if self.dense is not None else tokens
        out = self._read(key_BTD, embedding_BTD, attended_BTD, tokens.flatten(), key)
        frame_T = torch.arange(embedding_BTD.shape[1], device=embedding_BTD.device)
        is_key_BT1 = (keyframe_index_BT == frame_T)[..., None]
        T_key_cam = identity_pose(out.T_key_cam).where(is_key_BT1, out.T_key_cam)
        return LocalOutput(T_key_cam, out.cholesky)

    @full_precision
    def open(self, keyframe_B1D: Tensor, tokens: FrameTokens) -> LocalCache:
        """Start a window at a keyframe (whose own T_key_cam is the identity)."""
        _, attention = self.attention.step(keyframe_B1D, self.attention.start(len(keyframe_B1D)))
        return LocalCache(keyframe_B1D, tokens, attention)

    @full_precision
    def step(
        self, embedding_B1D: Tensor, tokens: FrameTokens, cache: LocalCache
    ) -> tuple[LocalOutput, LocalCache]:
        """Read out T_key_cam (B 1 7) of the next frame of the window."""
        attended_B1D, attention = self.attention.step(embedding_B1D, cache.attention)
        out = self._read(cache.keyframe_B1D, embedding_B1D, attended_B1D, tokens, cache.tokens)
        return out, LocalCache(cache.keyframe_B1D, cache.tokens, attention)
