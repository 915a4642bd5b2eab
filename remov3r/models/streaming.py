"""The network one frame at a time: bounded caches, dense heads only where they are wanted.

Gives what `Remov3rNetwork.forward` gives on the same frames (float32: to 1e-4), for every prefix.
Shapes: H W input size, D channels of the pose embedding, 7 = x y z qx qy qz qw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class StreamState:
    """What a stream remembers: the open window and the last keyframes.

    Attributes:
        next_frame: how many frames have been taken in.
        keyframe: how many frames came before that of the open window.
    """

    next_frame: int
    local: LocalCache | None
    world: GlobalCache | None
    keyframe: int
    T_world_key: Float[Tensor, " 7"]


@dataclass(frozen=True)
class Step:
    """A frame, what the network says of it, and what the stream remembers after it."""

    features: FrameFeatures
    estimate: StreamEstimate
    state: StreamState


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
        self._state = StreamState(0, None, None, 0, identity_pose(torch.empty(0)))
        self._last: Step | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what a snapshot keeps: the caches; weights and the last frame are no part of it."""
        s = self._state
        names = ("_next_frame", "_local", "_global", "_keyframe", "_T_world_key")
        return dict(zip(names, (s.next_frame, s.local, s.world, s.keyframe, s.T_world_key), strict=True))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from what `__getstate__` returned."""
        self._state = StreamState(
            state["_next_frame"], state["_local"], state["_global"], state["_keyframe"], state["_T_world_key"]
        )
        self._last = None

    @property
    def state(self) -> StreamState:
        """What the stream remembers now; never changed in place."""
        return self._state

    @property
    def cached_tokens(self) -> tuple[int, int]:
        """How many tokens the local and the global cache hold."""
        local, world = self._state.local, self._state.world
        return len(local.attention) if local else 0, len(world.attention) if world else 0

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
        return self.commit(self.step(features, self._state))

    def commit(self, step: Step) -> StreamEstimate:
        """Take in a frame whose step from the present `state` is known."""
        self._last, self._state = step, step.state
        return step.estimate

    def step(self, features: FrameFeatures, state: StreamState) -> Step:
        """Compute what `push` does in a given state and change nothing; any thread may do so.

        Raises:
            TrackingError: the network's output is not finite.
        """
        with torch.inference_mode():
            frame, embedding_B1D = state.next_frame, features.pose_embedding_BD[:, None]
            if not bool(embedding_B1D.isfinite().all()):
                raise TrackingError(f"frame {frame} of the stream: the network's output is not finite")
            rule = self._network.config.keyframes
            if state.local is None or bool(
                starts_window(
                    embedding_B1D[0, 0], state.local.keyframe_B1D[0, 0], frame - state.keyframe, rule
                )
            ):
                return self._start_window(features, state, frame)
            local, cache = self._boxes.local_state.step(
                embedding_B1D, self._network.tokens(features), state.local
            )
            estimate = StreamEstimate(
                frame,
                state.keyframe,
                local.T_key_cam[0, 0],
                state.T_world_key,
                embedding_B1D[0, 0],
                None if local.cholesky is None else local.cholesky[0, 0],
                None,
            )
            return Step(features, estimate, replace(state, next_frame=frame + 1, local=cache))

    def promote(self) -> StreamEstimate:
        """Make the last frame a keyframe, as if the rule had done so, and run the dense heads on it.

        Raises:
            TrackingError: no frame has been taken in.
        """
        if self._last is None:
            raise TrackingError("promote() needs a frame that went through push()")
        last = self._last.estimate
        if last.keyframe == last.frame:
            return last
        with torch.inference_mode():
            return self.commit(self._start_window(self._last.features, self._state, last.frame))

    def _start_window(self, features: FrameFeatures, state: StreamState, frame: int) -> Step:
        network, embedding_B1D = self._network, features.pose_embedding_BD[:, None]
        local = self._boxes.local_state.open(embedding_B1D, network.tokens(features))
        T_world_key = identity = identity_pose(embedding_B1D)
        if state.world is None:
            world = network.global_state.open(embedding_B1D)
        else:
            T_world_key_B17, world = network.global_state.step(embedding_B1D, state.world)
            T_world_key = T_world_key_B17[0, 0]
        dense = self._boxes.dense(features)
        estimate = StreamEstimate(frame, frame, identity, T_world_key, embedding_B1D[0, 0], None, dense)
        return Step(features, estimate, StreamState(frame + 1, local, world, frame, T_world_key))
