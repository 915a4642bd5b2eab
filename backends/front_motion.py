"""What a front end says of the camera's motion, read into the backend's own map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from remov3r.backends.pose_graph_noise import NoiseConfig, contradict, floored, with_scale_doubt
from remov3r.backends.pose_solver import PoseSolution
from remov3r.backends.trajectory_store import TrajectoryStore
from remov3r.config import Config
from remov3r.geometry import inverse
from remov3r.types import Covariance, FrameEstimate, Pose

_UNMEASURED_M2 = 1.0  # variance of a front end that says that it does not measure motion


class FrontMotionConfig(Config):
    """When a front end's word goes above what the images say; only where it states how sure it is.

    Attributes:
        sure_share: of a keyframe's points: where fewer support the images, a front end that contradicts them wins.
        map_scale_sigma: how far the map's scale may be off around here (logarithm): a way of another length alone is
            no contradiction.
        noise: least noise of measurements, and the growth of the images' stated noise.
    """

    sure_share: float = Field(0.5, gt=0, le=1)
    map_scale_sigma: float = Field(0.1, ge=0)
    noise: NoiseConfig = NoiseConfig()


@dataclass(frozen=True)
class Said:
    """What a front end says of one frame.

    Attributes:
        keyframe_index: the frame it says it from.
        T_key_cam: the motion since then, in the front end's scale.
        T_world_cam: that motion from where the keyframe is in the map.
        covariance: of T_key_cam; None where the front end does not say how sure it is.
    """

    keyframe_index: int
    T_key_cam: Pose
    T_world_cam: Pose
    covariance: Covariance | None


class FrontMotion:
    """Remembers the front end's last keyframe, from which it says the next ones."""

    def __init__(self, store: TrajectoryStore, config: FrontMotionConfig) -> None:
        self._store, self._config = store, config
        self._keyframe: tuple[int, Pose | None] = (-1, None)
        self._rate: Covariance | None = None  # variance per frame of what it said last

    def keyframe(self, estimate: FrameEstimate) -> None:
        """Remember a keyframe of the front end."""
        self._keyframe = estimate.frame_index, estimate.T_world_key

    def read(self, estimate: FrameEstimate) -> Said | None:
        """Return what it says of a frame; None where it does not measure motion."""
        index, T_world_key = self._keyframe
        stated = estimate.covariance
        if index not in self._store.records:
            return None
        if stated is not None and not np.trace(stated[3:, 3:]) < _UNMEASURED_M2:
            return None
        since = max(estimate.frame_index - index, 1)
        if not estimate.is_keyframe:
            if estimate.keyframe_index != index:
                return None
            T = estimate.T_key_cam
            self._rate = None if stated is None else stated / since
        elif T_world_key is None or estimate.T_world_key is None:
            return None
        else:
            T = inverse(T_world_key) @ estimate.T_world_key
        covariance = None if self._rate is None else floored(self._rate * since, self._config.noise)
        return Said(index, T, self._store.pose(index) @ T, covariance)

    def overrules(self, said: Said | None, solution: PoseSolution, followed: float) -> bool:
        """Return whether the front end is to be believed rather than the images.

        Args:
            followed: share of the keyframe's points that support the solution.
        """
        if said is None or said.covariance is None or followed >= self._config.sure_share:
            return False
        noise = self._config.noise
        covariance = floored(noise.refined_factor**2 / max(followed, 1e-3) * solution.covariance, noise)
        T_key_cam = inverse(self._store.pose(said.keyframe_index)) @ solution.T_world_cam
        covariance = with_scale_doubt(covariance, T_key_cam, self._config.map_scale_sigma)
        return contradict(solution.T_world_cam, covariance, said.T_world_cam, said.covariance)
