"""The bundle backend: tracks landmarks, keeps a map, optimises it in a sliding window and as a whole at the end."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from remov3r.backends.bundle_session import BundleConfig, BundleSession
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.errors import DataError
from remov3r.types import Covariance, Frame, FrameEstimate, Pose, TrackedPose

__all__ = ["BundleBackend", "BundleConfig"]


class BundleBackend:
    """Refiner and fixed-lag bundle adjustment with map reuse; see `remov3r.protocols.Backend`."""

    def __init__(self, config: BundleConfig | None = None) -> None:
        self._config = config or BundleConfig()
        self._session: BundleSession | None = None
        self._finished = False

    def track(self, frame: Frame, estimate: FrameEstimate) -> TrackedPose:
        """Give the online pose of a frame; the first one is the world's origin."""
        if self._session is None:
            self._session = BundleSession(frame.camera, self._config)
        return self._session.track(frame, estimate)

    def wants_keyframe(self) -> bool:
        """Whether the frame last tracked must become a keyframe."""
        return self._session is not None and self._session.wanted

    def add_keyframe(self, frame: Frame, estimate: FrameEstimate) -> TrackedPose:
        """Insert the frame last tracked as keyframe and optimise around it.

        While tracking is lost nothing is inserted: such a frame stays an ordinary one, until the backend itself
        asks for a new start.

        Raises:
            DataError: the frame was not tracked before, or its estimate has no dense prediction.
        """
        if self._session is None:
            raise DataError(f"frame {frame.index}: add_keyframe() comes after track()")
        return self._session.add_keyframe(frame, estimate)

    def finish(self) -> tuple[str, ...]:
        """Optimise the whole map, settle its scale, measure every frame again; return what was degraded."""
        if self._session is None:
            return ()
        if not self._finished:
            self._finished = True
            self._session.finish()
        return tuple(self._session.notes)

    def poses(self) -> dict[int, Pose]:
        """Return T_world_cam of every tracked frame, relative to its keyframe as optimised last."""
        return {} if self._session is None else self._session.store.poses()

    def covariances(self) -> dict[int, Covariance]:
        """Return the covariance of T_world_cam of each frame where it is known, relative to the first camera.

        Rotation first, then translation, in the camera's own frame: radians and metres. Before `finish()` only
        keyframes have one; held and bridged frames have none.
        """
        return {} if self._session is None else self._session.covariances()

    def landmark_map(self) -> LandmarkMap | None:
        """Return the map as it is now; None before the first frame."""
        return None if self._session is None else self._session.map

    def landmarks(self, frame_index: int) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
        """Return pixels and z-depth in metres of the landmarks of a keyframe that three or more keyframes saw."""
        if self._session is None:
            return np.empty((0, 2)), np.empty(0)
        return self._session.landmarks(frame_index)

    def map_size(self) -> tuple[int, int]:
        """Return how many keyframes and landmarks the map holds now."""
        return (
            (0, 0)
            if self._session is None
            else (len(self._session.map.keyframes), len(self._session.map.points))
        )
