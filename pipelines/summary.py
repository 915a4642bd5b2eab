"""What a person wants to know when a run has ended: the figures, what went wrong, and where the files are."""

from __future__ import annotations

from collections.abc import Iterator

from remov3r.eval.metrics import Metrics
from remov3r.pipelines.keyframe_files import FOLDER
from remov3r.pipelines.output_folder import OutputFolder
from remov3r.pipelines.session_files import FOLDER as SESSION
from remov3r.types import Reconstruction, TrackingState


def summary_lines(result: Reconstruction, metrics: Metrics | None, folder: OutputFolder) -> Iterator[str]:
    """Yield the lines of a summary that names every file written."""
    states = result.trajectory.state
    ok, weak, lost = (states.count(state) for state in TrackingState)
    yield (
        f"{len(states)} frames ({ok} tracked, {weak} weak, {lost} lost), {len(result.keyframes)} keyframes, "
        f"{result.timings.frames_per_s:.1f} frames/s, {result.timings.peak_rss_mb:.0f} MB"
    )
    if metrics is not None:
        yield from _figures(metrics)
    for note in result.notes:
        yield f"note: {note}"
    if result.trajectory.covariances is None:
        yield "note: no covariances.npz: this backend does not compute them"
    yield f"written to {folder.path}:"
    inside = [path for path in folder.written if path.parent.name == FOLDER]
    for path in sorted(set(folder.written) - set(inside)):
        yield f"  {path.name:<24}{_size(path.stat().st_size):>10}"
    if inside:
        total = sum(path.stat().st_size for path in inside)
        yield f"  {FOLDER + '/':<24}{_size(total):>10}  ({len(inside)} files)"
    session = [path.stat().st_size for path in (folder.path / SESSION).rglob("*") if path.is_file()]
    if session:
        yield f"  {SESSION + '/':<24}{_size(sum(session)):>10}  (for relocalisation, or --resume)"
    report = folder.path / "report.html"
    if report in folder.written:
        yield f"open {report.resolve()}"


def _figures(metrics: Metrics) -> Iterator[str]:
    if metrics.trajectory is not None:
        m = metrics.trajectory.all
        yield (
            f"ATE SE(3) {_number(m.se3.ate_rmse_m)} m, Sim(3) {_number(m.sim3.ate_rmse_m)} m "
            f"at scale {_number(m.sim3.scale)}; "
            f"RTE {_number(m.rte_rmse_m)} m, RRE {_number(m.rre_rmse_deg)} deg per frame"
        )
        yield from (f"note: {text}" for text in m.notes)
    if metrics.depth is not None:
        shown = {"raw": metrics.depth.metric, "aligned": metrics.depth.aligned}
        parts = [f"{k} AbsRel {v.abs_rel:.3f}, delta<1.25 {v.delta_1_25:.3f}" for k, v in shown.items() if v]
        yield f"keyframe depth: {'; '.join(parts)}"
    if metrics.map is not None:
        m3 = metrics.map
        yield (
            f"mesh: accuracy {m3.accuracy_m * 100:.1f} cm, completeness {m3.completeness_m * 100:.1f} cm "
            f"(medians), F-score at 5 cm {m3.f_score_5cm:.3f}"
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MB" if size >= 2**20 else f"{size / 2**10:.1f} kB"
