"""One page that shows a run: paths, errors, depth, mesh, speed, settings. It needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

import numpy as np

from remov3r.data.stream import StreamedSource
from remov3r.eval.metrics import Metrics
from remov3r.eval.trajectory import TrajectoryMetrics
from remov3r.pipelines.comparison import compare
from remov3r.pipelines.report_keyframes import keyframes_html, mesh_html, reliability_html
from remov3r.pipelines.report_paths import paths_html
from remov3r.pipelines.report_plots import bars
from remov3r.types import Reconstruction, Timings, TrackingState, Trajectory

SHOWN_NOTES = 4


@dataclass(frozen=True)
class ReportInput:
    """What a report is made of.

    Attributes:
        title: what was reconstructed.
        subtitle: code version and the like.
        config_text: the resolved configuration as TOML.
        reference: ground truth, if there is any.
        depth: the same input with true depth, if there is any.
    """

    result: Reconstruction
    title: str
    subtitle: str
    config_text: str
    metrics: Metrics | None = None
    reference: Trajectory | None = None
    depth: StreamedSource | None = None


def report_html(data: ReportInput) -> str:
    """Return the whole page.

    Raises:
        DataError: the reference has no timestamps in common with the run, or the true depth cannot be read.
        MissingDependencyError: there is a reference, and evo is not installed.
    """
    result = data.result
    compared = (
        compare(result.trajectory, result.online, data.reference) if data.reference is not None else None
    )
    body = [
        f"<h1>{escape(data.title)}</h1><p class='muted'>{escape(data.subtitle)}</p>",
        _tiles(result, data.metrics),
        _notes(result.notes),
        paths_html(result, compared, data.reference),
        _figures(data.metrics),
        keyframes_html(result.keyframes),
        reliability_html(result.keyframes, data.depth),
        mesh_html(result.mesh, result.keyframes),
        _timing(result.timings),
        f"<h2>Configuration</h2><details class='card'><summary>resolved configuration (config.toml)</summary>"
        f"<pre>{escape(data.config_text)}</pre></details>",
    ]
    css = resources.files("remov3r.pipelines").joinpath("report.css").read_text()
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{escape(data.title)}</title><style>{css}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _tiles(result: Reconstruction, metrics: Metrics | None) -> str:
    states = result.trajectory.state
    lost = states.count(TrackingState.LOST)
    tiles = [
        (f"{len(states)}", "frames with a pose" + (f", {lost} of them lost" if lost else "")),
        (f"{len(result.keyframes)}", "keyframes"),
        (f"{result.timings.frames_per_s:.1f}", "frames/s, end to end"),
    ]
    if metrics is not None and metrics.trajectory is not None:
        every = metrics.trajectory.all
        tiles += [
            (_number(every.se3.ate_rmse_m, "m"), "ATE, SE(3): metric"),
            (_number(every.sim3.ate_rmse_m, "m"), "ATE, Sim(3): shape"),
            (_number(every.sim3.scale), "scale onto the truth"),
        ]
    if result.mesh is not None:
        tiles.append((f"{len(result.mesh.triangles) / 1000:.0f}k", "triangles in the mesh"))
    return "<div class='tiles'>" + "".join(
        f"<div class='tile'><b>{value}</b><span>{label}</span></div>" for value, label in tiles
    ) + "</div>"  # fmt: skip


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    first, rest = (_list(part) for part in (notes[:SHOWN_NOTES], notes[SHOWN_NOTES:]))
    more = len(notes) - SHOWN_NOTES
    hidden = f"<details><summary>{more} more</summary>{rest}</details>" if more > 0 else ""
    return f"<h2>Notes</h2><div class='card'>{first}{hidden}</div>"


def _list(notes: Sequence[str]) -> str:
    return f"<ul class='notes'>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>"


def _figures(metrics: Metrics | None) -> str:
    if metrics is None:
        return "<h2>Figures</h2><p class='muted'>No ground truth was given, so nothing is scored.</p>"
    parts = []
    if metrics.trajectory is not None:
        rows = [
            _row("all frames (final)", metrics.trajectory.all),
            _row("keyframes (final)", metrics.trajectory.keyframes),
            _row("all frames (online)", metrics.trajectory.online),
        ]
        parts.append(
            _table("<th>trajectory<th>ATE SE(3)<th>ATE Sim(3)<th>scale<th>RTE<th>RRE<th>poses", rows)
        )
    if metrics.depth is not None:
        shown = {
            "raw metric": metrics.depth.metric,
            "aligned to landmarks": metrics.depth.aligned,
            "median-scaled to the truth": metrics.depth.median,
            "scale and shift to the truth": metrics.depth.scale_shift,
        }
        rows = [f"<td>{k}<td>{_number(v.abs_rel)}<td>{_number(v.delta_1_25)}" for k, v in shown.items() if v]
        head = f"<th>depth of {metrics.depth.frames} keyframes<th>AbsRel<th>δ &lt; 1.25"
        parts.append(_table(head, rows))
    if metrics.map is not None:
        m = metrics.map
        values = (m.accuracy_m, m.completeness_m, m.chamfer_m)
        row = "<td>mesh" + "".join(f"<td>{_number(v, 'm')}" for v in values) + f"<td>{_number(m.f_score_5cm)}"
        head = "<th>map (medians)<th>accuracy<th>completeness<th>chamfer<th>F-score 5 cm"
        parts.append(_table(head, [row]))
    return "<h2>Figures</h2>" + "".join(parts)


def _table(head: str, rows: Sequence[str]) -> str:
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<div class='card scroll' style='margin-bottom:12px'><table><tr>{head}</tr>{body}</table></div>"


def _row(name: str, m: TrajectoryMetrics) -> str:
    cells = (
        _number(m.se3.ate_rmse_m, "m"),
        _number(m.sim3.ate_rmse_m, "m"),
        _number(m.sim3.scale),
        _number(m.rte_rmse_m, "m", 4),
        _number(m.rre_rmse_deg, "°"),
        f"{m.poses} of {m.frames}",
    )
    return f"<td>{name}" + "".join(f"<td>{cell}" for cell in cells)


def _number(value: float | None, unit: str = "", digits: int = 3) -> str:
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:.{digits}f}{unit if unit == '°' else ' ' + unit if unit else ''}"


def _timing(timings: Timings) -> str:
    ordered = sorted(timings.stages.items(), key=lambda item: -item[1].median_ms * item[1].calls)
    rows = [
        (name.replace("_", " "), s.median_ms * s.calls / 1e3,
         f"{s.median_ms * s.calls / 1e3:.1f} s: {s.calls} × {s.median_ms:.1f} ms (p99 {s.p99_ms:.0f})")
        for name, s in ordered
    ]  # fmt: skip
    return (
        f"<h2>Speed</h2><figure class='card'>{bars(rows)}<figcaption>Seconds in each stage (calls × median); "
        f"{timings.frames_per_s:.1f} frames/s end to end after the first frame, with reading and closing "
        f"stages; at most {timings.peak_rss_mb:.0f} MB of memory.</figcaption></figure>"
    )
