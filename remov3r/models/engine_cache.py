"""Compiled networks on disk, in the user's cache folder: the newest, each a file with its own checksum."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)

MOST_BYTES = 2**29  # of all files together; the lite network takes 23 MB
DIGEST_BYTES = hashlib.sha256().digest_size


def cache_folder() -> Path:
    """Return where compiled networks are kept; it may not exist."""
    if sys.platform == "darwin":
        return Path("~/Library/Caches/remov3r/engine").expanduser()
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return Path(base or "~/.cache").expanduser() / "remov3r" / "engine"


def read_cached(key: str) -> bytes | None:
    """Return what was kept under a key; None if nothing was, or it cannot be read or is damaged."""
    try:
        path = cache_folder() / f"{key}.bin"
        content = path.read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    digest, kept = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(kept).digest() == digest:
        return kept
    logger.warning("%s is damaged and is built anew", path)
    return None


def write_cached(key: str, content: bytes) -> None:
    """Keep something under a key, all of it or nothing; where that fails a warning says so."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            Path(name).replace(folder / f"{key}.bin")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _forget_old(folder)
    except (OSError, RuntimeError) as error:
        logger.warning("the compiled network cannot be kept, each run builds it anew (seconds): %s", error)


def _forget_old(folder: Path) -> None:
    total = 0
    for path in sorted(folder.glob("*.bin"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        total += path.stat().st_size
        if total > MOST_BYTES:
            path.unlink(missing_ok=True)
