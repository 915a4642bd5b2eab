"""Shards of photos without depth, labelled by a teacher and a network of ours together.

    python -m remov3r.training.taught --images DIR [DIR ...] --teacher fastdepth.onnx --out S/NAME

A label is the mean, in log depth, of the teacher's and the network's depth, each averaged over the image and its
mirror image, and the teacher's scaled to the network's median: it teaches shape, for photos seldom tell their focal
length. Pixels on which the two disagree, or that are far away, get none. DIR/focal.json may give the focal length
of an image by its name, as a fraction of its width.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt16

from remov3r.camera import Camera
from remov3r.data.images import image_files, read_rgb
from remov3r.errors import DataError
from remov3r.training.commands import exit_status
from remov3r.training.framing import Framing, TrainingFrame, clip_of, framed
from remov3r.training.shards import Clips, write_shard
from remov3r.training.teachers import DepthModel, load_student, load_teacher
from remov3r.types import Frame

log = logging.getLogger(__name__)

_LARGEST_RATIO = 1.8  # of teacher and network; where they differ by more, neither is believed
_NEAREST_M, _FARTHEST_M = 0.01, 8.0


def label(
    frame: TrainingFrame, teacher: DepthModel, student: DepthModel, weight: float
) -> UInt16[np.ndarray, "hd wd"]:
    """Label one image in millimetres, 0 = none; `weight` is the teacher's in the mean of the logarithms."""
    first, second = _log_depth(teacher, frame), _log_depth(student, frame)
    seen = first > np.log(2 * _NEAREST_M)  # no for 0 and NaN
    if not seen.any():
        return np.zeros(first.shape, np.uint16)
    first = first - np.median((first - second)[seen])
    depth_m = np.exp(weight * first + (1 - weight) * second)
    believed = seen & (np.abs(first - second) <= np.log(_LARGEST_RATIO)) & (depth_m <= _FARTHEST_M)
    return np.round(np.where(believed, depth_m, 0) * 1000).astype(np.uint16)


def _log_depth(model: DepthModel, frame: TrainingFrame) -> Float[np.ndarray, "hd wd"]:
    """Mean logarithm of the depth of an image and of its mirror image, turned back."""
    (height, width), K = frame.rgb.shape[:2], frame.K
    camera = Camera(width, height, K[0, 0], K[1, 1], K[0, 2], K[1, 2])
    mirrored = replace(camera, cx=width - 1 - camera.cx)
    both = model(frame.rgb, camera), model(np.ascontiguousarray(frame.rgb[:, ::-1]), mirrored)[:, ::-1]
    mean = sum(np.log(np.maximum(depth_m, _NEAREST_M)) for depth_m in both) / 2
    return np.asarray(cv2.resize(mean, (width // 2, height // 2), interpolation=cv2.INTER_LINEAR))


def photos(folder: Path, focal: float) -> Iterator[TrainingFrame]:
    """Read the images of a folder in natural order, cut and resized, without depth.

    Args:
        focal: length where focal.json has none, as a fraction of the longer side.
    Raises:
        DataError: no such folder, no images in it, or a file cannot be read.
    """
    files, listed = image_files(folder), folder / "focal.json"
    if not files:
        raise DataError(f"{folder}: no images")
    try:
        known: dict[str, float] = json.loads(listed.read_text()) if listed.is_file() else {}
    except ValueError as error:
        raise DataError(f"{listed}: not JSON: {error}") from error
    for index, path in enumerate(files):
        rgb = read_rgb(path)
        height, width = rgb.shape[:2]
        f = known[path.name] * width if path.name in known else focal * max(width, height)
        camera = Camera(width, height, f, f, (width - 1) / 2, (height - 1) / 2)
        yield framed(Frame(index, float(index), rgb, camera), Framing())


def write_taught(frames: Sequence[TrainingFrame], out: Path) -> str:
    """Write labelled images as clips of one frame each and return their figures in one line."""
    clips = [clip_of([frame]) for frame in frames]
    fields = ("rgb", "depth_mm", "K", "T_world_cam")
    joined = {field: np.concatenate([getattr(clip, field) for clip in clips]) for field in fields}
    write_shard(out / f"{out.name}-00000.npz", Clips(**joined))
    medians_m = [np.median(f.depth_mm[f.depth_mm > 0]) / 1000 for f in frames if f.depth_mm.any()]
    low, middle, high = np.percentile(medians_m or [np.nan], (10, 50, 90))
    share = f"{len(frames)} images, {(joined['depth_mm'] > 0).mean():.0%} of the pixels labelled"
    return f"{out}: {share}; their medians {middle:.2f} m (10 % {low:.2f}, 90 % {high:.2f})"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m remov3r.training.taught", description=__doc__)
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="folders of photos")
    parser.add_argument("--teacher", type=Path, required=True, help="ONNX model such as FastDepth")
    parser.add_argument("--network", default="lite", help="shipped name or weights file (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the set's shard")
    parser.add_argument(
        "--focal", type=float, default=0.8, help="if unknown, of the longer side (%(default)s)"
    )
    parser.add_argument("--weight", type=float, default=0.5, help="of the teacher, 0 to 1 (%(default)s)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)

    def write() -> None:
        models = load_teacher(args.teacher), load_student(args.network)
        found = (frame for folder in args.images for frame in photos(folder, args.focal))
        frames = [replace(frame, depth_mm=label(frame, *models, args.weight)) for frame in found]
        log.info("%s", write_taught(frames, args.out))

    return exit_status(write)


if __name__ == "__main__":
    sys.exit(main())
