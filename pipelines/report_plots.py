"""Plots as inline SVG; colours come from the page's style, so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float

WIDTH, HEIGHT = 480, 260
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 12, 40


@dataclass(frozen=True)
class Series:
    """One line: where it runs, its name in the legend, and its class in the style sheet."""

    label: str
    style: str
    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Band:
    """A stretch of the x axis that is shaded behind the lines."""

    label: str
    style: str
    start: float
    end: float


@dataclass(frozen=True)
class Area:
    """What lies between two lines, shaded behind the others; not drawn where either is not known."""

    label: str
    style: str
    x: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]


class Axes:
    """Maps data to the drawing and draws the axes."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], equal: bool = False) -> None:
        self.x, self.y = _widened(x), _widened(y)
        self.height = HEIGHT
        if equal:
            scale = (WIDTH - LEFT - RIGHT) / (self.x[1] - self.x[0])
            tall = (self.y[1] - self.y[0]) * scale + TOP + BOTTOM
            self.height = round(min(max(tall, 180), 460))
            self.x, self.y = _equal(self.x, self.y, (self.height - TOP - BOTTOM) / (WIDTH - LEFT - RIGHT))

    def px(self, x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return horizontal positions in the drawing."""
        return LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)

    def py(self, y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return vertical positions in the drawing, y upward."""
        return self.height - BOTTOM - (y - self.y[0]) / (self.y[1] - self.y[0]) * (self.height - TOP - BOTTOM)

    def frame(self, x_label: str, y_label: str) -> str:
        """Draw grid lines, tick labels and axis names."""
        parts = []
        for value in ticks(*self.x):
            at = float(self.px(np.array([value]))[0])
            parts.append(
                f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{self.height - BOTTOM}"/>'
                f'<text x="{at:.1f}" y="{self.height - BOTTOM + 15}" text-anchor="middle">{value:g}</text>'
            )
        for value in ticks(*self.y):
            at = float(self.py(np.array([value]))[0])
            parts.append(
                f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
                f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
            )
        across, down = (LEFT + WIDTH - RIGHT) / 2, (TOP + self.height - BOTTOM) / 2
        below, turned = (
            f'x="{across}" y="{self.height - 6}"',
            f'x="12" y="{down}" transform="rotate(-90 12 {down})"',
        )
        parts += [
            f'<text {place} text-anchor="middle">{escape(label)}</text>'
            for place, label in ((below, x_label), (turned, y_label))
        ]
        return "".join(parts)


def plot(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    bands: Sequence[Band] = (),
    dots: Series | None = None,
    equal: bool = False,
    from_zero: bool = False,
    areas: Sequence[Area] = (),
) -> str:
    """Draw lines with axes and a legend.

    Args:
        bands: drawn behind the lines.
        dots: points drawn on top.
        equal: one unit is as long in x as in y.
        from_zero: the y axis starts at 0.
        areas: drawn between the bands and the lines; the axes make room for them.
    """
    x = np.concatenate([*(s.x for s in series), *(a.x for a in areas)])
    y = np.concatenate([*(s.y for s in series), *(side for a in areas for side in (a.low, a.high))])
    low = 0.0 if from_zero else float(np.nanmin(y))
    axes = Axes((float(np.nanmin(x)), float(np.nanmax(x))), (low, float(np.nanmax(y))), equal)
    parts = [_band(axes, band) for band in bands]
    parts.append(axes.frame(x_label, y_label))
    parts += [_area(axes, area) for area in areas]
    parts += [_line(axes, one) for one in series]
    if dots is not None:
        parts += [
            f'<circle class="{dots.style}" cx="{px:.1f}" cy="{py:.1f}" r="2.6"/>'
            for px, py in zip(axes.px(dots.x), axes.py(dots.y))
        ]
    svg = f'<svg viewBox="0 0 {WIDTH} {axes.height}" role="img">{"".join(parts)}</svg>'
    return svg + _legend(series, (*areas, *bands))


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Draw horizontal bars from (name, value, text shown at its end)."""
    longest = max((value for _, value, _ in rows), default=1.0) or 1.0
    lines = [
        f"<span>{escape(name)}</span><span class='length'><i style='width:{100 * value / longest:.1f}%'></i></span>"
        f"<span class='muted'>{escape(text)}</span>"
        for name, value, text in rows
    ]
    return f"<div class='bars'>{''.join(lines)}</div>"


def ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers between two limits."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if (high - low) / (m * step) <= 5)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _band(axes: Axes, band: Band) -> str:
    a, b = axes.px(np.array([band.start, band.end]))
    tall = axes.height - TOP - BOTTOM
    return f'<rect class="{band.style}" x="{a:.1f}" y="{TOP}" width="{max(b - a, 1.5):.1f}" height="{tall}"/>'


def _line(axes: Axes, series: Series) -> str:
    keep = np.isfinite(series.x) & np.isfinite(series.y)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(axes.px(series.x[keep]), axes.py(series.y[keep])))
    return f'<polyline class="line {series.style}" points="{points}"/>'


def _area(axes: Axes, area: Area) -> str:
    """Draw each stretch of known values by itself."""
    known = np.isfinite(area.low) & np.isfinite(area.high)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(int), [0]])))
    parts = []
    for first, end in zip(edges[::2], edges[1::2]):
        x = axes.px(np.concatenate([area.x[first:end], area.x[first:end][::-1]]))
        y = axes.py(np.concatenate([area.high[first:end], area.low[first:end][::-1]]))
        points = " ".join(f"{u:.1f},{v:.1f}" for u, v in zip(x, y))
        parts.append(f'<polygon class="{area.style}" points="{points}"/>')
    return "".join(parts)


def _legend(series: Sequence[Series], bands: Sequence[Band | Area]) -> str:
    lines = {
        s.label: f'<i class="{s.style}" style="border-color:var(--{s.style})"></i>' for s in series if s.label
    }
    boxes = {b.label: f'<i class="box" style="background:var(--{b.style})"></i>' for b in bands}
    items = "".join(f"<span>{mark}{escape(label)}</span>" for label, mark in {**lines, **boxes}.items())
    return f'<div class="legend">{items}</div>'


def _widened(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    margin = 0.04 * (high - low) or max(abs(high), 1.0) * 0.05
    return (low if low == 0 else low - margin), high + margin


def _equal(
    x: tuple[float, float], y: tuple[float, float], aspect: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    wide = max(x[1] - x[0], (y[1] - y[0]) / aspect)
    middle_x, middle_y = sum(x) / 2, sum(y) / 2
    tall = wide * aspect
    return (middle_x - wide / 2, middle_x + wide / 2), (middle_y - tall / 2, middle_y + tall / 2)
