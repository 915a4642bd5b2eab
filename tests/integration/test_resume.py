"""A run that is killed at any frame goes on with --resume, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remov3r.models.weights import save_network
from remov3r.pipelines.cli import main
from remov3r.pipelines.demo import DemoFiles
from tests.integration.conftest import Run
from tests.models.tiny import tiny_network

ROOT = Path(__file__).parents[2]
FRAMES = 16
PATIENCE_S = 240  # on a busy machine
# A snapshot after every frame, however long it takes.
OFTEN = "import sys, remov3r.pipelines.session as s; s.PAUSES = 0; from remov3r.pipelines.cli import main; "
OFTEN += "sys.exit(main(sys.argv[1:]))"


def frames_done(out: Path) -> int:
    try:
        return int(json.loads((out / "session/manifest.json").read_text())["frames_done"])
    except FileNotFoundError:
        return 0


def killed_after(frames: int, arguments: list[str], out: Path) -> int:
    """Start a run and kill it when so many frames and a random time are over; return what the session holds."""
    command = [sys.executable, "-c", OFTEN, *arguments, "--set", "session.every_s=1e-9"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    give_up_s = time.monotonic() + PATIENCE_S
    while frames_done(out) < frames:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < give_up_s
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.05))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return frames_done(out)


@pytest.mark.parametrize("case", ["bundle", "pose_graph", "network"])
def test_killed_and_resumed_equals_uninterrupted(
    case: str, room: DemoFiles, remov3r: Run, tmp_path: Path
) -> None:
    out, whole = tmp_path / "killed", tmp_path / "whole"
    options = ["--front-end", "sensor", "--backend", case]
    if case == "network":
        save_network(tiny_network(), tmp_path / "tiny.safetensors", version="0", sigma_factor=1.0)
        options = [
            "--set",
            f"network.weights={tmp_path / 'tiny.safetensors'}",
            "--set",
            "network.engine=torch",
        ]
    arguments = ["run", str(room.frames), *options, "--no-mesh", "--max-frames", str(FRAMES)]
    assert main([*arguments, "--out", str(whole)]) == 0
    arguments += ["--out", str(out)]
    killed = killed_after(random.randint(1, FRAMES - 3), arguments, out)
    done = remov3r(*arguments, "--resume")
    assert done.status == 0, done.err
    assert f"resumed after {killed} of {FRAMES} frames" in done.out
    for name in ("trajectory.tum", "trajectory_online.tum", "keyframes.tum", "frames.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), f"killed after {killed} frames"
    assert not list(out.rglob(".writing-*"))
    again = remov3r(*arguments, "--resume")
    assert again.status == 1
    assert "that run is finished" in again.err
