"""No backend: the trajectory is the front end's own transforms, one after the other."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from remov3r.errors import ConfigError
from remov3r.geometry import inverse
from remov3r.types import (
    Covariance,
    Frame,
    FrameEstimate,
    Pose,
    PoseKind,
    RelativePose,
    TrackedPose,
    TrackingState,
)


class FrontEndOnlyBackend:
    """World pose of a frame = T_world_key of its keyframe times its T_key_cam; see `remov3r.protocols.Backend`."""

    def __init__(self) -> None:
        self._poses: dict[int, Pose] = {}
        self._T_last: Pose = np.eye(4)

    def track(self, frame: Frame, estimate: FrameEstimate) -> TrackedPose:
        """Compose the front end's transforms.

        Raises:
            ConfigError: the front end measures no motion at all.
        """
        covariance = estimate.covariance
        unmeasured = covariance is not None and np.trace(covariance[3:, 3:]) > 1.0
        if unmeasured and covariance is not None and np.isfinite(covariance).all():
            raise ConfigError(
                "backend 'none' needs a front end that measures motion; this one does not: use 'bundle'"
            )
        if not self._poses:
            T = np.eye(4)
        elif estimate.is_keyframe:
            T = self._T_last if estimate.T_world_key is None else estimate.T_world_key
        else:
            T = self._poses[estimate.keyframe_index] @ estimate.T_key_cam
        missing = unmeasured and bool(self._poses) and estimate.T_world_key is None  # a gap in a recording
        if missing or not np.isfinite(T).all():
            T, state = self._T_last, TrackingState.LOST
        else:
            state = TrackingState.OK if not self._poses else TrackingState.WEAK
        self._poses[frame.index] = self._T_last = T
        return self._answer(frame, estimate, state)

    def wants_keyframe(self) -> bool:
        """Never: keyframes are the front end's own."""
        return False

    def add_keyframe(self, frame: Frame, estimate: FrameEstimate) -> TrackedPose:
        """Note the keyframe's pose; it was taken in `track`."""
        return self._answer(frame, estimate, TrackingState.WEAK)

    def finish(self) -> tuple[str, ...]:
        """Nothing is left to do."""
        return ()

    def poses(self) -> dict[int, Pose]:
        """Return T_world_cam of every frame."""
        return dict(self._poses)

    def covariances(self) -> dict[int, Covariance]:
        """Return nothing: transforms are only chained here."""
        return {}

    def landmarks(self, frame_index: int) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
        """Return nothing: there are no landmarks."""
        return np.empty((0, 2)), np.empty(0)

    def _answer(self, frame: Frame, estimate: FrameEstimate, state: TrackingState) -> TrackedPose:
        T_world_cam = self._poses[frame.index]
        key = estimate.keyframe_index
        relative = RelativePose(
            key,
            frame.index,
            inverse(self._poses[key]) @ T_world_cam,
            PoseKind.GLOBAL if estimate.is_keyframe else PoseKind.LOCAL,
            estimate.covariance,
        )
        return TrackedPose(frame.index, frame.timestamp_s, T_world_cam, state, estimate.is_keyframe, relative)
