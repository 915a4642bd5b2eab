"""`encode` as one call outside Python: recorded (CPU) or compiled (GPU), with the same result.

Called operator by operator from Python, it and the tracking in another thread would wait for each other at
each of some 400 operators.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from remov3r.models.encoder import Encoder
from remov3r.models.features import VisualFeatures
from remov3r.models.network import FrameFeatures, Remov3rNetwork

Encode = Callable[[Tensor, Tensor], FrameFeatures]


class _FlatEncoder(nn.Module):
    """The network's `encode` with plain tensors out, which is what can be recorded."""

    def __init__(self, network: Remov3rNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb_B3HW: Tensor, K_B33: Tensor) -> tuple[Tensor, ...]:
        """Return the log prior, the pose embedding, the feature maps and the SCF levels."""
        f = self.network.encode(rgb_B3HW, K_B33)
        return f.log_prior_Bhw, f.pose_embedding_BD, *f.visual.maps, *f.scf


def _unflattened(network: Remov3rNetwork, flat: Callable[..., tuple[Tensor, ...]]) -> Encode:
    maps = len(network.encoder.channels)

    def encode(rgb_B3HW: Tensor, K_B33: Tensor) -> FrameFeatures:
        prior, pose, *rest = flat(rgb_B3HW, K_B33)
        return FrameFeatures(K_B33, VisualFeatures(tuple(rest[:maps])), prior, tuple(rest[maps:]), pose)

    return encode


def recordable(network: Remov3rNetwork, rgb_B3HW: Tensor) -> bool:
    """Tell whether `recorded_encoder` serves: the small encoder, on a CPU, without autocast."""
    autocast = torch.is_autocast_enabled("cpu")
    return isinstance(network.encoder, Encoder) and not rgb_B3HW.is_cuda and not autocast


def recorded_encoder(network: Remov3rNetwork, rgb_B3HW: Tensor, K_B33: Tensor) -> Encode:
    """Record `encode` for one input size on the CPU; its results are the same to the bit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the size checks become constants, as they should
        flat = _FlatEncoder(network).eval()
        recorded = torch.jit.trace(flat, (rgb_B3HW, K_B33), check_trace=False)  # type: ignore[no-untyped-call]
        return _unflattened(network, torch.jit.freeze(recorded))


def compiled_encoder(network: Remov3rNetwork) -> Encode:
    """Compile `encode` with torch.compile: slow at the first frame of each size, fast after."""
    return _unflattened(network, torch.compile(_FlatEncoder(network).eval()))
