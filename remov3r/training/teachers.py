"""Models that label photos, from an image and its camera to metres: one in an ONNX file and a network of ours."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.errors import DataError, MissingDependencyError
from remov3r.models.weights import load_network
from remov3r.types import Image

DepthModel = Callable[[Image, Camera], Float[np.ndarray, "hd wd"]]

# Geometric mean of fx and fy in FastDepth's training images (NYU's 4:3, squeezed to 224x224).
_TEACHER_FOCAL_PX = 229
_NETWORK_SIZE = (256, 192)


def load_onnx(path: Path) -> Callable[[Image], Float[np.ndarray, "hd wd"]]:
    """Load an ONNX model of 1x3xhxw RGB in 0..1 to metres; images are squeezed to its size and aspect.

    Raises:
        DataError: no such file, or not an ONNX model.
        MissingDependencyError: onnxruntime is not installed.
    """
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError as error:
        raise MissingDependencyError("an ONNX model needs onnxruntime: pip install onnxruntime") from error
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises bare subclasses of Exception for every damaged file
        raise DataError(f"{path}: not a readable ONNX model: {error}") from error
    name, (height, width) = session.get_inputs()[0].name, session.get_inputs()[0].shape[2:]

    def predict(rgb: Image) -> Float[np.ndarray, "hd wd"]:
        depth_m = session.run(None, {name: _input(rgb, (width, height))})[0].reshape(height, width)
        return np.maximum(depth_m, 0)

    return predict


def load_teacher(path: Path) -> DepthModel:
    """Load an ONNX model as `load_onnx` does; its depth is corrected by the focal length."""
    model = load_onnx(path)

    def predict(rgb: Image, camera: Camera) -> Float[np.ndarray, "hd wd"]:
        depth_m = model(rgb)
        seen = camera.resized(depth_m.shape[1], depth_m.shape[0])
        return depth_m * np.float32(np.sqrt(seen.fx * seen.fy) / _TEACHER_FOCAL_PX)

    return predict


def load_student(name: str) -> DepthModel:
    """Load a network of ours by shipped name or path.

    Raises:
        DataError: it is missing or damaged.
    """
    network = load_network(name)

    def predict(rgb: Image, camera: Camera) -> Float[np.ndarray, "hd wd"]:
        K = torch.from_numpy(camera.resized(*_NETWORK_SIZE).K.astype(np.float32))
        image = torch.from_numpy(_input(rgb, _NETWORK_SIZE))
        with torch.no_grad():
            return network.forward_depth(image, K[None]).depth_m[0].numpy()

    return predict


def _input(rgb: Image, size: tuple[int, int]) -> Float[np.ndarray, "1 3 hd wd"]:
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.ascontiguousarray(small.transpose(2, 0, 1)[None])
