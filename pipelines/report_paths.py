"""The report's paths: the scene that can be turned, plots of position, error and covariance, the timeline."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from remov3r import geometry
from remov3r.pipelines.comparison import TOLERANCE_S, Comparison
from remov3r.pipelines.report_plots import Area, Band, Series, plot
from remov3r.pipelines.report_timeline import stretches, timeline_html
from remov3r.pipelines.report_viewer import viewer_html
from remov3r.types import Reconstruction, TrackingState, Trajectory

Card = tuple[str, str]


def paths_html(result: Reconstruction, compared: Comparison | None, reference: Trajectory | None) -> str:
    """Return the viewer, the plots and the timeline.

    Args:
        compared: to the reference, where there is one.
    """
    final = result.trajectory
    paths = {"estimate": final.T_world_cam[:, :3, 3]}
    cards = [_from_above(final, compared)]
    cards.append(_error_card(final, compared) if compared is not None else _position_card(final))
    if final.covariances is not None and reference is not None:
        cards += _covariance_card(final, reference)
    if compared is not None:
        paths["reference"] = compared.reference_m
    what = "Mesh" if result.mesh is not None else "Point cloud" if result.cloud is not None else "Camera"
    truth = " and the ground truth (orange, dashed)" if compared is not None else ""
    figures = "".join(f"<figure class='card'><h3>{title}</h3>{body}</figure>" for title, body in cards)
    return (
        f"<h2>Scene and trajectory</h2><figure class='card'>{viewer_html(result.mesh, result.cloud, paths)}"
        f"<figcaption>{what} with the camera's path (blue){truth}. Drag to turn, scroll or pinch to zoom, two fingers "
        "or shift to move, double click to start over.</figcaption></figure>"
        f"<div class='grid paths'>{figures}</div>"
        f"<h2>Timeline</h2><div class='card'>{timeline_html(final, result.notes)}</div>"
    )


def _from_above(final: Trajectory, compared: Comparison | None) -> Card:
    centres, keys = final.T_world_cam[:, :3, 3], final.keyframes().T_world_cam[:, :3, 3]
    lines = [Series("estimate", "estimate", centres[:, 0], centres[:, 2])]
    if compared is not None:
        truth = compared.reference_m
        lines.insert(0, Series("ground truth", "reference", truth[:, 0], truth[:, 2]))
    dots = Series("keyframes", "dot", keys[:, 0], keys[:, 2])
    title = "From above: x right, z ahead of the first camera (dots: keyframes)"
    return title, plot(lines, "x [m]", "z [m]", dots=dots, equal=True)


def _error_card(final: Trajectory, compared: Comparison) -> Card:
    start = final.timestamps_s[0]
    times = compared.times_s - start
    lines = [
        Series("as first given out", "online", times, compared.online_error_m * 100),
        Series("final", "estimate", times, compared.error_m * 100),
    ]
    return "Position error after rigid alignment", plot(
        lines, "time [s]", "error [cm]", _state_bands(final), from_zero=True
    )


def _position_card(final: Trajectory) -> Card:
    times, centres = final.timestamps_s - final.timestamps_s[0], final.T_world_cam[:, :3, 3]
    styles = ("estimate", "online", "reference")
    lines = [Series(f"{'xyz'[k]}", styles[k], times, centres[:, k]) for k in range(3)]
    areas, title = [], "Position over time"
    if final.covariances is not None:
        R = final.T_world_cam[:, :3, :3]
        spread = 2 * np.sqrt(np.einsum("nij,njk,nik->ni", R, final.covariances[:, 3:, 3:], R))
        low, high = centres - spread, centres + spread
        areas = [Area("two standard deviations", "spread", times, low[:, k], high[:, k]) for k in range(3)]
        title = "Position over time, with its covariance"
    return title, plot(lines, "time [s]", "position [m]", _state_bands(final), areas=areas)


def _covariance_card(final: Trajectory, reference: Trajectory) -> list[Card]:
    """The covariances count from the first frame, so there the estimate is laid onto the reference."""
    assert final.covariances is not None
    near = np.abs(reference.timestamps_s[:, None] - final.timestamps_s[None]).argmin(0)
    close = np.abs(reference.timestamps_s[near] - final.timestamps_s) <= TOLERANCE_S
    if not close.any():
        return []
    first = int(np.flatnonzero(close)[0])
    times = final.timestamps_s - final.timestamps_s[0]
    error = np.where(close, _error_from(final.T_world_cam, reference.T_world_cam[near], first), np.nan) * 100
    deviation = np.sqrt(np.trace(final.covariances[:, 3:, 3:], axis1=1, axis2=2)) * 100
    band = Area("two standard deviations", "spread", times, 0 * deviation, 2 * deviation)
    line = Series("error of the position", "estimate", times, error)
    svg = plot([line], "time [s]", "[cm]", from_zero=True, areas=[band])
    return [("Position counted from the first frame: its error, and what the covariances announce", svg)]


def _error_from(
    T_world_cam: Float[np.ndarray, "n 4 4"], T_true_cam: Float[np.ndarray, "n 4 4"], first: int
) -> Float[np.ndarray, " n"]:
    """Distances between positions, both counted from one frame."""
    estimated, true = (geometry.inverse(T[first]) @ T for T in (T_world_cam, T_true_cam))
    return np.linalg.norm(estimated[:, :3, 3] - true[:, :3, 3], axis=1)


def _state_bands(final: Trajectory) -> list[Band]:
    return [
        Band(f"tracking {s.state.value}", s.state.value, s.start, s.end)
        for s in stretches(final)
        if s.state is not TrackingState.OK
    ]
