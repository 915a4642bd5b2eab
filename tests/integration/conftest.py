"""A small synthetic room as files, and the command line called as a user would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from remov3r.camera import Camera
from remov3r.data.synthetic.rooms import RoomConfig
from remov3r.data.synthetic.source import SyntheticSource
from remov3r.data.synthetic.world import SyntheticWorld, WorldConfig
from remov3r.pipelines.cli import main
from remov3r.pipelines.demo import DemoFiles, write_sequence

torch.set_num_threads(1)

CAMERA = Camera(240, 180, 200.0, 200.0, 119.5, 89.5)
FRAMES = 40


@dataclass(frozen=True)
class Outcome:
    """What a call of the command line gave."""

    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def remov3r(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line; a usage error's SystemExit becomes its status."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def world() -> SyntheticWorld:
    """Well-textured rooms."""
    return SyntheticWorld(WorldConfig(room=RoomConfig(side_m=(3.5, 5.0), hall_share=0.0, paint_share=0.0)))


@pytest.fixture(scope="session")
def room(world: SyntheticWorld, tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    """A walk through a room."""
    source = SyntheticSource(2, FRAMES, CAMERA, world=world)
    return write_sequence(source, tmp_path_factory.mktemp("room"))


@pytest.fixture(scope="session")
def finished(room: DemoFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of one run with the depth sensor."""
    out = tmp_path_factory.mktemp("finished")
    assert main(["run", str(room.frames), "--front-end", "sensor", "--out", str(out)]) == 0
    return out
