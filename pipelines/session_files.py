"""The folder of a session: a manifest that names one whole state, and each keyframe in a file of its own.

The manifest is what counts: everything it names is on the disk before it is put in place of the one before.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import astuple
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal
from zipfile import BadZipFile

from pydantic import Field

from remov3r import __version__
from remov3r.backends.keyframe_store import CODEC, KeyframeStore
from remov3r.config import Config, build
from remov3r.errors import ConfigError, DataError
from remov3r.pipelines.session_pickle import from_bytes, to_bytes
from remov3r.protocols import FrameSource
from remov3r.types import Keyframe

FOLDER = "session"  # in the output folder of a run
MANIFEST = "manifest.json"
KEYFRAMES = "keyframes"
VERSION = 7


class SessionConfig(Config):
    """Snapshots of a run, from which it goes on after it was killed.

    Attributes:
        every_s: least time between two snapshots, in seconds; 0 keeps none. They come more rarely where they
            would take more than a fiftieth of the time.
    """

    every_s: float = Field(10.0, ge=0)


class SourceMark(Config):
    """By what a source is known again.

    Attributes:
        frames: how many it delivers.
        camera: its camera's fields.
        start: digest of its first two frames with their indices and times.
    """

    name: str
    frames: int
    camera: str
    start: str


class Manifest(Config):
    """What `manifest.json` holds.

    Attributes:
        remov3r: version of the package that wrote it.
        source: None where frames were handed over one by one in Python.
        config: the resolved configuration, without what makes no difference to the result.
        finished: the state holds the finished map, to be relocalised in, and nothing to go on from.
        state, digest: name and SHA-256 of the file of the state.
    """

    format: Literal["remov3r session"] = "remov3r session"
    version: int = VERSION
    remov3r: str = __version__
    source: SourceMark | None
    config: dict[str, Any]
    frames_done: int
    finished: bool
    state: str = ""
    digest: str = ""


def mark_of(source: FrameSource) -> SourceMark:
    """Return what a source is known by; a frame that cannot be read is left to the run to complain about."""
    digest = hashlib.sha256()
    try:
        for frame in islice(source, 2):
            digest.update(f"{frame.index} {frame.timestamp_s!r} {frame.rgb.shape}".encode())
            digest.update(frame.rgb.tobytes())
            if frame.depth_m is not None:
                digest.update(frame.depth_m.tobytes())
    except DataError:
        pass
    camera = " ".join(map(str, astuple(source.camera)))
    return SourceMark(name=source.name, frames=len(source), camera=camera, start=digest.hexdigest())


class SessionFolder:
    """Reads and writes the folder of a session; whatever happens, the last whole state stays readable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stored: set[int] = set()  # keyframes whose files are whole and belong to this run

    def manifest(self) -> Manifest | None:
        """Return the manifest; None where there is no session.

        Raises:
            DataError: it is damaged, or of another version.
        """
        path = self.path / MANIFEST
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            version = tree["version"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not the manifest of a session: {error}") from error
        if version != VERSION:
            raise DataError(f"{path}: session of version {version}, this program reads version {VERSION}")
        try:
            return build(Manifest, tree, str(path))
        except ConfigError as error:
            raise DataError(str(error)) from error

    def read(self, manifest: Manifest) -> Any:
        """Read the state that a manifest names.

        Raises:
            DataError: it was written by another version of the program, or a file is missing or damaged.
        """
        path = self.path / manifest.state
        if manifest.remov3r != __version__:
            raise DataError(f"{self.path}: written by remov3r {manifest.remov3r}, this is {__version__}")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != manifest.digest:
            raise DataError(f"{path}: damaged: its checksum differs from the manifest's")
        return from_bytes(content, self._keyframes, str(path))

    def commit(self, manifest: Manifest, state: object) -> None:
        """Put a new state in place of the one before, which stays until this one is whole.

        Raises:
            DataError: the disk refuses, or the state holds what cannot be saved.
        """
        try:
            (self.path / KEYFRAMES).mkdir(parents=True, exist_ok=True)
            content = to_bytes(state, self._put_keyframes)
            digest = hashlib.sha256(content).hexdigest()
            name = f"state-{manifest.frames_done:08d}-{digest[:8]}.pickle"
            _put(self.path / name, lambda file: file.write(content))
            named = manifest.model_copy(update={"state": name, "digest": digest})
            text = named.model_dump_json(indent=1) + "\n"
            _put(self.path / MANIFEST, lambda file: file.write(text.encode()))
            self._remove(keep=name, keyframes=manifest.finished)
        except OSError as error:
            raise DataError(f"{error.filename or self.path}: {error.strerror}") from error

    def clear(self) -> None:
        """Remove a session that was left here.

        Raises:
            DataError: it cannot be removed.
        """
        try:
            (self.path / MANIFEST).unlink(missing_ok=True)
            self._remove(keep="", keyframes=True)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be cleared: {error.strerror}") from error

    def _remove(self, keep: str, keyframes: bool) -> None:
        """Remove states but one, what a killed run left half written and, if asked to, the keyframes."""
        patterns = ("state-*.pickle", ".writing-*", f"{KEYFRAMES}/.writing-*")
        for path in {p for pattern in patterns for p in self.path.glob(pattern)} - {self.path / keep}:
            path.unlink(missing_ok=True)
        folder = self.path / KEYFRAMES
        if keyframes and folder.is_dir():
            for path in folder.glob("[0-9]*.npz"):
                path.unlink()
            self._stored.clear()
            if not any(folder.iterdir()):
                folder.rmdir()

    def _put_keyframes(self, keyframes: KeyframeStore) -> None:
        for index in keyframes.indices:
            if index not in self._stored:  # keyframes do not change until the end
                self._put_keyframe(keyframes.get(index))
                self._stored.add(index)

    def _put_keyframe(self, keyframe: Keyframe) -> None:
        path = self.path / KEYFRAMES / CODEC.name(keyframe.frame_index)
        _put(path, lambda file: CODEC.save(file, keyframe))

    def _keyframes(self, indices: tuple[int, ...]) -> KeyframeStore:
        keyframes = KeyframeStore()
        for index in indices:
            path = self.path / KEYFRAMES / CODEC.name(int(index))
            try:
                with path.open("rb") as file:
                    keyframes.put(CODEC.load(file))
            except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
                raise DataError(f"{path.name}: missing or damaged: {error}") from error
        self._stored.update(indices)
        return keyframes


def _put(path: Path, save: Callable[[BinaryIO], object]) -> None:
    """Write a file so that `path` always holds a whole one, even when the machine loses power."""
    temporary = path.with_name(f".writing-{path.name}")
    try:
        with temporary.open("wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)
