"""Plots as PNG files (matplotlib is imported here and nowhere else in this package)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from remov3r.errors import MissingDependencyError
from remov3r.eval.trajectory import FrameErrors

Points = Float[np.ndarray, "m 3"]
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a4fbf", "#8c6d31")
_STYLES = ("-", "--", ":", "-.")
_DPI = 130


def plot_trajectories(path: Path, errors: Mapping[str, FrameErrors], reference_m: Points) -> None:
    """Draw aligned trajectories over the reference from above and from the side.

    The axes are the principal directions of the reference's path, widest first: of a camera that is carried around,
    the first two span the ground.

    Args:
        errors: by name, whose positions are drawn.
        reference_m: all of the reference's camera centres.
    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = _figure(11.0, 5.8)
    centre = reference_m.mean(0)
    directions = np.linalg.eigh((reference_m - centre).T @ (reference_m - centre))[1].T[::-1]
    panels = (("top", 1, "second"), ("side", 2, "third"))
    for n, (view, second, name) in enumerate(panels, 1):
        axes = figure.add_subplot(1, 2, n)
        along = directions[[0, second]].T
        axes.plot(
            *((reference_m - centre) @ along).T, color="0.15", linewidth=2.2, alpha=0.55, label="reference"
        )
        for style, (label, error) in zip(_styles(len(errors)), errors.items()):
            axes.plot(*((error.position_m - centre) @ along).T, linewidth=1.2, label=label, **style)
        axes.set(xlabel="widest direction, m", ylabel=f"{name} direction, m", title=f"{view} view")
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid(alpha=0.25)
    _finish(path, figure, len(errors) + 1)


def plot_errors(path: Path, errors: Mapping[str, FrameErrors], align: str) -> None:
    """Draw position and rotation errors over time, and the RTE of each step.

    Args:
        align: named in the title.
    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = _figure(11.0, 8.0)
    start = min(error.timestamps_s[0] for error in errors.values())
    rows = (
        ("ate_m", "position error, m"),
        ("rotation_deg", "rotation error, deg"),
        ("rte_m", "step error, m"),
    )
    first = None
    for n, (field, label) in enumerate(rows, 1):
        axes = figure.add_subplot(3, 1, n, sharex=first)
        first = first or axes
        for style, (name, error) in zip(_styles(len(errors)), errors.items()):
            axes.plot(error.timestamps_s - start, getattr(error, field), linewidth=1.1, label=name, **style)
        axes.set(ylabel=label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
    figure.axes[0].set_title(
        {"se3": "after SE(3) alignment", "sim3": "after Sim(3) alignment"}[align], fontsize=11
    )
    figure.axes[-1].set_xlabel("time, s")
    _finish(path, figure, len(errors))


def plot_series(path: Path, x: Sequence[float], series: Mapping[str, Sequence[float]], x_label: str) -> None:
    """Draw several quantities over the same axis, one above the other, each from 0.

    Args:
        series: by its label, which names the unit.
    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = _figure(8.0, 2.5 * len(series))
    for n, (label, values) in enumerate(series.items(), 1):
        axes = figure.add_subplot(len(series), 1, n)
        axes.plot(x, values, marker="o", markersize=3, color=_COLORS[0])
        axes.axhline(0, linewidth=0)  # takes 0 into the range, of which the margins are a share
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
    figure.axes[-1].set_xlabel(x_label)
    figure.savefig(path, format="png")


def _styles(count: int) -> list[dict[str, str]]:
    """Colours, then other dashes of the same colours."""
    n = len(_COLORS)
    return [{"color": _COLORS[i % n], "linestyle": _STYLES[i // n % len(_STYLES)]} for i in range(count)]


def _figure(width_inches: float, height_inches: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("plots need matplotlib: pip install 'remov3r[eval]'") from error
    figure = Figure(figsize=(width_inches, height_inches), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _finish(path: Path, figure: Any, entries: int) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(entries, 4), frameon=False, fontsize=9
    )
    figure.savefig(path, format="png")
