"""The command `compare`: any number of trajectories, from any system, against one reference."""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from remov3r.data.sources import read_reference
from remov3r.errors import DataError
from remov3r.eval.plots import plot_errors, plot_trajectories
from remov3r.eval.rotations import RotationQuality, rotation_quality
from remov3r.eval.trajectory import (
    Align,
    FrameErrors,
    TrajectoryEvalConfig,
    TrajectoryMetrics,
    evaluate_trajectory,
    frame_errors,
)
from remov3r.eval.trajectory_files import TrajectoryFile, read_trajectory_file, with_times
from remov3r.pipelines.evaluate import rotations_of
from remov3r.pipelines.output_folder import OutputFolder
from remov3r.pipelines.tables import cell, csv_text, markdown_table

COLUMNS = (
    "trajectory", "poses", "ATE SE(3) m", "ATE Sim(3) m", "scale", "RTE m", "RRE °", "RRE naive °",
    "RTE per m", "RRE °/m",
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """One trajectory's figures, and its errors pose by pose."""

    name: str
    metrics: TrajectoryMetrics
    errors: FrameErrors


def compare_command(arguments: argparse.Namespace) -> int:
    """Compare trajectories, print the table, and write tables, errors and plots."""
    config = TrajectoryEvalConfig(tolerance_s=arguments.tolerance)
    align: Align = arguments.align
    reference, stored = _reference(Path(arguments.reference))
    files = _distinct([read_trajectory_file(Path(path)) for path in arguments.trajectories])
    compared = []
    for file in files:
        try:
            estimate = with_times(file, reference)
            metrics = evaluate_trajectory(estimate, reference.trajectory, None, config, stored)
            compared.append(
                Compared(file.name, metrics, frame_errors(estimate, reference.trajectory, align, config))
            )
        except DataError as error:
            raise DataError(f"{file.name}: {error}") from error
    quality = None if stored is None else rotation_quality(stored)
    table = comparison_table(compared, quality, align, config)
    folder = OutputFolder(Path(arguments.out))
    _write(folder, compared, table, quality, align, reference)
    sys.stdout.write(table + "\n")
    sys.stdout.write(f"written to {folder.path}: {', '.join(path.name for path in folder.written)}\n")
    return 0


def comparison_table(
    compared: Sequence[Compared], quality: RotationQuality | None, align: Align, config: TrajectoryEvalConfig
) -> str:
    """Return the table with everything a reader must know beside it, as Markdown."""
    lines = [
        f"ATE, RTE, RRE: RMSE; poses associated within {config.tolerance_s} s; RTE and RRE over consecutive compared "
        f"poses and over {config.path_m:g} m of the reference's path; plots and per-frame errors after "
        f"{'SE(3)' if align == 'se3' else 'Sim(3)'} alignment."
    ]
    if quality is not None:
        lines.append(
            f"Ground-truth rotations as stored: determinant {quality.determinant:.5f}, off SO(3) by up to "
            f"{quality.off_so3:.2g}; projected for every figure but *RRE naive*."
        )
    lines += [f"{one.name}: {note}." for one in compared for note in one.metrics.notes]
    return markdown_table(COLUMNS, [_cells(one) for one in compared]) + "\n" + "\n\n".join(lines) + "\n"


def _cells(one: Compared) -> list[str]:
    m, per_m = one.metrics, one.metrics.per_metre
    return [
        one.name,
        f"{m.poses}/{m.frames}",
        cell(m.se3.ate_rmse_m, 4),
        cell(m.sim3.ate_rmse_m, 4),
        cell(m.sim3.scale, 4),
        cell(m.rte_rmse_m, 4),
        cell(m.rre_rmse_deg, 3),
        cell(m.rre_naive_rmse_deg, 3),
        cell(None if per_m is None else per_m.rte_rmse_m, 4),
        cell(None if per_m is None else per_m.rre_rmse_deg, 3),
    ]


def _reference(path: Path) -> tuple[TrajectoryFile, np.ndarray | None]:
    """A trajectory file, or the ground truth of a data set, then with its rotations as stored."""
    if path.is_file() or (path / "trajectory.tum").is_file():
        return read_trajectory_file(path), None
    trajectory = read_reference(path)
    return TrajectoryFile(path.name, trajectory, "tum", True), rotations_of(path, trajectory)


def _distinct(files: Sequence[TrajectoryFile]) -> list[TrajectoryFile]:
    """Number the names that occur twice."""
    names = [file.name for file in files]
    return [
        TrajectoryFile(f"{f.name} {names[: i + 1].count(f.name)}", f.trajectory, f.format, f.timed)
        if names.count(f.name) > 1
        else f
        for i, f in enumerate(files)
    ]


def _write(
    folder: OutputFolder,
    compared: Sequence[Compared],
    table: str,
    quality: RotationQuality | None,
    align: Align,
    reference: TrajectoryFile,
) -> None:
    errors = {one.name: one.errors for one in compared}
    folder.put_text("comparison.md", table)
    folder.put_text("comparison.csv", csv_text(COLUMNS, [_cells(one) for one in compared]))
    tree = {
        "reference": reference.name,
        "ground_truth": None if quality is None else asdict(quality),
        "trajectories": {one.name: asdict(one.metrics) for one in compared},
    }
    folder.put_text("comparison.json", json.dumps(tree, indent=2, allow_nan=False) + "\n")
    for name, one in errors.items():
        folder.put_text(f"errors_{_file_name(name)}.csv", _errors_csv(one))
    folder.put("errors.npz", lambda path: np.savez_compressed(path, allow_pickle=False, **_arrays(errors)))
    centres = reference.trajectory.T_world_cam[:, :3, 3]
    folder.put("trajectories.png", lambda path: plot_trajectories(path, errors, centres))
    folder.put("errors.png", lambda path: plot_errors(path, errors, align))


def _arrays(errors: Mapping[str, FrameErrors]) -> dict[str, np.ndarray]:
    return {
        f"{name}/{field.name}": getattr(one, field.name)
        for name, one in errors.items()
        for field in fields(one)
    }


def _errors_csv(errors: FrameErrors) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["timestamp_s", "x_m", "y_m", "z_m", "ate_m", "rotation_deg", "rte_m", "rre_deg"])
    columns = (
        errors.timestamps_s,
        errors.position_m,
        errors.ate_m,
        errors.rotation_deg,
        errors.rte_m,
        errors.rre_deg,
    )
    for row in np.column_stack(columns):
        writer.writerow([f"{x:.9g}" if i else f"{x:.9f}" for i, x in enumerate(row)])
    return text.getvalue()


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)
