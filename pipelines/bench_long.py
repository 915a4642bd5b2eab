"""`remov3r bench long`: memory and time per frame of the bundle backend over a long run in one room.

A walk through a synthetic room is rendered once and played to and fro, with the depth of a sensor.
"""

from __future__ import annotations

import argparse
import gc
import logging
import resource
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from remov3r.backends.bundle import BundleBackend, BundleConfig
from remov3r.backends.features import FeatureConfig
from remov3r.backends.tracking import TrackerConfig
from remov3r.data.synthetic.source import SyntheticSource
from remov3r.errors import ConfigError
from remov3r.eval.plots import plot_series
from remov3r.eval.trajectory import evaluate_trajectory
from remov3r.frontends.sensor import SensorFrontEnd
from remov3r.geometry import inverse
from remov3r.pipelines.build import use_threads
from remov3r.pipelines.demo import write_sequence
from remov3r.pipelines.provenance import code_version
from remov3r.pipelines.recording import grouped
from remov3r.pipelines.terminal import say
from remov3r.types import Frame, Pose, TrackingState, Trajectory

logger = logging.getLogger(__name__)
SEED = 21
SETTLED = 1000  # frames after which nothing may grow
FLAT = 0.05  # share of the memory held then by which it may change
CORNERS = FeatureConfig(corners=150)
# Light enough for thousands of frames on one core: fewer points than by default, and fewer keyframes.
CONFIG = BundleConfig(tracker=TrackerConfig(features=CORNERS), keyframe_survivors=0.3)


@dataclass(frozen=True)
class Stretch:
    """Figures of some frames in a row.

    Attributes:
        end: frames done at its end.
        resident_mb: memory in use then.
        frame_ms: mean processor time per frame, keyframes included.
        median_ms: wall time of the median frame.
        keyframes, landmarks: in the map then.
        keyframes_made: in this stretch.
    """

    end: int
    resident_mb: float
    frame_ms: float
    median_ms: float
    keyframes: int
    landmarks: int
    keyframes_made: int


@dataclass(frozen=True)
class LongRun:
    """What was measured; errors of the final poses in metres and degrees, `finish_s` of the closing optimisation."""

    stretches: tuple[Stretch, ...]
    ate_se3_m: float | None
    rte_m: float | None
    rre_deg: float | None
    finish_s: float
    peak_mb: float
    not_ok: int
    notes: tuple[str, ...]


class ToAndFro:
    """A rendered walk played forwards and backwards."""

    def __init__(self, folder: Path, distinct: int) -> None:
        self._source = SyntheticSource(SEED, distinct)
        self._images = folder / "room"
        if not (self._images / f"depth/{distinct - 1:06d}.png").exists():
            write_sequence(self._source, folder)

    def frame(self, index: int) -> Frame:
        """Return a frame of the run; its image is read anew."""
        last = len(self._source) - 1
        shown = last - abs(index % (2 * last) - last)
        bgr = cv2.imread(str(self._images / f"rgb/{shown:06d}.jpg"))
        depth = cv2.imread(str(self._images / f"depth/{shown:06d}.png"), cv2.IMREAD_UNCHANGED)
        if bgr is None or depth is None:
            raise ConfigError(
                f"{self._images}: frame {shown} cannot be read; remove the folder and run again"
            )
        rgb = np.ascontiguousarray(bgr[..., ::-1]).astype(np.uint8)
        depth_m = (depth / 1000).astype(np.float32)
        return Frame(index, index / 30, rgb, self._source.camera, depth_m, self._source.T_world_cam[shown])


def bench_command(arguments: argparse.Namespace) -> int:
    """Run `remov3r bench long`."""
    if arguments.frames < 2 * arguments.every or arguments.distinct < 2:
        raise ConfigError(f"--frames {arguments.frames}: at least twice --every {arguments.every}")
    cv2.setNumThreads(1)
    use_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        scene = ToAndFro(Path(arguments.images or temporary), arguments.distinct)
        run = measure(scene, arguments.frames, arguments.every)
    page = as_markdown(run, arguments.frames, arguments.distinct)
    say(page)
    if arguments.out:
        out = Path(arguments.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page.replace("FIGURE", out.with_suffix(".png").name), encoding="utf-8")
        plot(run, out.with_suffix(".png"))
    return 0


def measure(scene: ToAndFro, frames: int, every: int) -> LongRun:
    """Track all frames; the memory of the images themselves does not count, for each is dropped at once."""
    front_end, backend = SensorFrontEnd(), BundleBackend(CONFIG)
    stretches: list[Stretch] = []
    wall, spent, made, not_ok = [], 0.0, 0, 0
    truth: dict[int, Pose] = {}
    for index in range(frames):
        frame = scene.frame(index)
        truth[index] = np.asarray(frame.T_world_cam)
        start, start_cpu = time.perf_counter(), time.process_time()
        estimate = front_end.process(replace(frame, T_world_cam=None))
        tracked = backend.track(frame, estimate)
        if estimate.is_keyframe or backend.wants_keyframe():
            tracked = backend.add_keyframe(frame, estimate if estimate.is_keyframe else front_end.promote())
            made += 1
        spent += time.process_time() - start_cpu
        wall.append(time.perf_counter() - start)
        not_ok += tracked.state is not TrackingState.OK
        if (index + 1) % every == 0:
            gc.collect()
            keyframes, landmarks = backend.map_size()
            stretches.append(
                Stretch(
                    index + 1, resident_mb(), 1e3 * spent / every, 1e3 * float(np.median(wall)),
                    keyframes, landmarks, made,
                )
            )  # fmt: skip
            logger.info("%s", stretches[-1])
            wall, spent, made = [], 0.0, 0
    start = time.process_time()
    notes = backend.finish()
    finish_s = time.process_time() - start
    error = evaluate_trajectory(_trajectory(backend.poses()), _trajectory(truth))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return LongRun(
        tuple(stretches), error.se3.ate_rmse_m, error.rte_rmse_m, error.rre_rmse_deg, finish_s, peak_mb, not_ok,
        notes,
    )  # fmt: skip


def resident_mb() -> float:
    """Return the resident memory of this process (Linux; elsewhere its peak)."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def growth(values: Float[np.ndarray, " n"]) -> float:
    """Return how far values leave their first one, as a share of it (the largest, with its sign)."""
    change = values / values[0] - 1
    return float(change[np.abs(change).argmax()])


def as_markdown(run: LongRun, frames: int, distinct: int) -> str:
    """Write the figures as a page with a table."""
    settled = [s for s in run.stretches if s.end >= SETTLED] or list(run.stretches)
    memory = growth(np.array([s.resident_mb for s in settled]))
    half = max(len(settled) // 2, 1)
    early, late = (
        float(np.mean([s.frame_ms for s in part])) for part in (settled[:half], settled[half:] or settled)
    )
    lines = [
        f"# Bundle backend over {frames} frames",
        "",
        f"{code_version()}; 320x240, sensor depth, one thread; {distinct} rendered frames of a walk through a",
        f"synthetic room, played to and fro; {CORNERS.corners} points per keyframe. Time is processor time of the",
        "front end and the backend, keyframes included; the median frame's wall time beside it shows how busy the",
        "machine was with other work; memory is what the process holds, libraries included.",
        "",
        f"Memory after the first {SETTLED} frames changes by {100 * memory:+.1f} % at most: "
        f"{'flat' if abs(memory) <= FLAT else 'not flat'} (allowed: {100 * FLAT:.0f} %). Time per frame: "
        f"{early:.1f} ms in the first half of the rest, {late:.1f} ms in the second.",
        f"Final poses: ATE SE(3) {_known(run.ate_se3_m, 4)} m, RTE {_known(run.rte_m, 4)} m, RRE "
        f"{_known(run.rre_deg, 3)}°; closing optimisation "
        f"{run.finish_s:.1f} s, peak memory {run.peak_mb:.0f} MB; frames not tracked: {run.not_ok}.",
        "",
        "![Memory and time per frame](FIGURE)",
        "",
        "| frames | resident MB | ms per frame | median, wall | keyframes in the map | landmarks | keyframes made |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {s.end} | {s.resident_mb:.0f} | {s.frame_ms:.1f} | {s.median_ms:.1f} | {s.keyframes} | {s.landmarks} "
            f"| {s.keyframes_made} |"
            for s in run.stretches
        ),
        "",
        "What the run says of itself:",
        "",
        *(f"- {note}" for note in grouped(run.notes) or ("nothing was degraded",)),
    ]
    return "\n".join(lines) + "\n"


def plot(run: LongRun, file: Path) -> None:
    """Draw memory and time per frame over the run.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    ends = [s.end for s in run.stretches]
    series = {
        "resident memory, MB": [s.resident_mb for s in run.stretches],
        "processor time per frame, ms": [s.frame_ms for s in run.stretches],
    }
    plot_series(file, ends, series, "frames")


def _known(value: float | None, digits: int) -> str:
    return "not known" if value is None else f"{value:.{digits}f}"


def _trajectory(poses: dict[int, Pose]) -> Trajectory:
    """Poses relative to the first, as a trajectory of measured frames."""
    order = sorted(poses)
    T = np.stack([poses[i] for i in order])
    count = len(order)
    return Trajectory(
        np.array(order), np.array(order) / 30, inverse(T[0]) @ T, np.zeros(count, bool),
        (TrackingState.OK,) * count,
    )  # fmt: skip
