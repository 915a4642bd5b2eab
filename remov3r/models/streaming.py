"""The network one frame at a time: bounded caches, dense heads only where they are wanted.

Gives what `Remov3rNetwork.forward` gives on the same frames (float32: to 1e-4), for every prefix.
Shapes: H W input size, D channels of the pose embedding, 7 = x y z qx qy qz qw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from remov3r.errors import TrackingError
from remov3r.models.global_state import GlobalCache
from remov3r.models.keyframes import starts_window
from remov3r.models.local_state import LocalCache
from remov3r.models.network import DepthOutput, FrameFeatures, Remov3rNetwork
from remov3r.models.readout import identity_pose
from remov3r.models.recorded import Boxes, TorchBoxes


@dataclass(frozen=True)
class StreamEstimate:
    """What the network says of one frame.

    Attributes:
        frame: how many frames came before it.
        keyframe: the same of its keyframe.
        T_world_key: of its keyframe; the world is the first frame.
        local_cholesky: of the covariance of T_key_cam (see `ClipOutput`); None on keyframes and without that head.
        dense: on keyframes only, as a batch of one.
    """

    frame: int
    keyframe: int
    T_key_cam: Float[Tensor, " 7"]
    T_world_key: Float[Tensor, " 7"]
    pose_embedding: Float[Tensor, " d"]
    local_cholesky: Float[Tensor, "6 6"] | None
    dense: DepthOutput | None


class StreamingNetwork:
    """Runs a network over a stream and remembers the open window and the last keyframes."""

    def __init__(self, network: Remov3rNetwork, boxes: Boxes | None = None) -> None:
        """Start before the first frame.

        Args:
            network: in evaluation mode, on the device of the frames to come.
            boxes: what runs the network's heavy boxes; torch if None.
        """
        self._network = network
        self._boxes = boxes or TorchBoxes(network)
        self._next_frame = 0
        self._features: FrameFeatures | None = None
        self._last: StreamEstimate | None = None
        self._local: LocalCache | None = None
        self._global: GlobalCache | None = None
        self._keyframe = 0
        self._T_world_key = identity_pose(torch.empty(0))

    def __getstate__(self) -> dict[str, Any]:
        """Return what a snapshot keeps: the caches; weights and the last frame are no part of it."""
        names = ("_next_frame", "_local", "_global", "_keyframe", "_T_world_key")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from what `__getstate__` returned."""
        self.__dict__.update(state)
        self._features = self._last = None

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
            ShapeError: the size is not a multiple of the network's `size_multiple`.
        """
        with torch.inference_mode():
            return self._boxes.encode(rgb_3HW[None], K_33[None])

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
            tokens = self._network.tokens(features)
            local, self._local = self._boxes.local_state.step(embedding_B1D, tokens, self._local)
            cholesky = None if local.cholesky is None else local.cholesky[0, 0]
            self._last = StreamEstimate(
                frame,
                self._keyframe,
                local.T_key_cam[0, 0],
                self._T_world_key,
                embedding_B1D[0, 0],
                cholesky,
                None,
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
        self._local = self._boxes.local_state.open(embedding_B1D, network.tokens(features))
        identity = identity_pose(embedding_B1D)
        if self._global is None:
            self._global = network.global_state.open(embedding_B1D)
            self._T_world_key = identity
        else:
            T_world_key, self._global = network.global_state.step(embedding_B1D, self._global)
            self._T_world_key = T_world_key[0, 0]
        self._last = StreamEstimate(
            frame, frame, identity, self._T_world_key, embedding_B1D[0, 0], None, self._boxes.dense(features)
        )
        return self._last
