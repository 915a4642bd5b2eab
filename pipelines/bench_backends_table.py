"""The table of `remov3r bench backends`: rows, how each compares with the front end alone, and the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from remov3r.errors import DataError
from remov3r.pipelines.tables import cell, markdown_table

WORSE = 1.02  # a backend may not have more than this times the front end's error ...
BETTER = 0.7  # ... and where places are seen again not more than this times
LEAST_M = 0.001  # differences of errors below it are none
NEES_RANGE = (0.3 * 6, 3.0 * 6)
_COUNTS = ("loops_given", "lost")
_LOOP_SCORES = ("precision", "place_precision", "recall")
_FIGURES = ("se3_m", "own_m", "sim3_m", "scale", "rre_deg", "nees", "cpu_s", *_COUNTS, *_LOOP_SCORES)


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        loops: whether places seen again were looked for; None for the front end alone.
        looped: the sequence sees places again.
        biased: all lengths of the front end are off by one factor, which no backend can know.
        own_m: of a biased one, the SE(3) error once all lengths are divided by that factor.
        nees: mean over the frames; None without covariances.
        nees_known: the noise is what the front end says it is, so that the NEES must be about six.
        loops_given, precision, place_precision, recall: loops against the truth.
        problem: why there is no figure.
    """

    sequence: str
    front_end: str
    backend: str
    loops: bool | None
    looped: bool
    biased: bool
    version: str
    se3_m: float | None = None
    own_m: float | None = None
    sim3_m: float | None = None
    scale: float | None = None
    rre_deg: float | None = None
    nees: float | None = None
    nees_known: bool = False
    loops_given: int | None = None
    precision: float | None = None
    place_precision: float | None = None
    recall: float | None = None
    lost: int = 0
    cpu_s: float = 0.0
    problem: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def key(self) -> tuple[str, str, str, bool | None]:
        """What a row is about; there is one row for each."""
        return self.sequence, self.front_end, self.backend, self.loops

    @property
    def nees_wrong(self) -> bool:
        """Whether the covariances are not honest, where that can be told."""
        low, high = NEES_RANGE
        return self.nees_known and self.nees is not None and not low <= self.nees <= high


@dataclass(frozen=True)
class Verdict:
    """A backend against the front end alone.

    Attributes:
        se3, own, sim3: its error over the front end's; None where either is not known.
        worse: by more than 2 % in SE(3), or that in own lengths where the front end is biased, or in Sim(3).
        better: by 30 % or more; None where it need not be.
    """

    se3: float | None
    own: float | None
    sim3: float | None
    worse: bool
    better: bool | None


def verdict_of(row: Row, alone: Row | None) -> Verdict | None:
    """Compare a backend with the front end alone; None where there is nothing to compare.

    Where the front end's lengths are biased, SE(3) says for the most part how far they are off: whether a backend is
    worse is told with that factor taken out, and whether it is better by Sim(3). It must be better where places are
    seen again and looked for.
    """
    if alone is None or row.loops is None or row.problem or alone.problem:
        return None
    se3, own, sim3 = (row.se3_m, alone.se3_m), (row.own_m, alone.own_m), (row.sim3_m, alone.sim3_m)
    pairs = (own if row.biased and alone.own_m is not None else se3), sim3
    worse = any(a is None or (a > WORSE * b and a - b > LEAST_M) for a, b in pairs if b is not None)
    a, b = sim3 if row.biased else se3
    must = row.looped and row.loops
    better = a is not None and b is not None and a <= BETTER * b
    return Verdict(_ratio(*se3), _ratio(*own), _ratio(*sim3), worse, better if must else None)


def verdicts(rows: Sequence[Row]) -> list[Verdict | None]:
    """Compare each row with the front end alone on the same sequence."""
    alone = {(r.sequence, r.front_end): r for r in rows if r.loops is None}
    return [verdict_of(r, alone.get((r.sequence, r.front_end))) for r in rows]


def verdict_lines(rows: Sequence[Row]) -> list[str]:
    """Count what each backend owes, by name."""
    out = []
    judged = list(zip(rows, verdicts(rows)))
    for backend in dict.fromkeys(r.backend for r in rows if r.loops is not None):
        mine = [(r, v) for r, v in judged if r.backend == backend]
        known = [v for _, v in mine if v is not None]
        must = [v for v in known if v.better is not None]
        nees = [r for r, _ in mine if r.nees_known and r.nees is not None]
        out.append(
            f"{backend}: worse than the front end alone by more than 2 % in {sum(v.worse for v in known)} of "
            f"{len(known)} runs; better by 30 % or more in {sum(v.better is True for v in must)} of {len(must)} "
            f"looped runs; NEES outside [0.3, 3]·6 in {sum(r.nees_wrong for r in nees)} of {len(nees)}; "
            f"failed: {sum(r.problem is not None for r, _ in mine)}."
        )
        left_in = [
            f"{' '.join(_name(r)[:2])} × {v.se3:.2f}"
            for r, v in mine
            if v is not None and _worse_with_factor(r, v)
        ]
        if left_in:
            out.append(
                f"{backend}, biased front ends with their factor left in: SE(3) of {', '.join(left_in)}."
            )
    return out


def markdown_page(rows: Sequence[Row], words: Sequence[str] = ()) -> str:
    """Write the page: verdict, what fails, the table."""
    judged = list(zip(rows, verdicts(rows)))
    failing = [(r, v) for r, v in judged if _faults(r, v)]
    columns = (
        *("sequence", "front end", "backend", "loops", "SE(3) m", "Sim(3) m", "scale", "RRE °"),
        *(
            "SE(3) / alone",
            "own SE(3) / alone",
            "Sim(3) / alone",
            "NEES / 6",
            "loops given",
            "precision",
            "same place",
            "recall",
        ),
        *("frames lost", "CPU s", "verdict"),
    )
    lines = ["# Backends against the front end alone", "", *words, "", "## Verdict", ""]
    lines += [f"- {line}" for line in verdict_lines(rows)]
    lines += [f"- {line}" for line in _missing(rows)]
    lines += ["", "## What fails", ""]
    lines += [f"- {' '.join(_name(r))}: {', '.join(_faults(r, v))}" for r, v in failing] or ["Nothing."]
    lines += ["", "## Runs", ""]
    versions = ", ".join(dict.fromkeys(r.version for r in rows))
    return (
        "\n".join(lines) + "\n" + markdown_table(columns, [_cells(r, v) for r, v in judged])
        + f"\nMeasured with {versions}.\n"
    )  # fmt: skip


def json_text(rows: Sequence[Row]) -> str:
    """Write the rows so that `rows_from` reads them again."""
    return json.dumps({"rows": [asdict(row) for row in rows]}, indent=1) + "\n"


def rows_from(text: str, where: str) -> list[Row]:
    """Read what `json_text` wrote.

    Raises:
        DataError: it is not that.
    """
    names = {f.name for f in fields(Row)}
    try:
        read = json.loads(text)["rows"]
        out = []
        for row in read:
            known: dict[str, Any] = {k: tuple(v) if k == "notes" else v for k, v in row.items() if k in names}
            out.append(Row(**known))
        return out
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: holds no rows of this benchmark ({error}); remove the file") from error


def mean_row(rows: Sequence[Row]) -> Row:
    """Average the figures of runs about the same.

    An error that one run lacks is not known; a score of loops is the mean of the runs that found any.
    """
    means: dict[str, float | int | None] = {}
    for name in _FIGURES:
        values = [v for v in (getattr(row, name) for row in rows) if v is not None]
        known = len(values) == len(rows) or (name in _LOOP_SCORES and values)
        mean = float(np.mean(values)) if known else None
        means[name] = round(mean) if mean is not None and name in _COUNTS else mean
    notes = tuple(dict.fromkeys(note for row in rows for note in row.notes))
    return replace(rows[0], **means, notes=notes)  # type: ignore[arg-type]


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Put new rows in the place of old ones about the same; the others follow."""
    rows = {row.key: row for row in old}
    rows.update({row.key: row for row in new})
    return list(rows.values())


def _missing(rows: Sequence[Row]) -> list[str]:
    """Name what was run with one backend and not with another."""
    places = dict.fromkeys((r.sequence, r.front_end) for r in rows)
    there = {(r.sequence, r.front_end, r.backend) for r in rows}
    out = []
    for backend in dict.fromkeys(r.backend for r in rows if r.loops is not None):
        lacking = [" ".join(place) for place in places if (*place, backend) not in there]
        out += [f"{backend}, not measured: {', '.join(lacking)}."] if lacking else []
    return out


def _faults(row: Row, verdict: Verdict | None) -> list[str]:
    out = [] if row.problem is None else [f"failed: {row.problem}"]
    if verdict is not None and verdict.worse:
        first = (
            f"SE(3) in its own lengths × {cell(verdict.own, 2)}"
            if row.biased
            else f"SE(3) × {cell(verdict.se3, 2)}"
        )
        out.append(f"worse, {first}, Sim(3) × {cell(verdict.sim3, 2)}")
    if verdict is not None and verdict.better is False:
        out.append(f"not 30 % better, × {cell(verdict.sim3 if row.biased else verdict.se3, 2)}")
    if row.nees_wrong and row.nees is not None:
        out.append(f"NEES / 6 = {row.nees / 6:.2g}")
    return out


def _name(row: Row) -> tuple[str, str, str, str]:
    loops = {None: "–", True: "on", False: "off"}[row.loops]
    return row.sequence, row.front_end, row.backend, loops


def _cells(row: Row, verdict: Verdict | None) -> list[str]:
    figures = [cell(row.se3_m, 4), cell(row.sim3_m, 4), cell(row.scale, 3), cell(row.rre_deg, 3)]
    ratios = [
        cell(v, 2) for v in ([None] * 3 if verdict is None else (verdict.se3, verdict.own, verdict.sim3))
    ]
    nees = cell(None if row.nees is None else row.nees / 6, 2)
    given = "–" if row.loops_given is None else str(row.loops_given)
    found = [cell(v, 2) for v in (row.precision, row.place_precision, row.recall)]
    if row.problem is not None:
        word = "failed"
    elif row.loops is None:
        word = "front end"
    elif verdict is None:
        word = "NEES" if row.nees_wrong else "–"
    else:
        flags = {"worse": verdict.worse, "gain < 30 %": verdict.better is False, "NEES": row.nees_wrong}
        word = ", ".join(name for name, is_so in flags.items() if is_so) or "holds"
    return [*_name(row), *figures, *ratios, nees, given, *found, str(row.lost), f"{row.cpu_s:.0f}", word]


def _worse_with_factor(row: Row, verdict: Verdict) -> bool:
    return row.biased and verdict.se3 is not None and verdict.se3 > WORSE


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None or b == 0 else a / b
