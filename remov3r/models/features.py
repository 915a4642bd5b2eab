"""What a visual encoder gives, whichever it is.

Shapes: B batch, C channels, h w map size.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class VisualFeatures:
    """Feature maps B C h w, finest first; the encoder's `strides` and `channels` describe them."""

    maps: tuple[Tensor, ...]
