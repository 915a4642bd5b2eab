"""One page that shows a run: paths, errors, depth, mesh, speed, settings. It needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

import cv2
import numpy as np

from remov3r.backends.mesh_render import overview_camera, render_mesh
from remov3r.eval.metrics import Metrics
from remov3r.eval.trajectory import TrajectoryMetrics
from remov3r.pipelines.comparison import Comparison, compare
from remov3r.pipelines.report_images import colored, embedded, limits, ramp_css
from remov3r.pipelines.report_plots import Band, Series, bars, plot
from remov3r.pipelines.report_viewer import viewer_html
from remov3r.types import Keyframe, Mesh, Reconstruction, Timings, TrackingState, Trajectory

DEPTH_COLORS, SIGMA_COLORS = cv2.COLORMAP_TURBO, cv2.COLORMAP_VIRIDIS
SHOWN_KEYFRAMES = 10


@dataclass(frozen=True)
class ReportInput:
    """What a report is made of.

    Attributes:
        title: what was reconstructed.
        subtitle: code version and the like.
        config_text: the resolved configuration as TOML.
        reference: ground truth, if there is any.
    """

    result: Reconstruction
    title: str
    subtitle: str
    config_text: str
    metrics: Metrics | None = None
    reference: Trajectory | None = None


def report_html(data: ReportInput) -> str:
    """Return the whole page."""
    result = data.result
    compared = (
        compare(result.trajectory, result.online, data.reference) if data.reference is not None else None
    )
    body = [
        f"<h1>{escape(data.title)}</h1><p class='muted'>{escape(data.subtitle)}</p>",
        _tiles(result, data.metrics),
        _notes(result.notes),
        _trajectory(result, compared),
        _figures(data.metrics),
        _keyframes(result.keyframes),
        _mesh(result.mesh, result.keyframes),
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
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<h2>Notes</h2><div class='card'><ul class='notes'>{items}</ul></div>"


def _trajectory(result: Reconstruction, compared: Comparison | None) -> str:
    final = result.trajectory
    centres, keys = final.T_world_cam[:, :3, 3], final.keyframes().T_world_cam[:, :3, 3]
    paths = {"estimate": centres}
    top = [Series("estimate", "estimate", centres[:, 0], centres[:, 2])]
    if compared is not None:
        paths["reference"] = compared.reference_m
        truth = compared.reference_m
        top.insert(0, Series("ground truth", "reference", truth[:, 0], truth[:, 2]))
    dots = Series("keyframes", "dot", keys[:, 0], keys[:, 2])
    cloud = result.cloud
    nothing = np.zeros((0, 3))
    points, colors = (nothing, nothing) if cloud is None else (cloud.points_m, cloud.colors)
    cards = [
        ("From above: x right, z ahead of the first camera (dots: keyframes)",
         plot(top, "x [m]", "z [m]", dots=dots, equal=True)),
        _error_card(final, compared) if compared is not None else _position_card(final),
    ]  # fmt: skip
    figures = "".join(f"<figure class='card'><h3>{title}</h3>{svg}</figure>" for title, svg in cards)
    return (
        f"<h2>Trajectory</h2><figure class='card'>{viewer_html(points, colors, paths)}"
        "<figcaption>Point cloud with the camera's path (blue) and, where it is known, the ground truth "
        "(orange, dashed). Drag to turn, scroll or pinch to zoom.</figcaption></figure>"
        f"<div class='grid' style='margin-top:14px'>{figures}</div>"
    )


def _error_card(final: Trajectory, compared: Comparison) -> tuple[str, str]:
    start = final.timestamps_s[0]
    times = compared.times_s - start
    lines = [
        Series("as first given out", "online", times, compared.online_error_m * 100),
        Series("final", "estimate", times, compared.error_m * 100),
    ]
    return "Position error after rigid alignment", plot(
        lines, "time [s]", "error [cm]", _state_bands(final), from_zero=True
    )


def _position_card(final: Trajectory) -> tuple[str, str]:
    times, centres = final.timestamps_s - final.timestamps_s[0], final.T_world_cam[:, :3, 3]
    styles = ("estimate", "online", "reference")
    lines = [Series(f"{'xyz'[k]}", styles[k], times, centres[:, k]) for k in range(3)]
    return "Position over time", plot(lines, "time [s]", "position [m]", _state_bands(final))


def _state_bands(final: Trajectory) -> list[Band]:
    times, out = final.timestamps_s - final.timestamps_s[0], []
    for state in (TrackingState.WEAK, TrackingState.LOST):
        here = np.array([s is state for s in final.state], int)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], here, [0]])))
        for first, end in zip(edges[::2], edges[1::2]):
            out.append(
                Band(f"tracking {state.value}", state.value, float(times[first]), float(times[end - 1]))
            )
    return out


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


def _keyframes(keyframes: Sequence[Keyframe]) -> str:
    even = np.linspace(0, len(keyframes) - 1, SHOWN_KEYFRAMES).round().astype(int)
    chosen = [keyframes[i] for i in np.unique(even)]
    near, far = limits([k.aligned.depth_m for k in chosen])
    sure, unsure = limits([k.aligned.sigma_m for k in chosen])
    figures = []
    for k in chosen:
        depth = colored(k.aligned.depth_m, near, far, DEPTH_COLORS)
        sigma = colored(k.aligned.sigma_m, sure, unsure, SIGMA_COLORS)
        named = {"image": k.rgb, "depth": depth, "sigma": sigma}
        pictures = "".join(f"<img alt='{name}' src='{embedded(rgb)}'>" for name, rgb in named.items())
        caption = f"frame {k.frame_index}, {k.timestamp_s:.2f} s"
        figures.append(f"<figure>{pictures}<figcaption>{caption}</figcaption></figure>")
    legend = _ramp("depth", near, far, DEPTH_COLORS) + _ramp("its deviation", sure, unsure, SIGMA_COLORS)
    return (
        f"<h2>Keyframes</h2><div class='card'><p class='muted'>{len(chosen)} of {len(keyframes)}: image, "
        "depth as it is fused, and its standard deviation by the confidence (grey: no depth).</p>"
        f"<div class='legend'>{legend}</div><div class='strip'>{''.join(figures)}</div></div>"
    )


def _ramp(name: str, low: float, high: float, color_map: int) -> str:
    bar = f"<span class='ramp' style='background:{ramp_css(color_map)}'></span>"
    return f"<span>{name} {low:.2f} m{bar}{high:.2f} m</span>"


def _mesh(mesh: Mesh | None, keyframes: Sequence[Keyframe]) -> str:
    if mesh is None:
        return ""
    overview, _ = render_mesh(mesh, *overview_camera(mesh), shading=0.5, cull_back_faces=True, oversample=2)
    middle = keyframes[len(keyframes) // 2]
    camera = middle.dense.camera.resized(480, round(480 * middle.rgb.shape[0] / middle.rgb.shape[1]))
    inside, _ = render_mesh(mesh, camera, middle.T_world_cam, oversample=2)
    pictures = (
        (overview, "The whole mesh, from above and behind the first camera"),
        (inside, f"The mesh from where frame {middle.frame_index} was taken"),
        (middle.rgb, f"Frame {middle.frame_index} itself"),
    )
    wide, *rest = (
        f"<figure class='card'><img alt='' src='{embedded(rgb, 960)}'>"
        f"<figcaption>{text}</figcaption></figure>"
        for rgb, text in pictures
    )
    beside = f"<div class='grid' style='margin-top:14px'>{''.join(rest)}</div>"
    return f"<h2>Mesh</h2><div class='overview'>{wide}</div>{beside}"


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
