"""The front end that the paper describes: a network that sees RGB alone."""

from __future__ import annotations

import logging
import math
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.errors import ConfigError, TrackingError
from remov3r.geometry import from_quaternion_xyzw
from remov3r.models.engine_boxes import EngineName, choose_boxes
from remov3r.models.network import DepthOutput, FrameFeatures
from remov3r.models.streaming import StreamEstimate, StreamingNetwork
from remov3r.models.weights import Weights, load_weights
from remov3r.types import Covariance, DensePrediction, DepthMap, Frame, FrameEstimate, Image, Pose

logger = logging.getLogger(__name__)

MOST_PREPARED = 8  # frames; older ones that were announced and never processed are forgotten


class NetworkFrontEndConfig(Config):
    """Network front end.

    Attributes:
        weights: name of shipped weights, or path of a .safetensors file with its card beside it.
        input_pixels: about how many pixels the network is given.
        precision: "auto" takes bfloat16 in OpenVINO on CPUs that have it, else float32. In OpenVINO, where the first
            stages stay in float32, bfloat16 moves depth by 0.3 %, rarely above 1 %; in torch (for GPUs), by 1 to 2 %.
        device: "auto" takes a GPU when there is one.
        engine: what runs the network; "auto" takes OpenVINO for lite weights on a CPU, where it is installed.
        compiled: use torch.compile: minutes at the first frame, faster afterwards; for GPUs.
    """

    weights: str = "lite"
    input_pixels: int = Field(256 * 192, ge=64**2)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: EngineName = "auto"
    compiled: bool = False


class NetworkFrontEnd:
    """Streams frames through the network; dense geometry on keyframes only. See `FrontEnd`."""

    def __init__(self, config: NetworkFrontEndConfig | None = None, weights: Weights | None = None) -> None:
        """Load the network.

        Args:
            weights: already loaded ones; those that the configuration names if None.
        Raises:
            DataError: the weights are missing or damaged.
            ConfigError: a GPU is asked for and there is none, or an engine that does not go with the device.
            MissingDependencyError: OpenVINO is asked for and not installed.
        """
        self._config = config or NetworkFrontEndConfig()
        weights = weights or load_weights(self._config.weights)
        self._sigma_factor = weights.card.sigma_factor
        self._covariance_factor = weights.card.covariance_factor
        self._sigma_unit = weights.card.sigma_unit
        self._device = _device(self._config.device)
        self._size_multiple = weights.network.size_multiple
        network = weights.network.to(self._device)
        bfloat16 = None if self._config.precision == "auto" else self._config.precision == "bfloat16"
        boxes = choose_boxes(network, self._config.engine, self._config.compiled, bfloat16)
        self._stream = StreamingNetwork(network, boxes)
        self._worker = ThreadPoolExecutor(1, "encoder")
        self._prepared: dict[int, tuple[Image, Future[FrameFeatures]]] = {}
        self._frame: Frame | None = None
        self._failed = False  # whether the network gave nothing usable for it
        self._keyframe_index: int | None = None  # of the stream's open window
        self._T_key_cam: Pose = np.eye(4)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a snapshot keeps: what the stream remembers, not weights and frames."""
        return {
            "_stream": self._stream.__getstate__(),
            "_keyframe_index": self._keyframe_index,
            "_T_key_cam": self._T_key_cam,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from what `__getstate__` returned, with the same weights."""
        self._stream.__setstate__(state["_stream"])
        self._keyframe_index, self._T_key_cam = state["_keyframe_index"], state["_T_key_cam"]
        self._frame, self._prepared = None, {}

    def process(self, frame: Frame) -> FrameEstimate:
        """Estimate one frame; where the network fails, repeat the last transform and log a warning."""
        self._frame = frame
        rgb, encoded = self._prepared.pop(frame.index, (None, None))
        features = encoded.result() if encoded is not None and rgb is frame.rgb else self._encode(frame)
        try:
            estimate = self._stream.push(features)
        except TrackingError as error:
            logger.warning("frame %d: %s; its transform repeats the last one", frame.index, error)
            return self._degraded(frame)
        self._failed = False
        return self._frame_estimate(frame, estimate)

    def prepare(self, frame: Frame) -> None:
        """Encode a coming frame in the background: that part needs no memory of the frames before."""
        self._prepared[frame.index] = frame.rgb, self._worker.submit(self._encode, frame)
        while len(self._prepared) > MOST_PREPARED:
            self._prepared.pop(min(self._prepared))

    def promote(self) -> FrameEstimate:
        """Make the frame last processed a keyframe; its depth is all missing where the network failed.

        Raises:
            TrackingError: no frame has been processed.
        """
        if self._frame is None:
            raise TrackingError("promote() needs a frame that went through process()")
        if self._failed:
            return self._blind_keyframe(self._frame)
        return self._frame_estimate(self._frame, self._stream.promote())

    def _encode(self, frame: Frame) -> FrameFeatures:
        camera = self._input_camera(frame)
        shrinks = camera.width * camera.height < frame.camera.width * frame.camera.height
        rgb = cv2.resize(
            frame.rgb,
            (camera.width, camera.height),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        rgb_3HW = torch.from_numpy(rgb).to(self._device).permute(2, 0, 1).float() / 255
        return self._stream.encode(rgb_3HW, torch.from_numpy(camera.K).float().to(self._device))

    def _input_camera(self, frame: Frame) -> Camera:
        return input_camera(frame.camera, self._config.input_pixels, self._size_multiple)

    def _frame_estimate(self, frame: Frame, estimate: StreamEstimate) -> FrameEstimate:
        if estimate.dense is not None:
            self._keyframe_index = frame.index
        assert self._keyframe_index is not None
        self._T_key_cam = _matrix(estimate.T_key_cam)
        return FrameEstimate(
            frame.index,
            self._keyframe_index,
            self._T_key_cam,
            None if estimate.dense is None else _matrix(estimate.T_world_key),
            estimate.pose_embedding.float().cpu().numpy(),
            self._covariance(estimate),
            None if estimate.dense is None else self._dense(frame, estimate.dense),
        )

    def _covariance(self, estimate: StreamEstimate) -> Covariance | None:
        if estimate.local_cholesky is None:
            return None
        L = estimate.local_cholesky.double().cpu().numpy()
        return self._covariance_factor * (L @ L.T)

    def _dense(self, frame: Frame, dense: DepthOutput) -> DensePrediction:
        maps = dense.depth_m, dense.depth_confidence, dense.points_cam, dense.points_confidence
        depth_m, confidence, points, points_confidence = (m[0].float().cpu().numpy() for m in maps)
        valid = np.isfinite(depth_m + confidence + points.sum(-1) + points_confidence) & (confidence > 0)
        if not valid.all():
            logger.warning("frame %d: %d depths are not finite; left out", frame.index, (~valid).sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            sigma_m = self._sigma_factor * self._sigma_unit_m(depth_m, points, valid) / confidence
        return DensePrediction(
            frame.camera.resized(depth_m.shape[1], depth_m.shape[0]),
            np.where(valid, depth_m, 0).astype(np.float32),
            np.where(valid, confidence, 0).astype(np.float32),
            np.where(valid[..., None], points, 0).astype(np.float32),
            np.where(valid, points_confidence, 0).astype(np.float32),
            np.where(valid, sigma_m, np.inf).astype(np.float32),
        )

    def _sigma_unit_m(
        self, depth_m: DepthMap, points: Float[np.ndarray, "h w 3"], valid: Bool[np.ndarray, "h w"]
    ) -> DepthMap:
        """Return what σ is a share of: the pixel's depth, or the mean distance of the frame's points."""
        if self._sigma_unit == "pixel":
            return depth_m
        distance_m = np.linalg.norm(points[valid], axis=-1)
        return np.full_like(depth_m, distance_m.mean() if len(distance_m) else 1.0)

    def _degraded(self, frame: Frame) -> FrameEstimate:
        self._failed = True
        if self._keyframe_index is None:
            return self._blind_keyframe(frame)
        return FrameEstimate(frame.index, self._keyframe_index, self._T_key_cam)

    def _blind_keyframe(self, frame: Frame) -> FrameEstimate:
        camera = self._input_camera(frame)
        camera = frame.camera.resized(camera.width // 2, camera.height // 2)
        size = (camera.height, camera.width)
        none, points = np.zeros(size, np.float32), np.zeros((*size, 3), np.float32)
        blind = DensePrediction(camera, none, none, points, none, np.full(size, np.inf, np.float32))
        return FrameEstimate(frame.index, frame.index, np.eye(4), dense=blind)


@lru_cache(maxsize=8)
def input_camera(camera: Camera, pixels: int, multiple: int) -> Camera:
    """Choose the network's input size: multiples of a number, about so many pixels, the aspect nearly kept."""
    aspect = camera.width / camera.height
    most = max(pixels // multiple**2, 1)
    sizes = ((w, h) for h in range(1, most + 1) for w in range(1, 2 * most // h + 1))

    def cost(size: tuple[int, int]) -> float:
        w, h = size
        return 4 * abs(math.log(w / h / aspect)) + abs(math.log(w * h * multiple**2 / pixels))

    w, h = min(sizes, key=cost)
    return camera.resized(w * multiple, h * multiple)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError('network.device = "cuda": torch sees no GPU; use "auto" or "cpu"')
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _matrix(T_7: Tensor) -> Pose:
    T = T_7.double().cpu().numpy()
    return from_quaternion_xyzw(T[:3], T[3:])
