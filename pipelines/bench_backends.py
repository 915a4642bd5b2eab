"""`remov3r bench backends`: none, pose_graph and bundle, with and without loops, on synthetic and real sequences."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from remov3r.backends.registry import BACKENDS
from remov3r.data.sources import open_source, read_reference
from remov3r.data.synthetic.situations import SITUATIONS, SituationSource, lost_frames
from remov3r.errors import ConfigError, Remov3rError
from remov3r.eval.trajectory import evaluate_trajectory
from remov3r.frontends.simulated import SimulatedConfig, SimulatedFrontEnd
from remov3r.pipelines.bench_backends_scores import loop_metrics, mean_nees
from remov3r.pipelines.bench_backends_table import (
    Row,
    json_text,
    markdown_page,
    mean_row,
    merged,
    rows_from,
    verdict_lines,
)
from remov3r.pipelines.build import build_backend, build_front_end, use_threads
from remov3r.pipelines.config import PipelineConfig, load_config
from remov3r.pipelines.demo import write_sequence
from remov3r.pipelines.provenance import code_version
from remov3r.pipelines.reconstruct import Slam
from remov3r.pipelines.terminal import say
from remov3r.protocols import FrontEnd
from remov3r.types import TrackingState, Trajectory

SEEDS = (7, 1, 2)  # of the errors of the simulated front ends
REAL = ("network", "sensor")
SEEN_AGAIN = 0.2  # share of the keyframes of a real sequence from which on it counts as looped
FAULTS: dict[str, SimulatedConfig] = {
    "drift 1 %": SimulatedConfig(drift=0.01),
    "drift 3 %": SimulatedConfig(drift=0.03),
    "drift 10 %": SimulatedConfig(drift=0.10),
    "scale 0.7": SimulatedConfig(scale=0.7),
    "scale 1.3": SimulatedConfig(scale=1.3),
    "sigma / 3": SimulatedConfig(boast=3.0),
    "sigma × 3": SimulatedConfig(boast=1 / 3),
}
LOOPLESS = "drift 3 %"  # of the simulated ones, the one that runs without loops as well
VARIANTS: tuple[tuple[str, bool | None], ...] = (
    ("none", None), ("pose_graph", True), ("pose_graph", False), ("bundle", True), ("bundle", False),
)  # fmt: skip
WORDS = (
    "`remov3r bench backends`. Synthetic sequences of {frames} frames, 256×192, with simulated front ends:",
    "their drift is a share of the way from keyframe to keyframe, and of the keyframes' depth (one factor each, with",
    "1 % in single pixels); sigma / 3 states standard deviations three times too small, sigma × 3 too large, both at",
    "3 % drift, as the biased scales are. Errors are drawn {seeds} times: what stands here is the mean of those runs.",
    "Real sequences run once, as `remov3r run` does. ATE in metres over all frames.",
    "",
    "A backend must not be worse than the front end alone by more than 2 % in either error (differences below 1 mm",
    "do not count), and on looped sequences, with loops on, better by 30 %. A biased scale is one factor on all",
    "lengths, which no backend can know: there SE(3) is judged in the front end's own lengths (the factor taken out of",
    "both), and the 30 % in Sim(3).",
    "A loop is right within 5 cm (or 3 % of the depth) and 2°; recall counts keyframes that see a place again. The",
    "bundle's loops are pairs of keyframes that share landmarks, with the transform it gave them in the end.",
)


@dataclass(frozen=True)
class Case:
    """A sequence to run on.

    Attributes:
        front_ends: names of simulated ones, or "network" and "sensor".
        looped: places are seen again after a while; None to find out from the truth.
        lost: frames that show nothing.
    """

    name: str
    path: Path
    front_ends: tuple[str, ...]
    looped: bool | None
    lost: range = range(0)


def bench_command(arguments: argparse.Namespace) -> int:
    """Run `remov3r bench backends`; rows of the JSON beside the page that are not measured anew stay."""
    cv2.setNumThreads(1)
    use_threads(1)
    names = arguments.sequence or list(SITUATIONS)
    unknown = [name for name in names if name not in SITUATIONS]
    if unknown:
        raise ConfigError(f"--sequence {unknown[0]!r}: there are {', '.join(SITUATIONS)}")
    if arguments.frames < 30:
        raise ConfigError(f"--frames {arguments.frames}: at least 30")
    out = Path(arguments.out)
    file = out.with_suffix(".json")
    rows = rows_from(file.read_text(), str(file)) if file.exists() else []
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.images or temporary)
        cases = (
            [] if arguments.data and not arguments.sequence else _rendered(names, arguments.frames, folder)
        )
        for case in [*cases, *(Case(p.resolve().name, p, REAL, None) for p in map(Path, arguments.data))]:
            for name in case.front_ends if not arguments.front_end else arguments.front_end:
                rows = merged(rows, _measured(case, name, arguments.config, arguments.backend or BACKENDS))
                file.write_text(json_text(rows), encoding="utf-8")
                words = [line.format(frames=arguments.frames, seeds=len(SEEDS)) for line in WORDS]
                out.write_text(markdown_page(rows, words), encoding="utf-8")
    for line in verdict_lines(rows):
        say(line)
    return 0


def _rendered(names: list[str], frames: int, folder: Path) -> list[Case]:
    """Render the situations that are not in the folder yet."""
    cases = []
    for name in names:
        path = folder / f"{name}_{frames}"
        if not (path / "room" / "poses.txt").exists():
            say(f"rendering {name}")
            write_sequence(SituationSource(name, frames), path)
        cases.append(
            Case(name, path / "room", tuple(FAULTS), SITUATIONS[name].looped, lost_frames(name, frames))
        )
    return cases


def _measured(case: Case, front_end: str, config_name: str, backends: Collection[str]) -> Iterator[Row]:
    """Run backends behind one front end; what fails is in its row."""
    version = code_version()
    for backend, loops in VARIANTS:
        if backend not in backends or (front_end == "sensor" and loops is None):
            continue  # the sensor measures no motion
        if loops is False and front_end in FAULTS and front_end != LOOPLESS:
            continue
        say(
            f"{case.name}, {front_end}, {backend}, loops {'off' if loops is False else 'on' if loops else '-'}"
        )
        biased = front_end in FAULTS and FAULTS[front_end].scale != 1
        row = Row(case.name, front_end, backend, loops, bool(case.looped), biased, version)
        try:
            yield measure(row, case, settings(backend, loops, config_name, front_end))
        except Remov3rError as error:
            yield replace(row, problem=str(error))


def settings(backend: str, loops: bool | None, config_name: str, front_end: str) -> PipelineConfig:
    """Return the ordinary configuration with one backend, its loops on or off, and no mesh."""
    off = {"pose_graph": "pose_graph.loop_closure=false", "bundle": "bundle.map_reuse.enabled=false"}
    given = "network" if front_end in FAULTS else front_end  # no true depth reaches a backend
    assignments = [f"front_end={given!r}", f"backend={backend!r}", "mesh=false", "threads=1"]
    return load_config(config_name, assignments + ([off[backend]] if loops is False else []))


def measure(row: Row, case: Case, config: PipelineConfig) -> Row:
    """Run a pipeline over a sequence and score it; behind simulated front ends, over several draws of their errors.

    Raises:
        DataError, TrackingError: the sequence cannot be read, has no poses, or was not tracked at all.
    """
    seeds = SEEDS if row.front_end in FAULTS else SEEDS[:1]
    return mean_row([_measured_once(row, case, config, seed) for seed in seeds])


def _measured_once(row: Row, case: Case, config: PipelineConfig, seed: int) -> Row:
    faults = FAULTS.get(row.front_end)
    sensor = config.front_end == "sensor" or faults is not None
    source = open_source(case.path, sensor=sensor)
    reference = read_reference(case.path, sensor=sensor)
    front_end: FrontEnd
    if faults is None:
        front_end, scale = build_front_end(config), 1.0
    else:
        random = np.random.default_rng(seed)
        depths_m = {f.index: f.depth_m for f in source if f.depth_m is not None}
        front_end = SimulatedFrontEnd(reference.T_world_cam, random, faults, case.lost, depths_m)
        scale = faults.scale
    backend = build_backend(config)
    start = time.process_time()
    with Slam(front_end, backend, config) as slam:
        for frame in source:
            slam.track(frame)
        result = slam.finish()
    cpu_s = time.process_time() - start
    error = evaluate_trajectory(result.trajectory, reference)
    own = evaluate_trajectory(_rescaled(result.trajectory, 1 / scale), reference) if row.biased else None
    row = replace(
        row, se3_m=error.se3.ate_rmse_m, own_m=None if own is None else own.se3.ate_rmse_m,
        sim3_m=error.sim3.ate_rmse_m, scale=error.sim3.scale,
        rre_deg=error.rre_rmse_deg, cpu_s=cpu_s, notes=result.notes,
        lost=sum(state is TrackingState.LOST for state in result.trajectory.state),
        nees=mean_nees(result.trajectory, reference),
        nees_known=faults is not None and faults.scale == 1 and faults.boast == 1,
    )  # fmt: skip
    if not row.loops:
        return row
    loops = loop_metrics(backend, result.trajectory, reference, open_source(case.path, sensor=True), scale)
    again = loops.revisits >= SEEN_AGAIN * int(result.trajectory.is_keyframe.sum())
    return replace(
        row, looped=again if case.looped is None else case.looped, loops_given=loops.loops,
        precision=loops.precision, place_precision=loops.place_precision, recall=loops.recall,
    )  # fmt: skip


def _rescaled(trajectory: Trajectory, factor: float) -> Trajectory:
    T = trajectory.T_world_cam.copy()
    T[:, :3, 3] *= factor
    return replace(trajectory, T_world_cam=T, covariances=None)
