"""The network one frame at a time: bounded caches, dense heads only where they are wanted.

Gives what `Remov3rNetwork.forward` gives on the same frames (float32: to 1e-4), for every prefix.
Shapes: H W input size, D channels of the pose embedding, 7 = x y z qx qy qz qw.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from remov3r.errors import TrackingError
from remov3r.models.encoder import EncoderFeatures
from remov3r.models.global_state import GlobalCache
from remov3r.models.keyframes import starts_window
from remov3r.models.local_state import LocalCache
from remov3r.models.network import DepthOutput, FrameFeatures, Remov3rNetwork
from remov3r.models.readout import identity_pose


@dataclass(frozen=True)
class StreamEstimate:
    """What the network says of one frame.

    Attributes:
        frame: how many frames came before it.
        keyframe: the same of its keyframe.
        T_world_key: of its keyframe; the world is the first frame.
        dense: on keyframes only, as a batch of one.
    """

    frame: int
    keyframe: int
    T_key_cam: Float[Tensor, " 7"]
    T_world_key: Float[Tensor, " 7"]
    pose_embedding: Float[Tensor, " d"]
    dense: DepthOutput | None


class _FlatEncoder(nn.Module):
    """The network's `encode` with plain tensors out, which is what can be traced."""

    def __init__(self, network: Remov3rNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb_B3HW: Tensor, K_B33: Tensor) -> tuple[Tensor, ...]:
        """Return s4, s8, s16, s32, log prior, SCF tokens and pose embedding."""
        f = self.network.encode(rgb_B3HW, K_B33)
        e = f.encoder
        return e.s4, e.s8, e.s16, e.s32, f.log_prior_Bhw, f.scf_BND, f.pose_embedding_BD


def traced_encoder(network: Remov3rNetwork, rgb_B3HW: Tensor, K_B33: Tensor) -> torch.jit.ScriptModule:
    """Record `encode` for one input size; its results are the same to the bit.

    The recording runs as one call outside Python's interpreter lock. Called operator by operator, it and the
    tracking in the other thread would wait for each other at each of some 400 operators.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the size checks become constants, as they should
        flat = _FlatEncoder(network).eval()
        recorded = torch.jit.trace(flat, (rgb_B3HW, K_B33), check_trace=False)  # type: ignore[no-untyped-call]
        return torch.jit.freeze(recorded)


def _features(
    K_B33: Tensor,
    s4: Tensor,
    s8: Tensor,
    s16: Tensor,
    s32: Tensor,
    log_prior: Tensor,
    scf: Tensor,
    pose: Tensor,
) -> FrameFeatures:
    return FrameFeatures(K_B33, EncoderFeatures(s4, s8, s16, s32), log_prior, scf, pose)


class StreamingNetwork:
    """Runs a network over a stream and remembers the open window and the last keyframes."""

    def __init__(self, network: Remov3rNetwork) -> None:
        self._network = network
        self._traced: dict[tuple[int, int], torch.jit.ScriptModule] = {}
        self._next_frame = 0
        self._features: FrameFeatures | None = None
        self._last: StreamEstimate | None = None
        self._local: LocalCache | None = None
        self._global: GlobalCache | None = None
        self._keyframe = 0
        self._T_world_key = identity_pose(torch.empty(0))

    @property
    def cached_tokens(self) -> tuple[int, int]:
        """How many tokens the local and the global cache hold."""
        local = len(self._local.attention) if self._local else 0
        return local, len(self._global.attention) if self._global else 0

    def encode(self, rgb_3HW: Float[Tensor, "3 H W"], K_33: Float[Tensor, "3 3"]) -> FrameFeatures:
        """Run the part that needs no memory of other frames; any thread may do so ahead of `push`.

        Args:
            rgb_3HW: values 0..1.
            K_33: intrinsics in pixels of the input.
        Raises:
            ShapeError: the size is not a multiple of 32.
        """
        inputs = rgb_3HW[None], K_33[None]
        with torch.inference_mode():
            if torch.is_autocast_enabled("cpu") or rgb_3HW.is_cuda:
                return self._network.encode(*inputs)
            size = (rgb_3HW.shape[1], rgb_3HW.shape[2])
            if size not in self._traced:
                self._traced[size] = traced_encoder(self._network, *inputs)
            return _features(inputs[1], *self._traced[size](*inputs))

    def push(self, features: FrameFeatures) -> StreamEstimate:
        """Take in the next frame; the first becomes a keyframe, later ones by the keyframe rule.

        Args:
            features: of `encode`.
        Raises:
            TrackingError: the network's output is not finite; the frame is not taken in.
        """
        with torch.inference_mode():
            embedding_B1D = features.pose_embedding_BD[:, None]
            if not bool(embedding_B1D.isfinite().all()):
                raise TrackingError(
                    f"frame {self._next_frame} of the stream: the network's output is not finite"
                )
            self._features = features
            frame, self._next_frame = self._next_frame, self._next_frame + 1
            if self._local is None or bool(
                starts_window(
                    embedding_B1D[0, 0],
                    self._local.keyframe_B1D[0, 0],
                    frame - self._keyframe,
                    self._network.config.keyframes,
                )
            ):
                return self._start_window(frame)
            T_key_cam, self._local = self._network.local_state.step(embedding_B1D, self._local)
            self._last = StreamEstimate(
                frame, self._keyframe, T_key_cam[0, 0], self._T_world_key, embedding_B1D[0, 0], None
            )
            return self._last

    def promote(self) -> StreamEstimate:
        """Make the last frame a keyframe, as if the rule had done so, and run the dense heads on it.

        Raises:
            TrackingError: no frame has been taken in.
        """
        if self._last is None:
            raise TrackingError("promote() needs a frame that went through push()")
        if self._last.keyframe == self._last.frame:
            return self._last
        with torch.inference_mode():
            return self._start_window(self._last.frame)

    def _start_window(self, frame: int) -> StreamEstimate:
        network, features = self._network, self._features
        assert features is not None
        embedding_B1D = features.pose_embedding_BD[:, None]
        self._keyframe = frame
        self._local = network.local_state.open(embedding_B1D)
        identity = identity_pose(embedding_B1D)
        if self._global is None:
            self._global = network.global_state.open(embedding_B1D)
            self._T_world_key = identity
        else:
            T_world_key, self._global = network.global_state.step(embedding_B1D, self._global)
            self._T_world_key = T_world_key[0, 0]
        self._last = StreamEstimate(
            frame, frame, identity, self._T_world_key, embedding_B1D[0, 0], network.dense(features)
        )
        return self._last
