"""`remov3r data`: check data sets and pack them for training."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from remov3r.data.check import check_sequence
from remov3r.data.findings import Finding
from remov3r.data.scenes import find_sequences
from remov3r.errors import ConfigError
from remov3r.pipelines.terminal import say
from remov3r.training.framing import Framing
from remov3r.training.pack import PackOptions, pack

COLOURS = {"error": "red", "warning": "yellow", "note": "green"}


def data_command(arguments: argparse.Namespace) -> int:
    """Check or pack; 1 where a check found errors."""
    return check_command(arguments) if arguments.action == "check" else pack_command(arguments)


def check_command(arguments: argparse.Namespace) -> int:
    """Check each sequence at or below a folder and print what was found."""
    errors = 0
    for sequence in find_sequences(Path(arguments.dir), arguments.dataset, with_depth=False):
        with progress(str(sequence.path)) as show:
            findings = check_sequence(sequence.path, sequence.dataset, arguments.camera, show)
        Console().print(findings_table(f"{sequence.path} ({sequence.dataset})", findings))
        errors += sum(f.level == "error" for f in findings)
    say(f"{errors} errors" if errors else "no errors")
    return int(errors > 0)


def findings_table(title: str, findings: list[Finding]) -> Table:
    """Lay out the findings of one sequence or recording."""
    table = Table(title=escape(title), title_justify="left", show_lines=True)
    for column in ("", "what", "found", "likely cause", "what to do"):
        table.add_column(column, overflow="fold")
    for f in findings:
        table.add_row(f"[{COLOURS[f.level]}]{f.level}", f.trap, *map(escape, (f.said, f.cause, f.fix)))
    if not findings:
        table.add_row("[green]ok", "", "nothing to complain of")
    return table


def pack_command(arguments: argparse.Namespace) -> int:
    """Pack all sequences at or below some folders."""
    try:
        width, height = (int(n) for n in arguments.size.split("x"))
    except ValueError as error:
        raise ConfigError(f"--size {arguments.size!r}: write it as 320x240") from error
    framing = Framing(width, height, arguments.max_depth)
    options = PackOptions(framing, arguments.dataset, arguments.image, arguments.camera, arguments.workers)
    sources = [Path(source) for source in arguments.source]
    with progress("packing") as show:
        count = pack(sources, Path(arguments.out), options, lambda _, done, total: show(done, total))
    say(f"{count} sequences packed into {arguments.out}")
    return 0


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error; silent where it is no terminal."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
