"""`make bench`: runs the command line over named sequences and writes their figures as one Markdown page.

    python -m remov3r.pipelines.benchmark --data DATA --out docs/benchmarks

Each run is a process of its own, so that its speed and memory are what a user gets. Sequences that are not in
DATA are listed as absent; the synthetic rooms need no data at all.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remov3r.errors import DataError, Remov3rError
from remov3r.pipelines.output_folder import OutputFolder
from remov3r.pipelines.provenance import code_version, package_versions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One line of the table: a sequence of the data folder, or a command that makes its own, with options."""

    name: str
    arguments: tuple[str, ...]
    sequence: str | None = None

    def command(self, data: Path, out: Path) -> list[str]:
        """Return the arguments of `remov3r`."""
        if self.sequence is None:
            return [*self.arguments, "--out", str(out)]
        return ["run", str(data / self.sequence), *self.arguments, "--out", str(out)]


REDKITCHEN = "7scenes/redkitchen"
SENSOR, ALONE = ("--front-end", "sensor"), ("--backend", "none", "--no-mesh")
RUNS = (
    Run("redkitchen", ("--dataset", "7scenes"), REDKITCHEN),
    Run("redkitchen, network alone", ("--dataset", "7scenes", *ALONE), REDKITCHEN),
    Run("redkitchen, sensor", ("--dataset", "7scenes", *SENSOR), REDKITCHEN),
    Run("hololens (trained on)", ("--dataset", "posed"), "hololens"),
    Run("hololens, sensor", ("--dataset", "posed", *SENSOR), "hololens"),
    Run("desk (validation)", ("--dataset", "posed"), "desk"),
    Run("desk, sensor", ("--dataset", "posed", *SENSOR), "desk"),
    Run("desk_b (validation)", ("--dataset", "posed"), "desk_b"),
    Run("desk_b, sensor", ("--dataset", "posed", *SENSOR), "desk_b"),
    Run("synthetic room of the demo", ("demo",)),
)
COLUMNS = (
    "run", "frames", "ATE SE(3) m", "ATE Sim(3) m", "scale", "online SE(3) m", "RTE m", "RRE °",
    "depth raw AbsRel / δ", "aligned AbsRel / δ", "map acc. / compl. cm", "frames/s", "peak MB",
)  # fmt: skip

LEGEND = (
    "RGB alone unless the line says *sensor*. ATE: RMSE over all frames after SE(3) or Sim(3) alignment by evo; "
    "*scale* multiplies the estimate onto the ground truth; *online*: the poses as first given out. RTE, RRE: "
    "RMSE over consecutive frames, ground-truth rotations projected to SO(3). Depth: keyframes, pixels of 0.1 to "
    "10 m. Map: medians against the ground-truth depth fused at the ground-truth poses. Frames/s: end to end "
    "after the first frame, reading, closing optimisation and meshing included."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything whose data is there, and write the page; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure accuracy and speed over named sequences.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the sequences")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="gets the page")
    parser.add_argument("--runs", type=Path, default=Path("out/bench"), help="gets each run's output")
    parser.add_argument("--only", default="", help="run only lines whose name holds this text")
    parser.add_argument("--page", default="slam", help="name of the page, without its date")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        chosen = [run for run in RUNS if arguments.only in run.name]
        if not chosen:
            raise DataError(f"--only {arguments.only!r} fits none of: {', '.join(r.name for r in RUNS)}")
        lines = [table_row(run, arguments.data, arguments.runs) for run in chosen]
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        page = OutputFolder(arguments.out)
        page.put_text(f"{arguments.page}_{today}.md", page_text(lines, today))
    except Remov3rError as error:
        sys.stderr.write(f"remov3r: {error}\n")
        return 1
    logger.info("written %s", page.written[-1])
    return 0


def table_row(run: Run, data: Path, runs: Path) -> str:
    """Carry out one run and return its line; a run that failed says so."""
    if run.sequence is not None and not (data / run.sequence).exists():
        return f"| {run.name} | not in the data folder |" + " |" * (len(COLUMNS) - 2)
    out = runs / run.name.replace(" ", "-").replace(",", "").replace("(", "").replace(")", "")
    logger.info("%s ...", run.name)
    command = [sys.executable, "-m", "remov3r.pipelines.cli", *run.command(data, out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        logger.error("%s failed: %s", run.name, reason)
        return f"| {run.name} | failed: {reason} |" + " |" * (len(COLUMNS) - 2)
    return "| " + " | ".join([run.name, *figures(out)]) + " |"


def figures(out: Path) -> list[str]:
    """Return the cells of a finished run, from its metrics.json and timings.json.

    Raises:
        DataError: the run wrote neither.
    """
    try:
        timings = json.loads((out / "timings.json").read_text())
        metrics = json.loads((out / "metrics.json").read_text())
    except OSError as error:
        raise DataError(f"{out}: the run left no figures: {error}") from error
    every, online = metrics["trajectory"]["all"], metrics["trajectory"]["online"]
    depth, mesh = metrics.get("depth") or {}, metrics.get("map")
    return [
        f"{every['poses']}/{every['frames']}",
        cell(every["se3"]["ate_rmse_m"], 3),
        cell(every["sim3"]["ate_rmse_m"], 3),
        cell(every["sim3"]["scale"], 3),
        cell(online["se3"]["ate_rmse_m"], 3),
        cell(every["rte_rmse_m"], 4),
        cell(every["rre_rmse_deg"], 2),
        depth_cell(depth.get("metric")),
        depth_cell(depth.get("aligned")),
        "–" if mesh is None else f"{100 * mesh['accuracy_m']:.1f} / {100 * mesh['completeness_m']:.1f}",
        cell(timings["frames_per_s"], 1),
        cell(timings["peak_rss_mb"], 0),
    ]


def cell(value: float | None, digits: int) -> str:
    """Format a figure; a dash where it could not be measured."""
    return "–" if value is None else f"{value:.{digits}f}"


def depth_cell(depth: dict[str, Any] | None) -> str:
    """Format a pair of depth figures."""
    return "–" if not depth else f"{cell(depth['abs_rel'], 3)} / {cell(depth['delta_1_25'], 3)}"


def page_text(lines: Sequence[str], today: str) -> str:
    """Return the page: where and with what it was measured, the table, and what the columns mean."""
    versions = ", ".join(f"{name} {number}" for name, number in package_versions().items() if number)
    head = "| " + " | ".join(COLUMNS) + " |"
    rule = "|" + "---|" * len(COLUMNS)
    return "\n".join(
        [
            f"# Accuracy and speed, {today}",
            "",
            f"ReMov3r {code_version()}, {hardware()}; {versions}. Command: `make bench` "
            "(`python -m remov3r.pipelines.benchmark --data DATA`).",
            "",
            head,
            rule,
            *lines,
            "",
            LEGEND,
            "",
        ]
    )


def hardware() -> str:
    """Return the processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    cores = subprocess.run(["nproc"], capture_output=True, text=True).stdout.strip() if info.exists() else "?"
    return f"{name}, {cores} cores"


if __name__ == "__main__":
    sys.exit(main())
