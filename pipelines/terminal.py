"""What the command line shows: lines, a progress bar, and Ctrl-C turned into an orderly stop."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from remov3r.types import TrackedPose

SHOWN_EVERY_S = 0.1


def say(line: str = "") -> None:
    """Write one line to standard output."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class ProgressBar:
    """Frames done, frames/s, keyframes, tracking state; on standard error, silent where it is no terminal."""

    def __init__(self, total: int, description: str = "tracking") -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
        )
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._progress.add_task(description, total=total, figures="")
        self._frames = self._keyframes = 0
        self._started_s = self._shown_s = time.monotonic()

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def on_frame(self, tracked: TrackedPose) -> None:
        """Count a tracked frame."""
        now = time.monotonic()
        if self._frames == 0:
            self._started_s = now  # the first frame loads and warms up
        self._frames += 1
        self._keyframes += tracked.is_keyframe
        if now - self._shown_s < SHOWN_EVERY_S:
            return
        self._shown_s = now
        speed = (self._frames - 1) / max(now - self._started_s, 1e-9)
        figures = f"{speed:.1f} frames/s, {self._keyframes} keyframes, {tracked.state.value}"
        self._progress.update(self._task, completed=self._frames, figures=figures)

    def advance(self) -> None:
        """Count one more of something other than tracked frames."""
        self._progress.advance(self._task)

    def on_stage(self, name: str) -> None:
        """Show the name of a closing stage."""
        self._progress.update(self._task, description=name, completed=self._frames, figures="")


class OrderlyStop:
    """Whether Ctrl-C was pressed; `check` then raises at a moment when nothing is half done."""

    def __init__(self) -> None:
        self.asked = False

    def check(self) -> None:
        """Raise KeyboardInterrupt once after Ctrl-C."""
        if self.asked:
            self.asked = False
            raise KeyboardInterrupt


@contextmanager
def orderly_stop() -> Iterator[OrderlyStop]:
    """Turn the first Ctrl-C into a request; a second one interrupts at once."""
    stop = OrderlyStop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
