"""How long each named stage takes, how fast the whole is, and how much memory it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from remov3r.types import StageTiming, Timings

T = TypeVar("T")


class StageTimer:
    """A stopwatch with named stages.

    The end-to-end speed counts from the end of the first frame (which loads and warms up) to the call of
    `timings`, so reading the frames, waiting and the closing optimisation are all included.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}
        self._frames = 0
        self._first_frame_done_s: float | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body of a `with` statement as one call of a stage; a body that raises is not counted."""
        start = time.perf_counter()
        yield
        self._seconds.setdefault(name, []).append(time.perf_counter() - start)

    def each(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Pass items through, timing the wait for each as one call of a stage."""
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._seconds.setdefault(name, []).append(time.perf_counter() - start)
            yield item

    def frame_done(self) -> None:
        """Say that one more frame has been dealt with."""
        self._frames += 1
        if self._first_frame_done_s is None:
            self._first_frame_done_s = time.perf_counter()

    @property
    def frames_per_s(self) -> float:
        """Frames after the first, over the time since the first; 0 before the second frame."""
        if self._first_frame_done_s is None or self._frames < 2:
            return 0.0
        return (self._frames - 1) / (time.perf_counter() - self._first_frame_done_s)

    def timings(self) -> Timings:
        """Sum up; call it when everything is done."""
        stages = {
            name: StageTiming(
                float(np.median(seconds)) * 1e3, float(np.percentile(seconds, 99)) * 1e3, len(seconds)
            )
            for name, seconds in self._seconds.items()
        }
        return Timings(self.frames_per_s, stages, peak_rss_mb())


def peak_rss_mb() -> float:
    """Return the most memory this process has held so far, in MB (2²⁰ bytes); NaN where it cannot be told."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would also count what the process that started this one held
        lines = status.read_text().splitlines()
        held = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
        if held is not None:
            return int(held) / 2**10
    try:
        import resource  # Unix only
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
