"""`remov3r recorded check`: look over what another front end wrote."""

from __future__ import annotations

import argparse

from rich.console import Console

from remov3r.frontends.recorded.check import check_recording
from remov3r.pipelines.data import findings_table, progress
from remov3r.pipelines.terminal import say


def recorded_command(arguments: argparse.Namespace) -> int:
    """Print what is wrong with a recording; 1 where there are errors."""
    with progress(arguments.recording) as show:
        findings = check_recording(arguments.recording, show)
    Console().print(findings_table(arguments.recording, findings))
    errors = sum(f.level == "error" for f in findings)
    say(f"{errors} errors" if errors else "no errors")
    return int(errors > 0)
