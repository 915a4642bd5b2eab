"""Keyframe rule: a frame whose pose embedding has turned far enough from its keyframe's starts a new window.

Shapes: B batch, T frames, D channels of the pose embedding. References: paper 3.1.3 I.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from remov3r.config import Config
from remov3r.errors import ShapeError


class KeyframeConfig(Config):
    """Keyframe rule.

    Attributes:
        threshold: largest 1 − cos between the pose embeddings of a frame and its keyframe.
        max_window: most frames in a window, its keyframe included.
    """

    threshold: float = 0.15
    max_window: int = 24


def divergence(embedding: Float[Tensor, "*b d"], keyframe: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    """Measure how far two pose embeddings differ: 1 − cos, 0 to 2."""
    return 1 - F.cosine_similarity(embedding, keyframe, dim=-1)


def starts_window(
    embedding: Float[Tensor, "*b d"],
    keyframe: Float[Tensor, "*b d"],
    offset: int | Tensor,
    config: KeyframeConfig,
) -> Tensor:
    """Decide whether a frame `offset` frames after its keyframe becomes a keyframe itself."""
    return (divergence(embedding, keyframe) > config.threshold) | torch.as_tensor(
        offset >= config.max_window, device=embedding.device
    )


@torch.no_grad()
def select_keyframes(embedding_BTD: Float[Tensor, "b t d"], config: KeyframeConfig) -> Int[Tensor, "b t"]:
    """Apply the rule along clips; gives the index of each frame's keyframe within its clip."""
    batch, frames = embedding_BTD.shape[:2]
    rows_B = torch.arange(batch, device=embedding_BTD.device)
    key_B = torch.zeros_like(rows_B)
    keys = []
    for t in range(frames):
        new_B = starts_window(embedding_BTD[:, t], embedding_BTD[rows_B, key_B], t - key_B, config)
        key_B = torch.where(new_B, t, key_B)
        keys.append(key_B)
    return torch.stack(keys, 1)


def checked_keyframes(keyframe_index_BT: Int[Tensor, "b t"], config: KeyframeConfig) -> Int[Tensor, "b t"]:
    """Return given keyframes, or refuse them.

    Raises:
        ShapeError: an index is not that of this or an earlier keyframe, or a window is too long.
    """
    frame_T = torch.arange(keyframe_index_BT.shape[1], device=keyframe_index_BT.device)
    offset_BT = frame_T - keyframe_index_BT
    inside = (offset_BT >= 0) & (keyframe_index_BT >= 0)
    own = keyframe_index_BT.gather(1, keyframe_index_BT.clamp(0, len(frame_T) - 1)) == keyframe_index_BT
    ordered = (keyframe_index_BT.diff(dim=1) >= 0).all()
    if not bool((inside & own).all() & ordered):
        raise ShapeError("keyframe_index must name, for each frame, the last keyframe at or before it")
    if bool((offset_BT >= config.max_window).any()):
        raise ShapeError(
            f"a window holds {int(offset_BT.max()) + 1} frames, more than max_window = {config.max_window}"
        )
    return keyframe_index_BT
