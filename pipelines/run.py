"""The commands `run`, `eval` and `config`."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from dataclasses import replace
from pathlib import Path

from remov3r.data.sources import open_source
from remov3r.data.stream import StreamedSource
from remov3r.errors import Remov3rError
from remov3r.eval.metrics import Metrics
from remov3r.pipelines.config import PipelineConfig, load_config
from remov3r.pipelines.evaluate import (
    GroundTruth,
    depth_of,
    ground_truth_of,
    read_truth_mesh,
    rotations_of,
    score,
)
from remov3r.pipelines.export import OWN_FILES, put_trajectory, save_reconstruction
from remov3r.pipelines.load import load_reconstruction, read_source_name
from remov3r.pipelines.output_folder import OutputFolder
from remov3r.pipelines.provenance import code_version
from remov3r.pipelines.reconstruct import StoppedEarlyError, reconstruct
from remov3r.pipelines.report import ReportInput
from remov3r.pipelines.report_files import put_report
from remov3r.pipelines.session import keeper_for
from remov3r.pipelines.session_files import FOLDER as SESSION
from remov3r.pipelines.summary import summary_lines
from remov3r.pipelines.terminal import ProgressBar, orderly_stop, say
from remov3r.pipelines.toml_writer import dump_toml
from remov3r.types import Reconstruction, TrackedPose

logger = logging.getLogger(__name__)

FAILED, INTERRUPTED = 1, 130


def run_command(arguments: argparse.Namespace) -> int:
    """Reconstruct one input, save everything, score it where it has ground truth, write the report."""
    config = load_config(arguments.config, _assignments(arguments))
    sensor = config.front_end == "sensor"
    source = open_source(
        arguments.input,
        arguments.dataset,
        arguments.camera,
        arguments.start,
        arguments.stride,
        arguments.max_frames,
        sensor,
        arguments.fps,
    )
    folder = OutputFolder(Path(arguments.out or f"out/{_file_name(source.name)}"))
    truth = GroundTruth(source.reference(), source if sensor else None)
    if not sensor and truth.reference is not None:
        truth = GroundTruth(truth.reference, depth_of(Path(arguments.input), arguments.dataset))
    if truth.reference is not None and Path(arguments.input).is_dir():
        stored = rotations_of(Path(arguments.input), truth.reference)
        truth = replace(truth, stored_rotations=stored)
    return reconstruct_and_save(source, config, folder, truth, arguments.resume)


def eval_command(arguments: argparse.Namespace) -> int:
    """Score the output of an earlier run and write its report anew."""
    path = Path(arguments.out)
    result, source_name = load_reconstruction(path), read_source_name(path)
    config_text = (path / "config.toml").read_text()
    sensor = load_config(path / "config.toml").front_end == "sensor"
    truth = ground_truth_of(Path(arguments.reference), sensor=sensor)
    if arguments.mesh:
        truth = replace(truth, mesh=read_truth_mesh(Path(arguments.mesh)))
    folder = OutputFolder(path)
    metrics = score(result, truth)
    _put_report(folder, result, metrics, truth, config_text, source_name)
    for line in summary_lines(result, metrics, folder):
        say(line)
    return 0


def config_command(arguments: argparse.Namespace) -> int:
    """Print the resolved configuration."""
    config = load_config(arguments.config, arguments.set)
    sys.stdout.write(dump_toml(config.model_dump(mode="json")))
    return 0


def reconstruct_and_save(
    source: StreamedSource,
    config: PipelineConfig,
    folder: OutputFolder,
    truth: GroundTruth,
    resume: bool = False,
) -> int:
    """Run the pipeline with a progress bar, save the result even when it was stopped early, and sum it up.

    Args:
        resume: go on from the snapshot in the output folder.
    Returns:
        exit status.
    """
    status, reason = 0, ""
    session = keeper_for(folder.path / SESSION, source, config, resume)
    with ProgressBar(len(source)) as bar, orderly_stop() as stop:

        def on_frame(tracked: TrackedPose) -> None:
            bar.on_frame(tracked)
            stop.check()

        try:
            result = reconstruct(source, config, on_frame, bar.on_stage, session)
        except StoppedEarlyError as stopped:
            result = stopped.reconstruction
            status = INTERRUPTED if isinstance(stopped.cause, KeyboardInterrupt) else FAILED
            reason = str(stopped)
        bar.on_stage("saving")
        save_reconstruction(folder, result, config, source.name)
        if session is not None and status == 0:
            session.close()  # only now: until the results are saved the run can still be resumed
        bar.on_stage("scoring")
        metrics = _score(result, truth)
        bar.on_stage("report")
        config_text = (folder.path / "config.toml").read_text()
        _put_report(folder, result, metrics, truth, config_text, source.name)
        folder.tidy(OWN_FILES)
    for line in summary_lines(result, metrics, folder):
        say(line)
    if reason:
        sys.stderr.write(f"remov3r: {reason}; what was done until then is saved\n")
    return status


def _score(result: Reconstruction, truth: GroundTruth) -> Metrics | None:
    try:
        return score(result, truth)
    except Remov3rError as error:  # the run itself is good and saved
        logger.warning("not scored: %s", error)
        return None


def _put_report(
    folder: OutputFolder,
    result: Reconstruction,
    metrics: Metrics | None,
    truth: GroundTruth,
    config_text: str,
    source_name: str,
) -> None:
    if truth.reference is not None:
        put_trajectory(folder, "reference.tum", truth.reference)
    if metrics is not None:
        folder.put_text("metrics.json", metrics.to_json())
    scored = truth if metrics is not None else GroundTruth()
    subtitle = f"ReMov3r {code_version()}"
    data = ReportInput(result, source_name, subtitle, config_text, metrics, scored.reference, scored.depth)
    put_report(folder, data)


def _assignments(arguments: argparse.Namespace) -> list[str]:
    chosen = list(arguments.set)
    if arguments.backend:
        chosen.append(f"backend={arguments.backend}")
    if arguments.front_end:
        chosen.append(f"front_end={arguments.front_end}")
    if arguments.record:
        chosen.append(f"record={arguments.record}")
    if arguments.no_mesh:
        chosen.append("mesh=false")
    return chosen


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"
