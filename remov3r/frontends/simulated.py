"""A front end with known faults: the truth with drift, a biased scale and wrong confidences."""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.spatial.transform import Rotation

from remov3r.config import Config
from remov3r.errors import DataError
from remov3r.geometry import inverse, unproject
from remov3r.types import DensePrediction, DepthMap, Frame, FrameEstimate, Pose

_RADIANS_PER_M = 0.5  # errors of a metre come with rotations of so many radians
_M_PER_RADIAN = 0.5  # a turn by a radian errs like a way of so many metres


class SimulatedConfig(Config):
    """The faults of a simulated front end.

    Attributes:
        drift: random error of the way from one keyframe to the next, as a share of it; where there is depth, each
            keyframe's depths are off by a common factor with this standard deviation as well.
        scale: of all its lengths; with `scale_drift` it changes by so much (as a logarithm) per keyframe.
        boast: its stated standard deviations are so many times too small; None = it states none of its motion.
        pixel_noise: relative standard deviation of single depths.
        keyframe_every: frames from one of its own keyframes to the next.
    """

    drift: float = Field(0.03, ge=0)
    scale: float = Field(1.0, gt=0)
    scale_drift: float = 0.0
    boast: float | None = Field(1.0, gt=0)
    pixel_noise: float = Field(0.01, gt=0)
    keyframe_every: int = Field(10, ge=1)


class SimulatedFrontEnd:
    """Knows the true poses and says them with the faults of its configuration; see `remov3r.protocols.FrontEnd`.

    Attributes:
        poses: what it says by itself, T_world_cam of each frame; the first is the identity.
        scales: what turns its lengths into metres, frame by frame.
    """

    def __init__(
        self,
        truth: Float[np.ndarray, "n 4 4"],
        random: np.random.Generator,
        config: SimulatedConfig | None = None,
        lost: Container[int] = (),
        depths_m: Mapping[int, DepthMap] | None = None,
    ) -> None:
        """Draw its errors.

        Args:
            truth: T_world_cam of the frames 0, 1, 2 ...
            lost: frames in which it sees nothing: their steps are nothing but error.
            depths_m: true depth by frame; None where the frames bring it.
        """
        self._config = config or SimulatedConfig()
        self._random, self._depths_m = random, depths_m
        every = self._config.keyframe_every
        factors = self._config.scale * np.exp(self._config.scale_drift * (np.arange(len(truth)) // every))
        self.scales: Float[np.ndarray, " n"] = 1 / factors
        poses, self._variance = [np.eye(4)], np.zeros((len(truth), 6, 6))
        for i in range(1, len(truth)):
            step = inverse(truth[i - 1]) @ truth[i]
            angle = float(Rotation.from_matrix(step[:3, :3]).magnitude())
            way_m = float(np.linalg.norm(step[:3, 3])) + angle * _M_PER_RADIAN
            drift = 1.0 if i in lost else self._config.drift
            sigma_m = drift * way_m * np.sqrt(every)  # of a keyframe's whole way, about `drift`
            step[:3, 3] *= factors[i]
            poses.append(poses[-1] @ step @ random_motion(random, sigma_m * _RADIANS_PER_M, sigma_m))
            self._variance[i] = np.diag([(sigma_m * _RADIANS_PER_M) ** 2] * 3 + [sigma_m**2] * 3)
        self.poses: Float[np.ndarray, "n 4 4"] = np.stack(poses)
        self._key: int | None = None
        self._frame: Frame | None = None

    def process(self, frame: Frame) -> FrameEstimate:
        """Estimate a frame; every few frames it is a keyframe.

        Raises:
            DataError: the frame is none of those whose truth is known.
        """
        if not 0 <= frame.index < len(self.poses):
            raise DataError(f"frame {frame.index}: the simulated front end knows {len(self.poses)} frames")
        self._frame = frame
        if self._key is None or frame.index - self._key >= self._config.keyframe_every:
            return self.promote()
        T_key_cam = inverse(self.poses[self._key]) @ self.poses[frame.index]
        stated = None
        if self._config.boast is not None:
            stated = self._variance[self._key + 1 : frame.index + 1].sum(0) / self._config.boast**2
        return FrameEstimate(frame.index, self._key, T_key_cam, covariance=stated)

    def prepare(self, frame: Frame) -> None:
        """Work ahead on nothing."""

    def promote(self) -> FrameEstimate:
        """Make the frame last processed a keyframe.

        Raises:
            DataError: no frame has been processed.
        """
        if self._frame is None:
            raise DataError("promote() needs a frame that went through process()")
        self._key = self._frame.index
        return FrameEstimate(
            self._key, self._key, np.eye(4), self.poses[self._key], dense=self._dense(self._frame)
        )

    def _dense(self, frame: Frame) -> DensePrediction:
        """The frame's depth with noise; where it has none, a prediction that sees nothing."""
        size, config = (frame.camera.height, frame.camera.width), self._config
        known = frame.depth_m if self._depths_m is None else self._depths_m.get(frame.index)
        true_m = np.zeros(size, np.float32) if known is None else known
        common = np.exp(config.drift * self._random.normal()) / self.scales[frame.index]
        depth = true_m * common * np.exp(config.pixel_noise * self._random.normal(size=size))
        depth = np.where(true_m > 0, depth, 0).astype(np.float32)
        sigma = depth * float(np.hypot(config.drift, config.pixel_noise) / (config.boast or 1.0))
        sure = (depth > 0).astype(np.float32)
        sigma_m = np.where(depth > 0, sigma, np.inf).astype(np.float32)
        return DensePrediction(frame.camera, depth, sure, unproject(depth, frame.camera), sure, sigma_m)


def random_motion(random: np.random.Generator, sigma_rad: float, sigma_m: float) -> Pose:
    """Draw a pose near the identity."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(random.normal(size=3) * sigma_rad).as_matrix()
    T[:3, 3] = random.normal(size=3) * sigma_m
    return T
