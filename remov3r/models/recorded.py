"""The heavy boxes of a network as a stream runs them, by torch: `encode` as one call outside Python.

Called operator by operator from Python, it and the tracking in another thread would wait for each other at
each of some 400 operators. It is recorded (CPU) or compiled (GPU), with the same result.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from remov3r.models.encoder import Encoder
from remov3r.models.features import VisualFeatures
from remov3r.models.local_state import LocalState
from remov3r.models.network import DepthOutput, FrameFeatures, Remov3rNetwork

Encode = Callable[[Tensor, Tensor], FrameFeatures]


@runtime_checkable
class Boxes(Protocol):
    """How a stream runs the boxes of its network that take the time."""

    @property
    def local_state(self) -> LocalState:
        """The network's local state, with its dense readout run in the same way."""

    def encode(self, rgb_B3HW: Tensor, K_B33: Tensor) -> FrameFeatures:
        """Do what the network's `encode` does; called from more than one thread."""

    def dense(self, features: FrameFeatures) -> DepthOutput:
        """Do what the network's `dense` does."""


class TorchBoxes:
    """The boxes as torch runs them."""

    def __init__(self, network: Remov3rNetwork, compiled: bool = False, bfloat16: bool = False) -> None:
        """Take the network as it is.

        Args:
            compiled: use torch.compile for the encoders (minutes at the first frame; for GPUs).
            bfloat16: run under autocast.
        """
        self._network = network
        self._compiled = compiled_encoder(network) if compiled else None
        self._bfloat16 = bfloat16
        self._recorded: dict[tuple[int, ...], Encode] = {}

    @property
    def local_state(self) -> LocalState:
        """The network's local state."""
        return self._network.local_state

    def encode(self, rgb_B3HW: Tensor, K_B33: Tensor) -> FrameFeatures:
        """Encode; each input size is recorded when it first appears."""
        with self._autocast(rgb_B3HW):
            if self._compiled is not None:
                return self._compiled(rgb_B3HW, K_B33)
            if not _recordable(self._network, rgb_B3HW):
                return self._network.encode(rgb_B3HW, K_B33)
            size = tuple(rgb_B3HW.shape)
            if size not in self._recorded:
                self._recorded[size] = recorded_encoder(self._network, rgb_B3HW, K_B33)
            return self._recorded[size](rgb_B3HW, K_B33)

    def dense(self, features: FrameFeatures) -> DepthOutput:
        """Run the dense heads."""
        with self._autocast(features.K_B33):
            return self._network.dense(features)

    def _autocast(self, like: Tensor) -> torch.autocast:
        kind = like.device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self._bfloat16 or torch.is_autocast_enabled(kind))


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


def _recordable(network: Remov3rNetwork, rgb_B3HW: Tensor) -> bool:
    """Tell whether `recorded_encoder` serves: the small encoder, on a CPU, without autocast."""
    autocast = torch.is_autocast_enabled("cpu")
    return isinstance(network.encoder, Encoder) and not rgb_B3HW.is_cuda and not autocast


def recorded_encoder(network: Remov3rNetwork, rgb_B3HW: Tensor, K_B33: Tensor) -> Encode:
    """Record `encode` for one input size on the CPU; its results are the same to the bit."""
    return _unflattened(network, recorded_call(_FlatEncoder(network), rgb_B3HW, K_B33))


def recorded_call(module: nn.Module, *inputs: Tensor) -> torch.jit.ScriptModule:
    """Record what a module does to tensors of these sizes, weights included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the size checks become constants, as they should
        recorded = torch.jit.trace(module.eval(), inputs, check_trace=False)  # type: ignore[no-untyped-call]
        return torch.jit.freeze(recorded)


def compiled_encoder(network: Remov3rNetwork) -> Encode:
    """Compile `encode` with torch.compile: slow at the first frame of each size, fast after."""
    return _unflattened(network, torch.compile(_FlatEncoder(network).eval()))
