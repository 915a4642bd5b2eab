"""Pack a folder of images with depth (and poses) into training shards: `python -m remov3r.training.pack`.

A source folder holds rgb/NNNNNN.jpg|png, depth/NNNNNN.png (16 bit, millimetres along z), intrinsics.txt
(fx fy cx cy [width height]) and, where the camera is tracked, poses.txt (row-major T_world_cam, one a line).
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8, UInt16

from remov3r.camera import Camera
from remov3r.errors import DataError, Remov3rError
from remov3r.geometry import checked_pose
from remov3r.training.shards import Clips, write_shard

log = logging.getLogger(__name__)

_SHARD_BYTES = 48_000_000
_FARTHEST_MM = 65000  # 65535 marks missing depth in some sets


@dataclass(frozen=True)
class Packing:
    """How a folder is cut into clips.

    Attributes:
        width, height: of the packed image; its largest centred cut of that shape is resized.
        frames: per clip.
        stride: source frames from one frame of a clip to the next.
        step: source frames from one clip's start to the next.
        max_depth_m: farther depth counts as missing.
    """

    width: int = 256
    height: int = 192
    frames: int = 1
    stride: int = 1
    step: int = 1
    max_depth_m: float = 20.0


@dataclass(frozen=True)
class PosedFolder:
    """Where the frames of a source folder are and what is known of its camera."""

    rgb: tuple[Path, ...]
    depth: tuple[Path, ...]
    camera: Camera
    T_world_cam: Float[np.ndarray, "n 4 4"]


def read_folder(folder: Path) -> PosedFolder:
    """Find the frames of a source folder.

    Raises:
        DataError: something is missing, or counts differ.
    """
    rgb = sorted(p for p in (folder / "rgb").glob("*") if p.suffix in (".jpg", ".png"))
    if not rgb:
        raise DataError(f"{folder}/rgb: no images")
    depth = [folder / "depth" / f"{p.stem}.png" for p in rgb]
    missing = next((p for p in depth if not p.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing}: missing (every image needs its depth)")
    try:
        fx, fy, cx, cy = np.loadtxt(folder / "intrinsics.txt").ravel()[:4]
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}/intrinsics.txt: need fx fy cx cy [width height]: {error}") from error
    height, width = _read_image(rgb[0], cv2.IMREAD_COLOR).shape[:2]
    camera = Camera(width, height, fx, fy, cx, cy)
    poses_file = folder / "poses.txt"
    poses = np.full((len(rgb), 4, 4), np.nan)
    if poses_file.is_file():
        rows = np.loadtxt(poses_file, ndmin=2)
        if rows.shape != (len(rgb), 16):
            raise DataError(f"{poses_file}: {rows.shape} numbers for {len(rgb)} images, need 16 a line")
        poses = np.stack(
            [checked_pose(r.reshape(4, 4), f"{poses_file}: row {i}") for i, r in enumerate(rows)]
        )
    return PosedFolder(tuple(rgb), tuple(depth), camera, poses)


def pack_folder(folder: Path, out: Path, packing: Packing) -> list[Path]:
    """Write the shards of one source folder and return their paths.

    Raises:
        DataError: the folder is not as described above, or holds fewer frames than one clip.
    """
    source = read_folder(folder)
    span = (packing.frames - 1) * packing.stride + 1
    starts = range(0, len(source.rgb) - span + 1, packing.step)
    if not starts:
        raise DataError(f"{folder}: {len(source.rgb)} frames, one clip spans {span}")
    clip_bytes = packing.frames * packing.width * packing.height * 7 // 2
    per_shard = max(1, _SHARD_BYTES // clip_bytes)
    chunks = [starts[i : i + per_shard] for i in range(0, len(starts), per_shard)]
    paths = []
    for number, chunk in enumerate(chunks):
        index = np.array(chunk)[:, None] + np.arange(packing.frames) * packing.stride
        paths.append(out / f"{folder.name}-{number:05d}.npz")
        write_shard(paths[-1], _clips(source, index, packing))
        log.info("%s: %d clips of %d frames", paths[-1], len(index), packing.frames)
    return paths


def _clips(source: PosedFolder, index: np.ndarray, packing: Packing) -> Clips:
    """Read the frames of some clips, each file once."""
    unique, inverse = np.unique(index, return_inverse=True)
    loaded = [_frame(source, int(i), packing) for i in unique]
    place = inverse.reshape(index.shape)
    K = loaded[0][2]
    return Clips(
        np.stack([frame[0] for frame in loaded])[place],
        np.stack([frame[1] for frame in loaded])[place],
        np.broadcast_to(K.astype(np.float32), (*index.shape, 3, 3)),
        source.T_world_cam[index].astype(np.float32),
    )


def _frame(
    source: PosedFolder, i: int, packing: Packing
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt16[np.ndarray, "hd wd"], Float[np.ndarray, "3 3"]]:
    """Read one frame, cut it to the packed shape, resize it; returns rgb, depth at half its size, K."""
    bgr = _read_image(source.rgb[i], cv2.IMREAD_COLOR)
    depth = _read_image(source.depth[i], cv2.IMREAD_UNCHANGED)
    camera = source.camera
    for path, image in ((source.rgb[i], bgr), (source.depth[i], depth)):
        if image.shape[:2] != (camera.height, camera.width):
            raise DataError(
                f"{path}: size {image.shape[1]}x{image.shape[0]}, camera {camera.width}x{camera.height}"
            )
    if depth.dtype != np.uint16 or depth.ndim != 2:
        raise DataError(f"{source.depth[i]}: {depth.dtype} with {depth.ndim} axes, need one 16-bit channel")
    scale = min(camera.width / packing.width, camera.height / packing.height)
    w, h = round(packing.width * scale), round(packing.height * scale)
    left, top = (camera.width - w) // 2, (camera.height - h) // 2
    cut = camera.cropped(left, top, w, h).resized(packing.width, packing.height)
    size = (packing.width, packing.height)
    rgb = cv2.resize(bgr[top : top + h, left : left + w, ::-1], size, interpolation=cv2.INTER_AREA)
    rows = top + _nearest(packing.height // 2, h)
    columns = left + _nearest(packing.width // 2, w)
    small = depth[rows[:, None], columns]
    keep = (small < min(packing.max_depth_m * 1000, _FARTHEST_MM)) & (small > 0)
    return rgb, np.where(keep, small, 0).astype(np.uint16), cut.K


def _read_image(path: Path, flags: int) -> np.ndarray:
    """Read an image file or say which one cannot be read."""
    image = cv2.imread(str(path), flags)
    if image is None:
        raise DataError(f"{path}: unreadable image")
    return image


def _nearest(count: int, size: int) -> np.ndarray:
    """Source pixel at the centre of each of `count` equal parts of `size` pixels."""
    return np.ceil((np.arange(count) + 0.5) * (size / count) - 1).astype(np.int64)


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m remov3r.training.pack", description=__doc__)
    parser.add_argument("source", type=Path, help="folder with rgb/, depth/, intrinsics.txt [poses.txt]")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards of this set")
    parser.add_argument("--size", default="256x192", help="width x height of the packed images")
    parser.add_argument("--frames", type=int, default=1, help="frames per clip")
    parser.add_argument("--stride", type=int, default=1, help="source frames between frames of a clip")
    parser.add_argument("--step", type=int, default=1, help="source frames between starts of clips")
    parser.add_argument("--max-depth", type=float, default=20.0, help="metres; farther counts as missing")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        width, height = (int(n) for n in args.size.split("x"))
        packing = Packing(width, height, args.frames, args.stride, args.step, args.max_depth)
        pack_folder(args.source, args.out, packing)
    except (Remov3rError, OSError) as error:
        log.error("error: %s", error)
        return 1
    except ValueError:
        parser.error(f"--size {args.size!r}: write it as 256x192")
    return 0


if __name__ == "__main__":
    sys.exit(main())
