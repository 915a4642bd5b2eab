"""Time and interruptions of a run, the same on every rank."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from remov3r.training.distributed import Ranks


class Clock:
    """Rank 0's clock and anybody's signal to stop; what ranks decide by it, they decide alike.

    Attributes:
        elapsed_s: time spent on the training, over all its runs, at the last `beat`.
        stopped: whether some rank had been told to stop by then.
    """

    def __init__(self, ranks: Ranks, before_s: float = 0.0) -> None:
        self._ranks, self._before_s = ranks, before_s
        self._started = time.monotonic()
        self._last: dict[str, float] = {}
        self._told = False
        self.elapsed_s, self.stopped = before_s, False

    def now_s(self) -> float:
        """Return this process's time spent on the training, over all its runs."""
        return self._before_s + time.monotonic() - self._started

    def beat(self) -> None:
        """Agree on the time and on whether to stop; every rank must call it."""
        time_s = self.now_s() if self._ranks.first else 0.0
        self.elapsed_s, stopped = self._ranks.highest([time_s, float(self._told)])
        self.stopped = bool(stopped)

    def due(self, what: str, every_min: float) -> bool:
        """Say whether something that is done every so many minutes is due."""
        if self.elapsed_s - self._last.setdefault(what, self._before_s) < every_min * 60:
            return False
        self._last[what] = self.elapsed_s
        return True

    @contextmanager
    def stops_on_signal(self) -> Iterator[None]:
        """Take SIGTERM or Ctrl-C as the wish to stop after the step."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._told = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
