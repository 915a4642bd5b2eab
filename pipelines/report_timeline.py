"""When what happened: tracking state, keyframes, and the notes that name a frame, along one axis of time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np

from remov3r.pipelines.report_plots import ticks
from remov3r.types import TrackingState, Trajectory

Kind = Literal["loop", "rejected", "lost"]
_FRAME = re.compile(r"\b(?:first at )?frames? (\d+)")
_KINDS: dict[Kind, re.Pattern[str]] = {
    "rejected": re.compile(r"reject|not used|left out|tore|not regained|contradict"),
    "lost": re.compile(r"\blost\b|\bbroke\b"),
    "loop": re.compile(r"\bloops?\b|regained|found again|joined|relocalised"),
}
_NAMES = {"loop": "loop or place found again", "rejected": "rejection", "lost": "tracking lost"}


@dataclass(frozen=True)
class Event:
    """A note about one frame; `at` is the time since the first frame in seconds."""

    kind: Kind
    at: float
    text: str


@dataclass(frozen=True)
class Stretch:
    """Frames in a row of one tracking state; times since the first frame in seconds."""

    state: TrackingState
    start: float
    end: float


def stretches(trajectory: Trajectory) -> list[Stretch]:
    """Return the tracking states in the order of time."""
    times = trajectory.timestamps_s - trajectory.timestamps_s[0]
    number = np.array([list(TrackingState).index(state) for state in trajectory.state])
    starts = np.flatnonzero(np.concatenate([[True], number[1:] != number[:-1]]))
    ends = np.append(starts[1:] - 1, len(times) - 1)
    return [Stretch(trajectory.state[a], float(times[a]), float(times[b])) for a, b in zip(starts, ends)]


def events(notes: Sequence[str], trajectory: Trajectory) -> list[Event]:
    """Find the notes that name a frame of the trajectory and tell of a loop, a rejection or a loss."""
    times = trajectory.timestamps_s - trajectory.timestamps_s[0]
    found = []
    for note in notes:
        frame = _FRAME.search(note)
        kind = next((kind for kind, words in _KINDS.items() if words.search(note)), None)
        if frame is None or kind is None:
            continue
        place = np.flatnonzero(trajectory.frame_index == int(frame[1]))
        if len(place):
            found.append(Event(kind, float(times[place[0]]), note))
    return found


def timeline_html(trajectory: Trajectory, notes: Sequence[str]) -> str:
    """Return the timeline: wide or narrow, its text keeps its size."""
    times = trajectory.timestamps_s - trajectory.timestamps_s[0]
    length = max(float(times[-1]), 1e-6)
    states = "".join(
        f'<rect class="{s.state.value}" x="{1000 * s.start / length:.1f}" y="0" '
        f'width="{max(1000 * (s.end - s.start) / length, 2):.1f}" height="10"/>'
        for s in stretches(trajectory)
    )
    keys = "".join(f"M{1000 * t / length:.1f} 0V10" for t in times[trajectory.is_keyframe])
    told = events(notes, trajectory)
    marks = "".join(
        f'<i class="{e.kind}" style="left:{100 * e.at / length:.2f}%" title="{escape(e.text, quote=True)}"></i>'
        for e in told
    )
    axis = "".join(f'<i style="left:{100 * t / length:.2f}%">{t:g}</i>' for t in ticks(0, length))
    rows = [
        ("tracking", _stripe(states)),
        ("keyframes", _stripe(f'<path class="tick" d="{keys}"/>')),
        *([("events", f"<div class='marks'>{marks}</div>")] if told else []),
        ("time [s]", f"<div class='times'>{axis}</div>"),
    ]
    present = {state: state.value for state in TrackingState if state in trajectory.state}
    legend = [f'<span><i class="box {css}"></i>tracking {css}</span>' for css in present.values()]
    kinds = [kind for kind in _NAMES if any(e.kind == kind for e in told)]
    legend += [f'<span><i class="mark {kind}"></i>{_NAMES[kind]}</span>' for kind in kinds]
    body = "".join(f"<span class='muted'>{name}</span>{row}" for name, row in rows)
    return f"<div class='timeline'>{body}</div><div class='legend'>{''.join(legend)}</div>"


def _stripe(inside: str) -> str:
    return f'<svg viewBox="0 0 1000 10" preserveAspectRatio="none" role="img">{inside}</svg>'
