"""The output directory: checked before the work starts, and no file in it is ever half written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from remov3r.errors import DataError

NEEDED_FREE_BYTES = 300 * 2**20


class OutputFolder:
    """A directory into which whole files are put.

    A file is written beside its final name and renamed into place, so that an older result of that name
    survives whatever goes wrong. What an earlier run left and the new one does not have is removed by `tidy`.
    """

    def __init__(self, path: Path) -> None:
        """Create the directory and make sure that files can be written there.

        Raises:
            DataError: it cannot be created or written, or the disk is nearly full.
        """
        self.path = path
        self.written: list[Path] = []
        probe = path / f".remov3r-probe-{os.getpid()}"
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"x" * 4096)
            probe.unlink()
            free = shutil.disk_usage(path).free
        except OSError as error:
            raise DataError(f"output folder {path}: cannot be written: {error.strerror}") from error
        if free < NEEDED_FREE_BYTES:
            raise DataError(
                f"output folder {path}: {free / 2**20:.0f} MB free on that disk, "
                f"need {NEEDED_FREE_BYTES / 2**20:.0f} MB; choose another with --out"
            )

    def put(self, name: str, write: Callable[[Path], object]) -> Path:
        """Write one file by a function that takes the path to write to.

        Args:
            name: relative to the directory; its ending is kept in the temporary name.
        Raises:
            DataError: the system refuses; files put before are safe.
        """
        final = self.path / name
        temporary = final.with_name(f".writing-{os.getpid()}-{final.name}")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            os.replace(temporary, final)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            done = ", ".join(path.name for path in self.written if path.parent == self.path) or "none"
            raise DataError(f"{final}: cannot be written: {error.strerror}; saved so far: {done}") from error
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self.written.append(final)
        return final

    def put_text(self, name: str, text: str) -> Path:
        """Write a text file."""
        return self.put(name, lambda path: path.write_text(text, encoding="utf-8"))

    def tidy(self, patterns: tuple[str, ...]) -> None:
        """Remove files that match one of the glob patterns and were not put there by this object."""
        for stale in {path for pattern in patterns for path in self.path.glob(pattern)} - set(self.written):
            stale.unlink(missing_ok=True)
