"""Every frame relative to its keyframe, so that poses and covariances follow the keyframes when these move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from remov3r.backends.pose_graph_noise import frame_covariances
from remov3r.backends.pose_graph_types import GraphState
from remov3r.types import Covariance, Pose, PoseKind, TrackingState


@dataclass(frozen=True)
class FramePlace:
    """How a frame lies to a keyframe.

    Attributes:
        T_key_cam: translation in the keyframe's own lengths.
        covariance: of `T_key_cam`.
    """

    key_index: int
    T_key_cam: Pose
    covariance: Covariance
    kind: PoseKind
    state: TrackingState


def place_in_world(state: GraphState, T_key_cam: Pose) -> Pose:
    """Return T_world_cam of a frame."""
    T = T_key_cam.copy()
    T[:3, 3] *= state.scale
    return state.T_world_key @ T


class FrameTable:
    """Places of all frames by frame index; about a kilobyte each."""

    def __init__(self) -> None:
        self._places: dict[int, FramePlace] = {}

    def put(self, frame_index: int, place: FramePlace) -> None:
        """Store a frame, or replace what was stored of it."""
        self._places[frame_index] = place

    def poses(self, states: Mapping[int, GraphState]) -> dict[int, Pose]:
        """Return T_world_cam of all frames, in order."""
        return {
            index: place_in_world(states[place.key_index], place.T_key_cam)
            for index, place in sorted(self._places.items())
        }

    def covariances(
        self, states: Mapping[int, GraphState], keyframes: Mapping[int, Float[np.ndarray, "d d"]]
    ) -> dict[int, Covariance]:
        """Return the covariance of T_world_cam of all frames; empty where the keyframes' are not known."""
        indices = sorted(self._places)
        if not keyframes or not indices:
            return {}
        places = [self._places[i] for i in indices]
        out = frame_covariances(
            np.stack([keyframes[p.key_index] for p in places]),
            np.array([states[p.key_index].scale for p in places]),
            np.stack([p.T_key_cam for p in places]),
            np.stack([p.covariance for p in places]),
        )
        return dict(zip(indices, out))
