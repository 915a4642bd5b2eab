"""What the checker of data sets says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a sequence, or worth knowing.

    Attributes:
        trap: its short name, such as "depth scale"; the same name always means the same trap.
        said: what was measured, with numbers and files.
        cause: the likely reason.
        fix: what to do about it.
    """

    level: Level
    trap: str
    said: str
    cause: str = ""
    fix: str = ""


def some(names: list[str], most: int = 4) -> str:
    """List a few names and say how many there are."""
    more = f" ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
