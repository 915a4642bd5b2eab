"""The command `benchmark`: carries out a protocol for front ends × backends, and tabulates the figures.

Each run is a process of its own, so that its speed and memory are what a user gets. Its output folder is kept under
a name made of what it depends on, so that the same command goes on where it stopped and never runs twice; the figures
are measured anew from these folders every time.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from remov3r.data.sources import SOURCES, open_source
from remov3r.data.splits import frame_range
from remov3r.errors import ConfigError, DataError, Remov3rError
from remov3r.eval.metrics import Metrics
from remov3r.eval.protocols import Protocol, digest, load_protocol
from remov3r.pipelines.benchmark_page import Row, csv_page, json_page, markdown_page
from remov3r.pipelines.demo import room_scene, write_sequence
from remov3r.pipelines.evaluate import GroundTruth, depth_of, ground_truth_of, read_truth_mesh, score
from remov3r.pipelines.house_video import HouseSource
from remov3r.pipelines.load import load_reconstruction
from remov3r.pipelines.output_folder import OutputFolder
from remov3r.pipelines.provenance import code_version
from remov3r.pipelines.terminal import say
from remov3r.protocols import FrameSource


@dataclass(frozen=True)
class Method:
    """A front end and a backend, by their names in the configuration."""

    front_end: str
    backend: str

    @staticmethod
    def parse(text: str) -> Method:
        """Read "network×bundle" or "network+bundle".

        Raises:
            ConfigError: it is neither.
        """
        front_end, separator, backend = text.replace("×", "+").rpartition("+")
        if not (front_end and separator and backend):
            raise ConfigError(f"--method {text!r}: write it as FRONT_END+BACKEND, such as network+bundle")
        return Method(front_end, backend)

    @property
    def name(self) -> str:
        """Shown in tables."""
        return f"{self.front_end}×{self.backend}"


@dataclass(frozen=True)
class Case:
    """One sequence of a protocol, at hand or not.

    Attributes:
        path: where it lies; None where it is not in the data folder.
        sequence: the same below the data folder, by which recordings of other systems are found.
    """

    name: str
    dataset: str
    path: Path | None
    sequence: str = ""


def benchmark_command(arguments: argparse.Namespace) -> int:
    """Run what is not there yet, score everything, write the pages."""
    protocol = load_protocol(arguments.protocol)
    methods = [Method.parse(text) for text in arguments.method]
    runs, pages = Path(arguments.runs), OutputFolder(Path(arguments.out))
    cases = list(cases_of(protocol, Path(arguments.data), runs))
    if all(case.path is None for case in cases):
        raise DataError(
            f"{arguments.data}: holds none of the sequences of {protocol.name}: {', '.join(c.name for c in cases)}"
        )
    rows = []
    for case in cases:
        for method in methods:
            rows.append(measure(protocol, case, method, arguments.config, runs))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    name = f"{protocol.name}_{today}"
    pages.put_text(f"{name}.md", markdown_page(protocol, rows, today, arguments.config))
    pages.put_text(f"{name}.json", json_page(protocol, rows, today, arguments.config))
    pages.put_text(f"{name}.csv", csv_page(rows))
    say(f"written {', '.join(str(path) for path in pages.written)}")
    return 0 if all(row.problem is None for row in rows) else 1


def cases_of(protocol: Protocol, data: Path, runs: Path) -> Iterator[Case]:
    """List the sequences of a protocol, patterns resolved and synthetic ones rendered.

    Raises:
        ConfigError: the protocol's data set has no reader.
    """
    for sequence in protocol.sequences:
        dataset = sequence.dataset or protocol.dataset
        if dataset not in SOURCES:
            raise ConfigError(
                f"protocol {protocol.name}: there is no reader of {dataset}; known: {', '.join(SOURCES)}"
            )
        note = f" ({sequence.note})" if sequence.note else ""
        if sequence.rendered_s is not None:
            room = "demo room" if sequence.room is None else f"room {sequence.room}"
            seconds = sequence.rendered_s
            scene = partial(room_scene, seconds, sequence.room)
            yield Case(f"{room}{note}", dataset, _rendered(f"{_plain(room)}_{seconds:g}s", scene, runs))
            continue
        if sequence.house_path is not None:
            house = data / sequence.path
            walk = partial(HouseSource, house, sequence.house_path)
            name = f"{sequence.path} path {sequence.house_path}"
            there = house.is_dir()
            yield Case(f"{name}{note}", dataset, _rendered(_plain(name), walk, runs) if there else None)
            continue
        found = (
            sorted(data.glob(sequence.path))
            if any(c in sequence.path for c in "*?")
            else [data / sequence.path]
        )
        found = [path for path in found if path.is_dir()]
        for path in found:
            below = path.relative_to(data).as_posix()
            yield Case(f"{below}{note}", dataset, path, below)
        if not found:
            yield Case(f"{sequence.path}{note}", dataset, None)


def measure(protocol: Protocol, case: Case, method: Method, config: str, runs: Path) -> Row:
    """Carry out one run, unless it is there, and score it; what went wrong is in the row."""
    if case.path is None:
        return Row(case.name, method.name, problem="not in the data folder")
    command = run_arguments(protocol, case, method, config)
    key = digest([command, code_version(), _settings(config)])
    folder = runs / protocol.name / f"{_plain(case.name)}_{_plain(method.name)}_{key}"
    say(f"{case.name}, {method.name} ({'cached' if folder.exists() else 'running'})")
    try:
        if not folder.exists():
            _run(command, folder)
        metrics = scored(protocol, case, method, folder)
        timings = json.loads((folder / "timings.json").read_text())
    except Remov3rError as error:
        say(f"  failed: {error}")
        return Row(case.name, method.name, problem=str(error))
    return Row(case.name, method.name, _chosen(metrics, protocol), timings)


def run_arguments(protocol: Protocol, case: Case, method: Method, config: str) -> list[str]:
    """Return the arguments of `remov3r` that make this run, its output folder aside.

    A front end recorded:LAYOUT:DIR/{sequence} has a folder for each sequence, named as below the data folder.

    Raises:
        DataError: the sequence cannot be opened.
    """
    assert case.path is not None
    sensor = method.front_end == "sensor"
    count = len(open_source(case.path, case.dataset, protocol.camera, sensor=sensor))
    part = frame_range(count, protocol.split)[protocol.start :: protocol.stride][: protocol.frames]
    if not part:
        raise DataError(f"{case.path}: {count} frames leave none for {protocol.name}")
    arguments = ["run", str(case.path), "--dataset", case.dataset, "--config", config]
    arguments += ["--front-end", method.front_end.replace("{sequence}", case.sequence)]
    arguments += ["--backend", method.backend]
    arguments += ["--start", str(part.start), "--stride", str(part.step), "--max-frames", str(len(part))]
    arguments += [] if protocol.camera is None else ["--camera", protocol.camera]
    return arguments + ([] if "map" in protocol.metrics else ["--no-mesh"])


def scored(protocol: Protocol, case: Case, method: Method, folder: Path) -> Metrics:
    """Measure a finished run.

    Raises:
        DataError: the run or the ground truth cannot be read, or there is none.
    """
    assert case.path is not None
    sensor = method.front_end == "sensor"
    if protocol.metrics == ("depth",):  # drives without poses have depth all the same
        truth = GroundTruth(depth=depth_of(case.path, case.dataset, protocol.camera))
    else:
        truth = ground_truth_of(case.path, case.dataset, sensor, protocol.camera)
    if protocol.truth_mesh and "map" in protocol.metrics:
        mesh = case.path.with_name(protocol.truth_mesh.replace("{sequence}", case.path.name))
        truth = replace(truth, mesh=read_truth_mesh(mesh))
    metrics = score(load_reconstruction(folder), truth, protocol.evaluation)
    if metrics is None:
        raise DataError(f"{case.path}: has no ground truth")
    return metrics


def _run(command: Sequence[str], folder: Path) -> None:
    """Run into a folder beside the final one, which appears only when the run is complete."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    full = [sys.executable, "-m", "remov3r.pipelines.cli", *command, "--out", str(unfinished)]
    done = subprocess.run(full, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["the run failed without a message"])[-1]
        raise DataError(last.removeprefix("remov3r: "))
    unfinished.rename(folder)


def _chosen(metrics: Metrics, protocol: Protocol) -> dict[str, Any]:
    """The figures that the protocol asks for, as in metrics.json."""
    tree: dict[str, Any] = json.loads(metrics.to_json())
    return {key: value for key, value in tree.items() if key in (*protocol.metrics, "ground_truth")}


def _rendered(name: str, source: Callable[[], FrameSource], runs: Path) -> Path:
    """Render a sequence once."""
    folder = runs / name
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        write_sequence(source(), unfinished)
        unfinished.rename(folder)
    return folder / "room"


def _settings(config: str) -> str:
    """The contents of a configuration that is a file: its name alone does not say what was run."""
    return Path(config).read_text() if config.endswith(".toml") and Path(config).is_file() else config


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", name.replace("×", "-")).strip("-")
