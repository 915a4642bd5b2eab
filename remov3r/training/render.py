"""Render training shards from the synthetic world: `python -m remov3r.training.render --out DIR --clips N`."""

from __future__ import annotations

import argparse
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16

from remov3r.camera import Camera
from remov3r.data.synthetic.paths import LOW_SHARE, PathConfig, desk_scan, handheld_path
from remov3r.data.synthetic.rooms import Room
from remov3r.data.synthetic.world import SyntheticWorld, WorldConfig
from remov3r.errors import DataError

log = logging.getLogger(__name__)
WIDTH, HEIGHT = 256, 192
LOW_WALK_M = (0.3, 1.1)  # height of robots and of cameras held low
_CLIPS_PER_ROOM = 2


@dataclass(frozen=True)
class Clip:
    """Frames of one room, as a shard stores them.

    Attributes:
        depth_mm: z-depth of the half-size camera (`Camera.resized`), 0 = missing.
    """

    rgb: UInt8[np.ndarray, "t h w 3"]
    depth_mm: UInt16[np.ndarray, "t h2 w2"]
    K: Float[np.ndarray, "t 3 3"]
    T_world_cam: Float[np.ndarray, "t 4 4"]


def draw_camera(rng: np.random.Generator) -> Camera:
    """Draw the camera of a clip: focal lengths of phones and RGB-D cameras, mostly 220 to 260 pixels at 256×192."""
    f = rng.uniform(220, 260) if rng.random() < 0.6 else rng.uniform(190, 300)
    cx, cy = (WIDTH - 1) / 2 + rng.normal(0, 4), (HEIGHT - 1) / 2 + rng.normal(0, 4)
    return Camera(WIDTH, HEIGHT, f, f * rng.uniform(0.99, 1.01), cx, cy)


def half_depth_mm(depth_m: Float[np.ndarray, "t h w"]) -> UInt16[np.ndarray, "t h2 w2"]:
    """Reduce depth to half size: the harmonic mean of the 2×2 pixels when they lie on one surface, else the nearest.

    1/z is linear in the image on a plane, so its mean is the exact depth at the centre of the four pixels.
    """
    t, h, w = depth_m.shape
    four = depth_m.reshape(t, h // 2, 2, w // 2, 2).transpose(2, 4, 0, 1, 3).reshape(4, t, h // 2, w // 2)
    low, high = four.min(0), four.max(0)
    mean = 4 / (1 / four).sum(0)
    half = np.where(high < low * 1.05, mean, low)
    return np.where(half < 60, np.round(half * 1000), 0).astype(np.uint16)


def _poses(world: SyntheticWorld, room: Room, camera: Camera, frames: int, seed: int) -> np.ndarray | None:
    """Far-apart views for short clips, a stretch of video at a random frame rate for longer ones."""
    if frames < 6:
        return world.choose_views(room, camera, frames, seed)
    rng = np.random.default_rng(seed)
    stride = int(rng.integers(1, 5))
    fps, scan = 30.0 / stride, rng.random() < 0.3
    poses = desk_scan(room, seed, frames, fps) if scan else None
    if poses is not None:
        return poses
    walk = PathConfig(height_m=LOW_WALK_M) if rng.random() < LOW_SHARE else PathConfig()
    return handheld_path(room, seed, frames, fps, walk)


def render_clip(world: SyntheticWorld, room: Room, seed: int, frames: int) -> Clip | None:
    """Render one clip of a room with a camera of its own; None where the room is too full to stand in."""
    camera = draw_camera(np.random.default_rng(seed))
    try:
        T_world_cam = _poses(world, room, camera, frames, seed)
    except DataError:
        return None
    if T_world_cam is None:
        return None
    clip = world.render(room, camera, T_world_cam, video=frames >= 6, seed=seed)
    if np.median(clip.depth_m) < 0.3:
        return None
    K = np.broadcast_to(camera.K, (frames, 3, 3))
    return Clip(clip.rgb, half_depth_mm(clip.depth_m), K, T_world_cam)


def clips(world: SyntheticWorld, seed: int, frames: int) -> Iterator[Clip]:
    """Yield clips without end, two of each room; the room and its shadows cost as much as three pictures."""
    while True:
        room = world.room(seed)
        for clip in (render_clip(world, room, seed + k, frames) for k in range(_CLIPS_PER_ROOM)):
            if clip is not None:
                yield clip
        seed += _CLIPS_PER_ROOM


def write_shard(path: Path, batch: list[Clip]) -> None:
    """Write clips as one uncompressed .npz, complete or not at all.

    Raises:
        DataError: the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            np.savez(
                file,
                rgb=np.stack([c.rgb for c in batch]),
                depth_mm=np.stack([c.depth_mm for c in batch]),
                K=np.stack([c.K for c in batch]).astype(np.float32),
                T_world_cam=np.stack([c.T_world_cam for c in batch]).astype(np.float32),
            )
        partial.rename(path)
    except OSError as error:
        raise DataError(f"shard {path}: cannot write: {error}") from error


def _next_number(folder: Path, name: str) -> int:
    numbers = [int(m[1]) for p in folder.glob(f"{name}-*.npz") if (m := re.search(r"-(\d+)\.npz$", p.name))]
    return max(numbers, default=-1) + 1


def render_shards(
    world: SyntheticWorld,
    out: Path,
    clip_count: int,
    frames: int,
    seed: int,
    minutes: float = np.inf,
    shard_mb: float = 40,
) -> int:
    """Write shards until the number of clips or the time is used up; continues the numbering of earlier runs.

    Returns:
        Number of clips written by this call.
    Raises:
        DataError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"shard folder {out}: cannot create: {error}") from error
    per_shard = min(max(1, int(shard_mb * 1e6 / (frames * WIDTH * HEIGHT * 3.5))), clip_count)
    number, done, start = _next_number(out, out.name), 0, time.monotonic()
    # the seeds of shard k depend on k alone, so a resumed run draws new rooms
    while done < clip_count and time.monotonic() - start < 60 * minutes:
        source = clips(world, seed * 1_000_000 + number * per_shard * 4, frames)
        batch = [next(source) for _ in range(min(per_shard, clip_count - done))]
        write_shard(out / f"{out.name}-{number:05d}.npz", batch)
        number, done = number + 1, done + len(batch)
        rate = done * frames / (time.monotonic() - start)
        log.info("%s: %d clips, %d frames, %.1f frames/s", out.name, done, done * frames, rate)
    return done


def main() -> None:
    """Parse the command line and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the shards; its name becomes theirs"
    )
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument(
        "--frames", type=int, default=3, help="per clip; fewer than 6 are far-apart views, more are video"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--textures", type=Path, help="folder of photographs")
    parser.add_argument("--time-budget", type=float, default=np.inf, metavar="MIN")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    world = SyntheticWorld(WorldConfig(textures=args.textures, device=args.device, compiled=args.compile))
    render_shards(world, args.out, args.clips, args.frames, args.seed, args.time_budget)


if __name__ == "__main__":
    main()
