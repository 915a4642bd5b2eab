"""The pages of a benchmark: Markdown for people, JSON and CSV for programs, all of the same figures."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from remov3r.eval.protocols import Protocol
from remov3r.pipelines.provenance import code_version, package_versions
from remov3r.pipelines.tables import cell, csv_text, markdown_table


@dataclass(frozen=True)
class Row:
    """One sequence measured with one method.

    Attributes:
        metrics, timings: as in metrics.json and timings.json; empty where there is a problem.
        problem: why there are no figures.
    """

    sequence: str
    method: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Figure:
    """A column: where its value lies below metrics or timings, digits shown, and what it is multiplied by.

    Attributes:
        weight: where the value lies by which sequences weigh in its mean; None when all count alike.
    """

    title: str
    path: str
    digits: int
    factor: float = 1.0
    weight: str | None = None

    def value(self, row: Row) -> float | None:
        """Return the value; None where it was not measured."""
        value = _value_at(row, self.path)
        return None if value is None else value * self.factor

    def mean(self, rows: Sequence[Row]) -> float | None:
        """Return the mean over sequences; None where one of them lacks the figure."""
        values = [self.value(row) for row in rows]
        weights = [1.0 if self.weight is None else _value_at(row, self.weight) for row in rows]
        if None in values or None in weights:
            return None
        return float(np.average(np.array(values, float), weights=np.array(weights, float)))


def _value_at(row: Row, path: str) -> float | None:
    node: Any = {**row.metrics, "timings": row.timings}
    for key in path.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return None if node is None else float(node)


DEPTH_PIXELS = "depth.pooled.pixels"
FIGURES = (
    Figure("poses", "trajectory.all.poses", 0),
    Figure("of frames", "trajectory.all.frames", 0),
    Figure("ATE SE(3) m", "trajectory.all.se3.ate_rmse_m", 3),
    Figure("ATE Sim(3) m", "trajectory.all.sim3.ate_rmse_m", 3),
    Figure("scale", "trajectory.all.sim3.scale", 3),
    Figure("online SE(3) m", "trajectory.online.se3.ate_rmse_m", 3),
    Figure("RTE m", "trajectory.all.rte_rmse_m", 4),
    Figure("RRE °", "trajectory.all.rre_rmse_deg", 2),
    Figure("RRE naive °", "trajectory.all.rre_naive_rmse_deg", 2),
    Figure("depth AbsRel", "depth.metric.abs_rel", 3),
    Figure("depth δ1", "depth.metric.delta_1_25", 3),
    Figure("aligned AbsRel", "depth.aligned.abs_rel", 3),
    Figure("aligned δ1", "depth.aligned.delta_1_25", 3),
    Figure("sequence scale AbsRel", "depth.sequence.scale.abs_rel", 3, weight=DEPTH_PIXELS),
    Figure("sequence scale δ1", "depth.sequence.scale.delta_1_25", 3, weight=DEPTH_PIXELS),
    Figure("sequence scale+shift AbsRel", "depth.sequence.scale_shift.abs_rel", 3, weight=DEPTH_PIXELS),
    Figure("sequence scale+shift δ1", "depth.sequence.scale_shift.delta_1_25", 3, weight=DEPTH_PIXELS),
    Figure("map acc. cm", "map.accuracy_m", 1, 100),
    Figure("map compl. cm", "map.completeness_m", 1, 100),
    Figure("visible acc. cm", "map.visible.accuracy_m", 1, 100),
    Figure("F-score 5 cm", "map.f_score_5cm", 3),
    Figure("frames/s", "timings.frames_per_s", 1),
    Figure("peak MB", "timings.peak_rss_mb", 0),
)
LEGEND = (
    "ATE: RMSE over all frames after SE(3) or Sim(3) alignment by evo; *scale* multiplies the estimate onto the ground "
    "truth; *online*: the poses as first given out. RTE, RRE: RMSE over consecutive frames, ground-truth rotations "
    "projected to SO(3); *naive*: not projected. Depth: keyframes, mean over frames; *sequence*: over all pixels "
    "after one fit for the sequence, means weighted by pixels. Map: medians; *visible*: without what no camera of "
    "the ground truth saw. Frames/s: end to end after the first frame, closing optimisation and meshing "
    "included. What each figure means: docs/evaluation.md."
)


def markdown_page(protocol: Protocol, rows: Sequence[Row], today: str, config: str) -> str:
    """Return the page: what, where and with what it was measured, the table, what the columns mean."""
    shown = [f for f in FIGURES if any(f.value(row) is not None for row in rows) and _asked(f, protocol)]
    cells = [[row.sequence, row.method, *_cells(row, shown)] for row in rows]
    cells += [
        [f"mean of {len(group)}", method, *(cell(f.mean(group), f.digits) for f in shown)]
        for method, group in _groups(rows)
    ]
    versions = ", ".join(f"{name} {number}" for name, number in package_versions().items() if number)
    methods = " ".join(f"--method {m}" for m in dict.fromkeys(row.method for row in rows))
    notes = [f"- {row.sequence}, {row.method}: {text}" for row in rows for text in _notes(row)]
    lines = [
        f"# Protocol {protocol.name}, version {protocol.version}, {today}",
        "",
        f"{protocol.description} {protocol.source}".strip(),
        "",
        f"Protocol hash {protocol.hash}; split {protocol.split}, start {protocol.start}, stride {protocol.stride}, "
        f"{'all' if protocol.frames is None else f'at most {protocol.frames}'} frames; headline alignment "
        f"{protocol.align}; headline depth of each {protocol.depth_align}; timestamps within "
        f"{protocol.tolerance_s} s. ReMov3r {code_version()}, configuration "
        f"{config}, {hardware()}; {versions}. Command: `remov3r benchmark {protocol.name} --data DIR {methods}`.",
        "",
        markdown_table(("sequence", "method", *(f.title for f in shown)), cells),
        *notes,
        *([""] if notes else []),
        LEGEND,
        "",
    ]
    return "\n".join(lines)


def json_page(protocol: Protocol, rows: Sequence[Row], today: str, config: str) -> str:
    """Return everything that was measured."""
    tree = {
        "protocol": {**protocol.model_dump(mode="json"), "hash": protocol.hash},
        "date": today,
        "code": code_version(),
        "config": config,
        "hardware": hardware(),
        "packages": package_versions(),
        "rows": [vars(row) for row in rows],
    }
    return json.dumps(tree, indent=2) + "\n"


def csv_page(rows: Sequence[Row]) -> str:
    """Return all columns with all digits."""
    table = []
    for row in rows:
        values = [figure.value(row) for figure in FIGURES]
        digits = ["" if value is None else f"{value:.9g}" for value in values]
        table.append([row.sequence, row.method, *digits, row.problem or ""])
    return csv_text(("sequence", "method", *(f.title for f in FIGURES), "problem"), table)


def hardware() -> str:
    """Return the processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def _cells(row: Row, figures: Sequence[Figure]) -> list[str]:
    return [cell(figure.value(row), figure.digits) for figure in figures]


def _asked(figure: Figure, protocol: Protocol) -> bool:
    """Whether the page's table shows a figure: depth after one fit for the sequence only where the protocol is so."""
    return protocol.depth_align == "sequence" or ".sequence." not in figure.path


def _groups(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The methods that were measured on several sequences and failed on none."""
    by_method = {row.method: [r for r in rows if r.method == row.method] for row in rows}
    return [(m, g) for m, g in by_method.items() if len(g) > 1 and all(r.problem is None for r in g)]


def _notes(row: Row) -> list[str]:
    """Problems, what looked wrong with the input, and ground truth that is not quite rotations."""
    notes = [] if row.problem is None else [row.problem]
    notes += row.metrics.get("trajectory", {}).get("all", {}).get("notes", [])
    quality = row.metrics.get("ground_truth")
    if quality is not None and quality["off_so3"] > 1e-5:
        notes.append(
            f"ground-truth rotations off SO(3) by up to {quality['off_so3']:.2g}, "
            f"determinant {quality['determinant']:.5f}"
        )
    return notes
