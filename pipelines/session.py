"""Snapshots of a run while it goes on, and going on from one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from remov3r.data.stream import StreamedSource
from remov3r.errors import ConfigError, DataError
from remov3r.pipelines.config import PipelineConfig
from remov3r.pipelines.session_files import Manifest, SessionFolder, SourceMark, mark_of
from remov3r.protocols import FrameSource
from remov3r.types import Frame

logger = logging.getLogger(__name__)

PAUSES = 50  # a snapshot that took a second is followed by none for so many


@runtime_checkable
class Resumable(Protocol):
    """What a session keeps: a run that knows its own state."""

    def __len__(self) -> int:
        """Return the number of frames done."""
        ...

    def state(self) -> dict[str, Any]:
        """Return everything that the frames to come depend on; the map alone once it is finished."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        ...


class SessionKeeper:
    """Keeps the session of one run over one source.

    Attributes:
        notes: what the user should know: that the run was resumed, or that nothing could be saved.
    """

    def __init__(self, path: Path, source: FrameSource, config: PipelineConfig, resume: bool) -> None:
        """Look at what is there, or remove it where the run is to start anew.

        Args:
            resume: go on from the snapshot that is there; without any the run starts at the first frame.
        Raises:
            DataError: the snapshot is of another input, configuration or version, or of a finished run.
        """
        self._folder = SessionFolder(path)
        self._source, self._config = source, comparable(config)
        self._every_s = config.session.every_s
        self._mark = mark_of(source)
        self._found = self._folder.manifest() if resume else None
        if self._found is None:
            self._folder.clear()
        else:
            check_same(self._found, self._mark, self._config, path)
        self._due_s = time.monotonic() + self._every_s
        self._run: Resumable | None = None
        self._trouble = ""
        self._started = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """Say where the run was taken up and why there is no later snapshot."""
        return tuple(note for note in (self._started, self._trouble) if note)

    def begin(self, run: Resumable) -> Iterable[Frame]:
        """Bring a new run to where the snapshot was taken; return the frames that are left.

        Raises:
            DataError: the snapshot cannot be read.
        """
        self._run = run
        if self._found is None:
            return self._source
        run.restore(self._folder.read(self._found))
        done = self._found.frames_done
        self._started = f"resumed after {done} of {len(self._source)} frames; timings are of the rest"
        return frames_after(self._source, done)

    @property
    def due(self) -> bool:
        """Whether it is time for a snapshot."""
        return self._every_s > 0 and time.monotonic() >= self._due_s

    def snapshot(self) -> None:
        """Save the state of the run between two frames; where that fails the run goes on without."""
        assert self._run is not None
        start_s = time.monotonic()
        frames = len(self._run)
        try:
            self._folder.commit(self._manifest(frames, finished=False), self._run.state())
        except DataError as error:
            if not self._trouble:
                self._trouble = f"no snapshot after {frames} frames could be saved: {error}"
                logger.warning(self._trouble)
        end_s = time.monotonic()
        self._due_s = end_s + max(self._every_s, PAUSES * (end_s - start_s))

    def close(self) -> None:
        """Leave the finished map in place of the snapshot, for relocalisation."""
        assert self._run is not None
        try:
            self._folder.commit(self._manifest(len(self._run), finished=True), self._run.state())
        except DataError as error:
            logger.warning("the session could not be saved: %s", error)

    def _manifest(self, frames: int, finished: bool) -> Manifest:
        return Manifest(source=self._mark, config=self._config, frames_done=frames, finished=finished)


def comparable(config: PipelineConfig) -> dict[str, Any]:
    """Return a configuration as a tree, without how often snapshots are taken."""
    return {key: value for key, value in config.model_dump(mode="json").items() if key != "session"}


def check_same(found: Manifest, mark: SourceMark, config: dict[str, Any], path: Path) -> None:
    """Make sure that a run may go on from a snapshot.

    Raises:
        DataError: the run is finished, or its input or configuration is another one.
    """
    again = "leave out --resume to start anew"
    if found.finished:
        raise DataError(f"{path}: that run is finished; {again}")
    if found.source is None:
        raise DataError(f"{path}: was saved from Python, without a source; use Slam.load")
    differences = [
        f"{name} {before!r}, now {now!r}"
        for (name, before), (_, now) in zip(found.source, mark)
        if before != now and name != "start"
    ]
    if found.source.start != mark.start:
        differences.append("other first frames")
    if differences:
        raise DataError(f"{path}: of another input ({differences[0]}); {again}")
    changed = list(changed_keys(found.config, config))
    if changed:
        raise DataError(f"{path}: of another configuration ({changed[0]}); {again}")


def changed_keys(before: Any, now: Any, key: str = "") -> Iterator[str]:
    """Name each value of a tree that differs, with both its values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            inner = f"{key}.{name}" if key else name
            yield from changed_keys(before.get(name), now.get(name), inner)
    elif before != now:
        yield f"{key} = {before!r}, now {now!r}"


def frames_after(source: FrameSource, count: int) -> Iterable[Frame]:
    """Return the frames after the first so many; those are not even read where the source can skip them."""
    if isinstance(source, StreamedSource):
        return source.after(count)
    return islice(source, count, None)


def keeper_for(path: Path, source: FrameSource, config: PipelineConfig, resume: bool) -> SessionKeeper | None:
    """Make the keeper of a run; None where no session is wanted, or where a recording is made.

    Raises:
        ConfigError: a run that is recorded is to be resumed.
        DataError: as `SessionKeeper`.
    """
    if config.record and resume:
        raise ConfigError("--resume: a run with --record cannot be resumed; record it in one go")
    if config.record or (config.session.every_s == 0 and not resume):
        return None
    return SessionKeeper(path, source, config, resume)
