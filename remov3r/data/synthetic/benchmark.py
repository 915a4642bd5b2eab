"""Speed of the synthetic world: `python -m remov3r.data.synthetic.benchmark`."""

from __future__ import annotations

import argparse
import logging
import os
import time
from dataclasses import dataclass, replace

import torch

from remov3r.camera import Camera
from remov3r.data.synthetic.paths import handheld_path
from remov3r.data.synthetic.raycast import Solids
from remov3r.data.synthetic.rooms import Room
from remov3r.data.synthetic.scene import Surfaces
from remov3r.data.synthetic.sensor import CLEAN, SensorConfig
from remov3r.data.synthetic.world import SyntheticWorld, WorldConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RenderingSpeed:
    """What was measured.

    Attributes:
        frames_per_s: textured, lit frames with exact depth, room building not included.
        cpu_frames_per_s: the same by processor time of one core, which other programs do not slow down.
    """

    width: int
    height: int
    objects: int
    sensor: bool
    compiled: bool
    threads: int
    frames_per_s: float
    cpu_frames_per_s: float


def with_objects(room: Room, count: int) -> Room:
    """Return the room with the first `count` of its objects only (all when it has fewer)."""
    s, old = room.solids, room.surfaces
    n = len(s.shape)
    k = min(count, n)
    keep = torch.cat([torch.arange(6 * k), torch.arange(6 * n, 6 * n + 6)]).to(s.shape.device)
    solids = Solids(s.center_m[:k], s.half_m[:k], s.rotation[:k], s.shape[:k], s.shell_m)
    return replace(
        room, solids=solids, surfaces=Surfaces(old.table[:, keep], old.looks[keep], old.texture[keep])
    )


def benchmark_rendering(
    width: int = 160,
    height: int = 120,
    objects: int = 40,
    frames: int = 96,
    *,
    sensor: bool = False,
    compiled: bool = False,
) -> RenderingSpeed:
    """Measure rendering of a handheld walk through furnished rooms.

    Args:
        sensor: add noise, blur, tone curve and JPEG.
        compiled: the ray caster through torch.compile.
    """
    config = WorldConfig(sensor=SensorConfig() if sensor else CLEAN, compiled=compiled)
    world = SyntheticWorld(config)
    camera = Camera(width, height, 0.9 * width, 0.9 * width, (width - 1) / 2, (height - 1) / 2)
    wall, cpu = 0.0, 0.0
    rooms = 4
    for seed in range(rooms):
        room = with_objects(world.room(seed), objects)
        T_world_cam = handheld_path(room, seed, frames // rooms)
        world.render(room, camera, T_world_cam)  # first use compiles, and draws the shadows
        start, start_cpu = time.perf_counter(), time.process_time()
        world.render(room, camera, T_world_cam)
        wall += time.perf_counter() - start
        cpu += time.process_time() - start_cpu
    n, threads = frames // rooms * rooms, torch.get_num_threads()
    return RenderingSpeed(width, height, objects, sensor, compiled, threads, n / wall, n / cpu)


def main() -> None:
    """Print the figures for the sizes that tests, training and the demo use."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    for width, height, objects, sensor in (
        (160, 120, 40, False),
        (256, 192, 200, True),
        (640, 480, 200, True),
    ):
        frames = 96 if width < 600 else 24
        log.info(
            "%s", benchmark_rendering(width, height, objects, frames, sensor=sensor, compiled=args.compile)
        )


if __name__ == "__main__":
    main()
