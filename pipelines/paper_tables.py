"""The command `tables`: the paper's tables 2 and 3, published rows beside rows that this project measured."""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import model_validator

from remov3r.config import Config, build
from remov3r.errors import ConfigError, DataError
from remov3r.eval.protocols import Protocol
from remov3r.pipelines.benchmark_page import Figure, Row
from remov3r.pipelines.output_folder import OutputFolder
from remov3r.pipelines.tables import markdown_table
from remov3r.pipelines.terminal import say

Table = Literal["depth", "pose"]
Dataset = Literal["scannet", "7scenes"]

OWN = "this repository"
DATASETS: dict[Dataset, str] = {"scannet": "ScanNet", "7scenes": "7-Scenes"}
COLUMNS: dict[Table, dict[str, str]] = {
    "depth": {"abs_rel": "AbsRel", "delta_percent": "δ < 1.25 %"},
    "pose": {
        "ate_m": "ATE m, alignment not stated",
        "ate_se3_m": "ATE SE(3) m",
        "ate_sim3_m": "ATE Sim(3) m",
        "rte_m": "RTE m",
        "rre_deg": "RRE °, rotations not stated",
        "rre_projected_deg": "RRE °, projected",
        "rre_naive_deg": "RRE °, naive",
    },
}
# Of a measured run: where each figure lies in metrics.json. Depth has two lines, both metric, neither fitted.
_DEPTH = {
    name: (
        Figure("abs_rel", f"depth.{name}.abs_rel", 3),
        Figure("delta_percent", f"depth.{name}.delta_1_25", 2, 100),
    )
    for name in ("metric", "aligned")
}
_POSE = (
    Figure("ate_se3_m", "trajectory.all.se3.ate_rmse_m", 3),
    Figure("ate_sim3_m", "trajectory.all.sim3.ate_rmse_m", 3),
    Figure("rte_m", "trajectory.all.rte_rmse_m", 4),
    Figure("rre_projected_deg", "trajectory.all.rre_rmse_deg", 3),
    Figure("rre_naive_deg", "trajectory.all.rre_naive_rmse_deg", 3),
)
_LINES: dict[Table, dict[str, tuple[Figure, ...]]] = {
    "depth": {"as predicted": _DEPTH["metric"], "aligned to landmarks": _DEPTH["aligned"]},
    "pose": {"": _POSE},
}
_HEADINGS: dict[Table, str] = {"depth": "Table 2: depth", "pose": "Table 3: poses"}
INTRODUCTION = """# The paper's tables 2 and 3

Written by `remov3r tables`; do not edit. Published rows come from configs/published/, measured rows from the JSON
pages of `remov3r benchmark`. An empty cell was neither published nor measured. Rows under different protocols are not
like for like; the protocol stands in each row. What each figure means: docs/evaluation.md.
"""
ROTATIONS = """## RRE on 7-Scenes, both ways

The ground-truth rotations of 7-Scenes are not quite rotations (determinant 0.9995). *Naive*: the angle is the
arccosine of (trace - 1) / 2 with the matrices as stored, as common evaluation code has it; the missing part of the
trace then reads as an angle. *Projected*: the stored matrices are replaced by the nearest rotations first. The
difference is an artefact of the ground truth: a method with no error at all would still have it in the naive column.
The paper does not say which it used; its column is of the size of the artefact.
"""


class PublishedRow(Config):
    """A line of somebody's table; figures as printed; source and protocol default to the file's."""

    table: Table
    dataset: Dataset
    method: str
    figures: dict[str, str]
    source: str = ""
    protocol: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _known(self) -> PublishedRow:
        unknown = set(self.figures) - set(COLUMNS[self.table])
        if unknown:
            raise ValueError(f"{self.method}: no such figures: {', '.join(sorted(unknown))}")
        for key, text in self.figures.items():
            if not math.isfinite(float(text)):
                raise ValueError(f"{self.method}: {key} is {text}")
        return self


class Published(Config):
    """A file of published rows; notes are about all of them."""

    source: str
    protocol: str
    rows: tuple[PublishedRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A line of the tables, published or measured; figures as they are shown."""

    table: Table
    dataset: Dataset
    method: str
    figures: Mapping[str, str]
    protocol: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """One sequence of a benchmark's JSON page, with what it was measured by."""

    row: Row
    dataset: str
    protocol: str
    source: str


def tables_command(arguments: argparse.Namespace) -> int:
    """Write the page."""
    measured = [m for path in arguments.results for m in read_results(Path(path))]
    out = Path(arguments.out)
    put = OutputFolder(out.parent).put_text(out.name, tables_page(read_published(), measured))
    say(f"written {put}")
    return 0


def read_published() -> tuple[Published, ...]:
    """Read all files of configs/published, the paper's first.

    Raises:
        ConfigError: a file is not as it should be.
    """
    files = [
        f for f in (resources.files("remov3r.configs") / "published").iterdir() if f.name.endswith(".toml")
    ]
    files.sort(key=lambda file: (file.name != "paper.toml", file.name))
    out = []
    for file in files:
        try:
            out.append(build(Published, tomllib.loads(file.read_text()), f"published/{file.name}"))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"published/{file.name}: not valid TOML: {error}") from error
    return tuple(out)


def read_results(path: Path) -> list[Measured]:
    """Read the JSON page of a benchmark; sequences without figures are left out.

    Raises:
        DataError: it is not such a page.
    """
    try:
        tree: dict[str, Any] = json.loads(path.read_text())
        stored = {key: value for key, value in tree["protocol"].items() if key != "hash"}
        protocol = build(Protocol, stored, str(path))
        source = f"measured {tree['date']}, {tree['code']}, configuration {Path(tree['config']).stem}"
        rows = [Row(**row) for row in tree["rows"]]
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise DataError(f"{path}: not a JSON page of `remov3r benchmark`: {error}") from error
    name = f"{protocol.name} version {protocol.version}"
    return [
        Measured(row, _dataset(row.sequence, protocol), name, source) for row in rows if row.problem is None
    ]


def tables_page(published: Sequence[Published], measured: Sequence[Measured]) -> str:
    """Return the page as Markdown."""
    lines = [*_published_lines(published), *_measured_lines(measured)]
    parts = [INTRODUCTION]
    for table, heading in _HEADINGS.items():
        parts.append(f"## {heading}\n")
        for dataset, title in DATASETS.items():
            chosen = [line for line in lines if (line.table, line.dataset) == (table, dataset)]
            if not any(line.method.startswith(OWN) for line in chosen):
                chosen.append(Line(table, dataset, OWN, {}, "", "not measured yet"))
            parts += [f"### {title}\n", _table(chosen, COLUMNS[table]), *_notes(chosen)]
    parts += [ROTATIONS, _rotations([line for line in lines if line.dataset == "7scenes"])]
    parts += ["## Notes\n", "".join(f"- {note}\n" for file in published for note in file.notes)]
    return "\n".join(parts)


def _published_lines(published: Sequence[Published]) -> Iterable[Line]:
    for file in published:
        for row in file.rows:
            source, protocol = row.source or file.source, row.protocol or file.protocol
            yield Line(row.table, row.dataset, row.method, row.figures, protocol, source, row.note)


def _measured_lines(measured: Sequence[Measured]) -> Iterable[Line]:
    """One line for each data set, protocol and method: means over its sequences, of which the last result counts."""
    groups: dict[tuple[Dataset, str, str], dict[str, Measured]] = {}
    for m in measured:
        for dataset in DATASETS:
            if m.dataset == dataset:
                groups.setdefault((dataset, m.protocol, shown_method(m.row.method)), {})[m.row.sequence] = m
    for (dataset, protocol, method), by_sequence in groups.items():
        last = list(by_sequence.values())[-1]
        names = ", ".join(by_sequence) if len(by_sequence) < 3 else f"mean of {len(by_sequence)} sequences"
        for table, variants in _LINES.items():
            if table == "depth" and last.row.method.startswith("sensor×"):
                continue  # it would be judged by itself
            for variant, figures in variants.items():
                values = {f.title: _mean([f.value(m.row) for m in by_sequence.values()]) for f in figures}
                digits = {f.title: f.digits for f in figures}
                known = {key: f"{v:.{digits[key]}f}" for key, v in values.items() if v is not None}
                if known:
                    label = f"{method}, {variant}" if variant else method
                    yield Line(table, dataset, label, known, f"{protocol}: {names}", last.source)


def shown_method(name: str) -> str:
    """Name a benchmark's method for readers: whose output it is, and without the folder that held it."""
    front_end, _, backend = name.rpartition("×")
    kind, *rest = front_end.split(":")
    if kind != "recorded":
        return f"{OWN}, {name}"
    whose = rest[0] if len(rest) > 1 else Path(rest[0].replace("/{sequence}", "")).name if rest else ""
    return f"{whose}, recorded, ×{backend}"


def _dataset(sequence: str, protocol: Protocol) -> str:
    """The layout that a protocol gives to the sequence of this name; "" where it is none of its own."""
    for own in protocol.sequences:
        bare = sequence.removesuffix(f" ({own.note})")
        if own.path and fnmatch.fnmatch(bare, own.path):
            return own.dataset or protocol.dataset
    return ""


def _mean(values: Sequence[float | None]) -> float | None:
    """Nothing where one of the sequences lacks the figure."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _table(lines: Sequence[Line], columns: Mapping[str, str]) -> str:
    titles = ("method", *columns.values(), "protocol", "source")
    rows = [
        (line.method, *(line.figures.get(key, "") for key in columns), line.protocol, line.source)
        for line in lines
    ]
    return markdown_table(titles, rows)


def _notes(lines: Sequence[Line]) -> list[str]:
    notes = "".join(f"- {line.method}: {line.note}\n" for line in lines if line.note)
    return [notes] if notes else []


def _rotations(lines: Sequence[Line]) -> str:
    keys = ("rre_deg", "rre_projected_deg", "rre_naive_deg")
    rows = []
    for line in lines:
        values = [line.figures.get(key, "") for key in keys]
        if any(values):
            _, projected, naive = values
            artefact = f"{float(naive) - float(projected):.2f}" if projected and naive else ""
            rows.append((line.method, *values, artefact, line.protocol))
    titles = ("method", "RRE °, not stated how", "projected", "naive", "naive - projected", "protocol")
    return markdown_table(titles, rows)
