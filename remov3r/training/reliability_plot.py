"""Reliability plot: how many errors lie within the intervals that σ promises (the one user of matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from remov3r.errors import MissingDependencyError
from remov3r.training.calibration import LEVELS, Calibration

_INCHES, _DPI = 5.0, 100


def reliability_figure(
    calibration: Calibration, by_set: Mapping[str, Calibration] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw empirical against nominal coverage as an RGB image; the diagonal is a perfect σ.

    Above the diagonal σ is too large, below it too small.

    Args:
        calibration: of all pixels.
        by_set: thinner lines beside it.
    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure, canvas = _canvas()
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    for name, one in (by_set or {}).items():
        axes.plot(LEVELS, one.coverage, linewidth=1, label=f"{name}: {one.error:.3f}")
    axes.plot(
        LEVELS,
        calibration.coverage,
        color="black",
        marker="o",
        markersize=3,
        label=f"all: {calibration.error:.3f}",
    )
    axes.set(
        xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="nominal coverage", ylabel="share of the errors"
    )
    axes.set_title(f"σ = {calibration.sigma_factor:.3f} · unit / confidence", fontsize=10)
    axes.legend(title="calibration error", fontsize=8, title_fontsize=8, loc="upper left")
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def write_reliability_plot(
    path: Path, calibration: Calibration, by_set: Mapping[str, Calibration] | None = None
) -> None:
    """Write `reliability_figure` as a PNG; its folder is made.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = reliability_figure(calibration, by_set)
    path.write_bytes(cv2.imencode(".png", rgb[..., ::-1])[1].tobytes())


def _canvas() -> tuple[Any, Any]:
    """A figure with a canvas of its own: no window, no global state of pyplot."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "a reliability plot needs matplotlib: pip install 'remov3r[train]'"
        ) from error
    figure = Figure(figsize=(_INCHES, _INCHES), dpi=_DPI, layout="constrained")
    return figure, FigureCanvasAgg(figure)
