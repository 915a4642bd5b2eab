"""Padding of windows and scenes to one length, so that whole clips are attended to at once (paper 3.1.3).

Real tokens come first and padding last, so a causal mask alone hides the padding.
Shapes: B clips, T frames, D channels, W windows or 1, L padded length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Padding:
    """Where each frame's token lies: row (window or scene) of B·W and slot of L; `takes` marks real tokens.

    Attributes:
        row_BT, slot_BT: a place for every frame; frames that give no token read that of another.
        takes_BT: whether the frame's own token is put there.
    """

    rows: int
    length: int
    row_BT: Int[Tensor, "b t"]
    slot_BT: Int[Tensor, "b t"]
    takes_BT: Tensor

    def pad(self, x_BTD: Float[Tensor, "b t d"]) -> Float[Tensor, "r l d"]:
        """Lay the tokens out in padded rows, zeros elsewhere."""
        out = x_BTD.new_zeros(self.rows, self.length, x_BTD.shape[-1])
        return out.index_put((self.row_BT[self.takes_BT], self.slot_BT[self.takes_BT]), x_BTD[self.takes_BT])

    def unpad(self, x_RLD: Float[Tensor, "r l d"]) -> Float[Tensor, "b t d"]:
        """Read each frame's place."""
        return x_RLD[self.row_BT, self.slot_BT]


def window_padding(keyframe_index_BT: Int[Tensor, "b t"], max_window: int) -> Padding:
    """Pad each window (keyframe … last frame before the next) to the longest window allowed."""
    clips, frames = keyframe_index_BT.shape
    frame_T = torch.arange(frames, device=keyframe_index_BT.device)
    window_BT = (keyframe_index_BT == frame_T).long().cumsum(1) - 1
    windows = int(window_BT.max()) + 1
    row_BT = torch.arange(clips, device=frame_T.device)[:, None] * windows + window_BT
    every = torch.ones_like(row_BT, dtype=torch.bool)
    return Padding(clips * windows, max_window, row_BT, frame_T - keyframe_index_BT, every)


def scene_padding(keyframe_index_BT: Int[Tensor, "b t"]) -> Padding:
    """Pad each clip's keyframes to the most that a clip of the batch has; frames read their keyframe's place."""
    clips, frames = keyframe_index_BT.shape
    frame_T = torch.arange(frames, device=keyframe_index_BT.device)
    is_key_BT = keyframe_index_BT == frame_T
    ordinal_BT = is_key_BT.long().cumsum(1) - 1
    row_BT = torch.arange(clips, device=frame_T.device)[:, None].expand(clips, frames)
    return Padding(clips, int(ordinal_BT.max()) + 1, row_BT, ordinal_BT, is_key_BT)
