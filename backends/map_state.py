"""What an optimisation of the whole map may change, set aside so that it can be put back."""

from __future__ import annotations

from copy import copy

from remov3r.backends.landmark_map import LandmarkMap


class MapState:
    """Poses, landmarks and which observations are good, as they were; numbers must not change in between."""

    def __init__(self, landmark_map: LandmarkMap) -> None:
        self._map = landmark_map
        self._keyframes = [copy(k) for k in landmark_map.keyframes]
        self._columns = (
            landmark_map.points.copy(),
            landmark_map.sigma_log.copy(),
            landmark_map.obs_good.copy(),
        )

    def restore(self) -> None:
        """Put everything back."""
        m = self._map
        m.keyframes = self._keyframes
        m.points[:], m.sigma_log[:], m.obs_good[:] = self._columns
