"""Values that do not fit into memory: the latest used stay there, the others lie in files, one each."""

from __future__ import annotations

import logging
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar
from zipfile import BadZipFile

import numpy as np

from remov3r.errors import DataError

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Codec(Generic[K, V]):
    """How values become files.

    Attributes:
        name: of the file of a key, without folder.
        save, load: write a value to an open file, and read it back bit for bit. Reading may raise OSError,
            EOFError, KeyError, ValueError or BadZipFile on a damaged file.
    """

    name: Callable[[K], str]
    save: Callable[[BinaryIO, V], object]
    load: Callable[[BinaryIO], V]


class SpillingMap(Generic[K, V]):
    """A mapping that keeps the latest used values in memory and the others in files.

    Files are written beside their final name and renamed into place, so that none is ever half there. Where
    the disk refuses a file, its value stays in memory and `trouble` says so: nothing is lost.
    """

    def __init__(
        self, codec: Codec[K, V], in_memory: int, folder: Path | None = None, keep: bool = False
    ) -> None:
        """Prepare an empty mapping.

        Args:
            in_memory: how many values stay in memory, at least 1.
            folder: where the files go; None for the system's place for temporary files.
            keep: put the files into this very folder and leave them there. Otherwise they go to a new folder
                inside it, which `close` removes (as does the end of the process, unless it is killed).
        """
        self._codec = codec
        self._in_memory = max(in_memory, 1)
        self._parent, self._keep = folder, keep
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._memory: OrderedDict[K, V] = OrderedDict()  # from the least to the latest used
        self._saved: dict[K, bool] = {}  # every key in order of arrival: is its file up to date?
        self.trouble: str | None = None

    def __len__(self) -> int:
        return len(self._saved)

    def __iter__(self) -> Iterator[K]:
        return iter(tuple(self._saved))

    def __contains__(self, key: K) -> bool:
        return key in self._saved

    def __setitem__(self, key: K, value: V) -> None:
        self._memory[key] = value
        self._memory.move_to_end(key)
        self._saved[key] = False
        self.make_room(0)

    def __getitem__(self, key: K) -> V:
        """Return a value, which counts as its latest use.

        Raises:
            KeyError: no such key.
            DataError: its file is missing or damaged.
        """
        if key not in self._memory:
            self._memory[key] = self.peek(key)
        self._memory.move_to_end(key)
        self.make_room(0)
        return self._memory[key]

    def peek(self, key: K) -> V:
        """Return a value and leave it where it is.

        Raises:
            KeyError: no such key.
            DataError: its file is missing or damaged.
        """
        if key in self._memory:
            return self._memory[key]
        if key not in self._saved:
            raise KeyError(key)
        path = self.folder / self._codec.name(key)
        try:
            with path.open("rb") as file:
                return self._codec.load(file)
        except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
            raise DataError(f"{path}: missing, truncated or damaged: {error}") from error

    def __delitem__(self, key: K) -> None:
        del self._saved[key]
        self._memory.pop(key, None)
        if self._keep or self._temporary is not None:
            with suppress(OSError):
                (self.folder / self._codec.name(key)).unlink(missing_ok=True)

    @property
    def in_memory(self) -> int:
        """How many values are in memory now."""
        return len(self._memory)

    @property
    def folder(self) -> Path:
        """Where the files are; a temporary folder is made when it is first asked for."""
        if self._keep and self._parent is not None:
            return self._parent
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(
                prefix="remov3r-", dir=self._parent, ignore_cleanup_errors=True
            )
        return Path(self._temporary.name)

    def adopt(self, key: K) -> None:
        """Take over a value whose file is in the folder already."""
        self._saved[key] = True

    def make_room(self, more: int) -> bool:
        """Move the least used values to files until so many more fit; False where the disk refuses."""
        while len(self._memory) > self._in_memory - more:
            key = next(iter(self._memory))
            if not self._written(key):
                return False
            del self._memory[key]
        return True

    def flush(self) -> None:
        """Write the files of all values, so that another process finds them.

        Raises:
            DataError: the disk refuses.
        """
        for key in self._memory:
            if not self._written(key):
                raise DataError(f"{self.trouble}; free some space or choose another folder")

    def close(self) -> None:
        """Forget everything, and remove the files if their folder is a temporary one."""
        self._memory.clear()
        self._saved.clear()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _written(self, key: K) -> bool:
        if self._saved[key]:
            return True
        try:
            path = self.folder / self._codec.name(key)
            if not self._keep:
                path.unlink(missing_ok=True)  # out of date; renaming over it would make ext4 flush the disk
            write_whole(path, lambda file: self._codec.save(file, self._memory[key]))
        except OSError as error:
            trouble = (
                f"nothing can be written to {error.filename or 'the temporary folder'}: {error.strerror}"
            )
            if self.trouble is None:
                logger.warning("%s; what is in memory stays there", trouble)
            self.trouble = trouble
            return False
        self._saved[key] = True
        return True


def write_whole(path: Path, save: Callable[[BinaryIO], object]) -> None:
    """Write a file beside its final name and rename it into place, so that it is never half there.

    Raises:
        OSError: the system refuses; nothing is left behind.
    """
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        with temporary.open("wb") as file:
            save(file)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_arrays(file: BinaryIO, arrays: dict[str, Any]) -> None:
    """Write named arrays as an uncompressed .npz, whose checksums tell a damaged file."""
    np.savez(file, **arrays)


def load_arrays(file: BinaryIO) -> dict[str, np.ndarray]:
    """Read what `save_arrays` wrote.

    Raises:
        BadZipFile, ValueError, EOFError: the file is truncated or damaged.
    """
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
