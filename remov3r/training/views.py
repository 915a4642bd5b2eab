"""Shards of single RGB-D images that others published: `python -m remov3r.training.views --repositories DIR --out DIR`.

configs/real_views.toml lists where they are, at which commit, under which licence and how they were measured.
Clone each repository into the folder first; what is missing is named and left out.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from pydantic import Field

from remov3r.camera import Camera
from remov3r.config import Config, build, read_toml
from remov3r.data.images import natural_key, read_depth_m, read_rgb
from remov3r.data.registration import DepthRegistration
from remov3r.errors import DataError
from remov3r.training.commands import exit_status
from remov3r.training.framing import Framing, TrainingFrame, clip_of, framed
from remov3r.training.shards import Clips, write_shard
from remov3r.types import DepthMap, Frame

log = logging.getLogger(__name__)

Intrinsics = tuple[float, float, float, float]


class DepthCamera(Config):
    """A depth camera beside the colour camera, of the same size and looking the same way.

    Attributes:
        K: fx, fy, cx, cy in pixels.
        offset_m: its centre in the colour camera's frame.
    """

    K: Intrinsics
    offset_m: tuple[float, float, float]


class ViewSource(Config):
    """Images of one camera in one repository.

    Attributes:
        set: of shards that they go to; several sources may fill one.
        repository, commit, licence: where they were taken from, and on which terms.
        colour: files below the clone, with one `*` at most.
        depth: the file of each, `{}` in place of what `*` stands for.
        K: fx, fy, cx, cy of the colour camera in pixels.
        unit_m: of the depth's numbers.
        range_m: depth outside counts as missing.
        depth_camera: None where depth is registered to colour.
        darkest: mean brightness below which an image is left out.
        least_change: mean difference to the image kept before, at 40x30, below which one is left out.
    """

    set: str
    repository: str
    commit: str
    licence: str
    colour: str
    depth: str
    K: Intrinsics
    unit_m: float = Field(0.001, gt=0)
    range_m: tuple[float, float] = (0.25, 8.0)
    depth_camera: DepthCamera | None = None
    darkest: float = 0.0
    least_change: float = 0.0

    @property
    def folder(self) -> str:
        """Name of the clone's folder."""
        return self.repository.rstrip("/").rpartition("/")[2]


class ViewList(Config):
    """All sources."""

    source: tuple[ViewSource, ...]


def write_views(sources: ViewList, repositories: Path, out: Path) -> dict[str, int]:
    """Write one shard per set, each image a clip of its own.

    Returns:
        Number of images of each set.
    Raises:
        DataError: none of the repositories is there, or a file of one that is cannot be read.
    """
    found: dict[str, list[TrainingFrame]] = {}
    for source in sources.source:
        clone = repositories / source.folder
        if not clone.is_dir():
            log.warning(
                "%s: missing; left out. Get it with: git clone %s %s && git -C %s checkout %s",
                clone, source.repository, clone, clone, source.commit,
            )  # fmt: skip
            continue
        found.setdefault(source.set, []).extend(frames_of(source, clone))
    if not found:
        raise DataError(f"{repositories}: holds none of the repositories")
    for name, frames in found.items():
        clips = [clip_of([frame]) for frame in frames]
        fields = ("rgb", "depth_mm", "K", "T_world_cam")
        joined = {field: np.concatenate([getattr(clip, field) for clip in clips]) for field in fields}
        write_shard(out / name / f"{name}-00000.npz", Clips(**joined))
    return {name: len(frames) for name, frames in found.items()}


def frames_of(source: ViewSource, clone: Path) -> Iterator[TrainingFrame]:
    """Read the images of one source, in the order of their names.

    Raises:
        DataError: there is none, or one cannot be read or has no depth.
    """
    images = sorted(clone.glob(source.colour), key=lambda path: natural_key(path.as_posix()))
    if not images:
        raise DataError(f"{clone}: no file {source.colour}; is it at commit {source.commit}?")
    kept: UInt8[np.ndarray, "h w 3"] | None = None
    for index, path in enumerate(images):
        rgb = read_rgb(path)
        small = cv2.resize(rgb, (40, 30), interpolation=cv2.INTER_AREA)
        if rgb.mean() < source.darkest:
            continue
        if kept is not None and cv2.absdiff(small, kept).mean() < source.least_change:
            continue
        kept = np.asarray(small)
        camera = Camera(rgb.shape[1], rgb.shape[0], *source.K)
        depth_m = _depth(source, clone / _depth_name(source, path.relative_to(clone)), camera)
        frame = Frame(index, float(index), rgb, camera, depth_m)
        yield framed(frame, Framing(largest_depth_m=source.range_m[1]))


def _depth_name(source: ViewSource, colour: Path) -> str:
    pattern = re.escape(source.colour).replace(r"\*", "(.*)")
    match = re.fullmatch(pattern, colour.as_posix())
    return source.depth.format(*(match.groups() if match else ()))


def _depth(source: ViewSource, path: Path, camera: Camera) -> DepthMap:
    depth_m = read_depth_m(path, 1 / source.unit_m).astype(np.float32)
    if depth_m.shape != (camera.height, camera.width):
        raise DataError(
            f"{path}: {depth_m.shape[1]}x{depth_m.shape[0]}, its image {camera.width}x{camera.height}"
        )
    if source.depth_camera is not None:
        # twice as many pixels, so that a longer focal length leaves no holes
        size = (2 * camera.width, 2 * camera.height)
        measured = Camera(camera.width, camera.height, *source.depth_camera.K).resized(*size)
        T = np.eye(4)
        T[:3, 3] = source.depth_camera.offset_m
        large = np.asarray(cv2.resize(depth_m, size, interpolation=cv2.INTER_NEAREST))
        depth_m = DepthRegistration(measured, camera, T)(large)
    return np.where((depth_m >= source.range_m[0]) & (depth_m <= source.range_m[1]), depth_m, 0)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m remov3r.training.views", description=__doc__)
    parser.add_argument("--repositories", type=Path, required=True, help="folder of the clones")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of shards; each set gets its own in it"
    )
    parser.add_argument("--list", default="real_views", help="shipped name or TOML file (%(default)s)")
    args = parser.parse_args(argv)

    def write() -> None:
        sources = build(ViewList, read_toml(args.list), args.list)
        counts = write_views(sources, args.repositories, args.out)
        log.info("%s", ", ".join(f"{name}: {count} images" for name, count in counts.items()))

    return exit_status(write)


if __name__ == "__main__":
    sys.exit(main())
