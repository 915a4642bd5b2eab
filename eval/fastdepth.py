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
from pathlib import Path

import numpy as np
from jaxtyping import Float

from remov3r.data.sources import open_source
from remov3r.errors import DataError, Remov3rError
from remov3r.eval.depth import DepthMetrics, DepthPair, depth_metrics
from remov3r.training.teachers import load_onnx
from remov3r.types import Image

DepthModel = Callable[[Image], Float[np.ndarray, "hd wd"]]


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
        metrics = baseline_metrics(load_onnx(args.onnx), args.input, args.dataset, args.frames)
    except Remov3rError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(metrics), indent=2) + "\n")
    return 0


def _indices(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
