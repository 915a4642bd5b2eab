"""Tables of figures as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence


def cell(value: float | None, digits: int) -> str:
    """Format a figure; a dash where it could not be measured."""
    return "–" if value is None else f"{value:.{digits}f}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; a stroke within a cell is kept from ending it."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |\n" for line in lines)


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the same as CSV; what could not be measured is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *([("" if c == "–" else c) for c in row] for row in rows)])
    return text.getvalue()
