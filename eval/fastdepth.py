"""Baseline: depth errors of FastDepth (trained on NYUv2) on frames of an input with ground-truth depth.

    python -m remov3r.eval.fastdepth --onnx fastdepth.onnx --input 7scenes/redkitchen --frames 0,50,100

The model takes 1×3×224×224 RGB in 0..1 and gives metres; images are squeezed to its size and aspect.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from remov3r.data.sources import open_source
from remov3r.errors import DataError, MissingDependencyError, Remov3rError
from remov3r.eval.depth import DepthMetrics, DepthPair, depth_metrics
from remov3r.types import Image

SIZE = 224
DepthModel = Callable[[Image], Float[np.ndarray, "224 224"]]


def load_fastdepth(path: Path) -> DepthModel:
    """Load the ONNX file as a function from image to depth in metres.

    Raises:
        DataError: no such file, or not an ONNX model.
        MissingDependencyError: onnxruntime is not installed.
    """
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError as error:
        raise MissingDependencyError("this baseline needs onnxruntime: pip install onnxruntime") from error
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises bare subclasses of Exception for every damaged file
        raise DataError(f"{path}: not a readable ONNX model: {error}") from error
    name = session.get_inputs()[0].name

    def predict(rgb: Image) -> Float[np.ndarray, "224 224"]:
        small = cv2.resize(rgb, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        depth = np.asarray(session.run(None, {name: small.transpose(2, 0, 1)[None]})[0])
        return np.maximum(depth.reshape(SIZE, SIZE), 0)

    return predict


def baseline_metrics(
    model: DepthModel, path: Path, dataset: str, frames: Sequence[int] | None
) -> DepthMetrics:
    """Measure a single-image depth model.

    Args:
        frames: indices in the input's own numbering; None for every 50th.
    Raises:
        DataError: the input has no depth, or no frame of it could be compared.
    """
    source = open_source(path, dataset, stride=50, sensor=True)

    def pairs() -> Iterator[DepthPair]:
        for frame in source if frames is None else source.frames(sorted(frames)):
            if frame.depth_m is not None:
                yield DepthPair(model(frame.rgb), frame.depth_m)

    metrics = depth_metrics(pairs())
    if metrics is None:
        raise DataError(f"{path}: no frame has ground-truth depth in range")
    return metrics


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and write the figures as JSON to the standard output."""
    parser = argparse.ArgumentParser(prog="python -m remov3r.eval.fastdepth", description=__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--dataset", default="auto")
    parser.add_argument(
        "--frames", type=_indices, help="indices separated by commas; every 50th when left out"
    )
    args = parser.parse_args(arguments)
    try:
        metrics = baseline_metrics(load_fastdepth(args.onnx), args.input, args.dataset, args.frames)
    except Remov3rError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(metrics), indent=2) + "\n")
    return 0


def _indices(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
