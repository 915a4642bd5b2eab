"""`remov3r bench map`: time of the map errors for so many points on either side."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from remov3r.errors import ConfigError
from remov3r.eval.map import surface_errors
from remov3r.eval.surface import Surface, sample_mesh, thinned
from remov3r.pipelines.benchmark_page import hardware
from remov3r.pipelines.provenance import code_version
from remov3r.pipelines.tables import markdown_table
from remov3r.pipelines.terminal import say
from remov3r.types import Mesh

PITCH_M = 0.012  # between neighbouring points: hardly two in one cube of 1 cm
NOISE_M = 0.02, 0.002  # of the estimate and of the truth
VOXEL_M = 0.01
Result = TypeVar("Result")


@dataclass(frozen=True)
class Step:
    """What one step took: by the clock, and of processor time, which other work disturbs less."""

    name: str
    wall_s: float
    cpu_s: float


def bench_command(arguments: argparse.Namespace) -> int:
    """Measure, print the page and write it where asked.

    Raises:
        ConfigError: too few points for a room.
    """
    if arguments.points < 600:
        raise ConfigError(f"--points {arguments.points}: give at least 600")
    page = map_page(measured(arguments.points), arguments.points)
    say(page)
    if arguments.out is not None:
        Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
        Path(arguments.out).write_text(page)
    return 0


def measured(points: int) -> list[Step]:
    """Draw points from a room's mesh, thin them, compare them with the truth's (which frames bring one by one)."""
    steps: list[Step] = []

    def timed(name: str, work: Callable[[], Result]) -> Result:
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        steps.append(Step(name, time.perf_counter() - wall, time.process_time() - cpu))
        return result

    room = rough_room(points // 10, NOISE_M[0])
    timed(f"draw {points:,} points from a mesh", partial(sample_mesh, room, points))
    rough, truth = (_room_points(points, noise_m, seed) for seed, noise_m in enumerate(NOISE_M))
    truth = thinned(truth, VOXEL_M)
    estimate = timed(f"thin {len(rough.points_m):,} points", partial(thinned, rough, VOXEL_M))
    counts = f"{len(estimate.points_m):,} points against {len(truth.points_m):,}"
    timed(f"errors of {counts}, both ways", partial(surface_errors, estimate, truth))
    return steps


def _room_points(points: int, noise_m: float, seed: int) -> Surface:
    mesh = rough_room(points, noise_m, seed)
    return Surface(mesh.vertices_m.astype(np.float64), mesh.normals.astype(np.float64))


def rough_room(points: int, noise_m: float, seed: int = 0) -> Mesh:
    """Six square walls of about so many vertices in all, each moved at random along the wall's normal."""
    side = max(2, round((points / 6) ** 0.5))
    rng = np.random.default_rng(seed)
    flat = np.indices((side, side)).reshape(2, -1).T * PITCH_M
    number = np.arange(side * side).reshape(side, side)
    a, b, c, d = (
        part.ravel() for part in (number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:])
    )
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([c, b, d], 1)])
    vertices, normals = np.zeros((2, 6, side * side, 3), np.float32)
    for wall in range(6):
        axis = wall // 2
        vertices[wall][:, [k for k in range(3) if k != axis]] = flat
        vertices[wall][:, axis] = wall % 2 * side * PITCH_M + rng.normal(0, noise_m, side * side)
        normals[wall][:, axis] = 1
    triangles = np.concatenate([faces + wall * side * side for wall in range(6)])
    flat_vertices = vertices.reshape(-1, 3)
    return Mesh(flat_vertices, triangles, np.zeros_like(flat_vertices), normals.reshape(-1, 3))


def map_page(steps: list[Step], points: int) -> str:
    """Return the page with its table."""
    total = Step("together", sum(s.wall_s for s in steps), sum(s.cpu_s for s in steps))
    cells = [(s.name, f"{s.wall_s:.1f}", f"{s.cpu_s:.1f}") for s in (*steps, total)]
    return (
        f"# Map errors, {points:,} points\n\nReMov3r {code_version()}, {hardware()}. "
        f"Command: `remov3r bench map --points {points}`.\n\n"
        f"{markdown_table(('step', 'time s', 'processor s'), cells)}\n"
    )
