"""The paper's tables: printed figures as printed, measured ones where they belong, and empty cells empty."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from remov3r.errors import DataError
from remov3r.eval.protocols import load_protocol
from remov3r.pipelines.benchmark_page import Row, json_page
from remov3r.pipelines.cli import main
from remov3r.pipelines.paper_tables import (
    Published,
    PublishedRow,
    read_published,
    read_results,
    shown_method,
    tables_page,
)

# Table 3 as the paper prints it: ATE, RTE, RRE on ScanNet, then on 7-Scenes; table 2: AbsRel and δ, the same.
POSES = {
    "CUT3R": "0.099 0.022 0.600 0.568 0.024 0.882",
    "SLAM3R": "0.066 0.014 0.515 0.084 0.012 0.764",
    "ReMov3r (the paper)": "0.049 0.011 1.359 0.039 0.009 1.612",
}
DEPTH = {
    "CUT3R": "0.351 48.59 0.111 87.03",
    "SLAM3R": "0.148 85.82 0.067 91.34",
    "ReMov3r (the paper)": "0.169 74.55 0.164 75.35",
}


def metrics(ate_m: float, naive_deg: float | None = 1.5) -> dict[str, Any]:
    every = {
        "se3": {"ate_rmse_m": ate_m},
        "sim3": {"ate_rmse_m": ate_m / 2, "scale": 1.0},
        "rte_rmse_m": 0.006,
        "rre_rmse_deg": 0.25,
        "rre_naive_rmse_deg": naive_deg,
    }
    depth = {"metric": {"abs_rel": 0.2, "delta_1_25": 0.7}, "aligned": {"abs_rel": 0.1, "delta_1_25": 0.9}}
    return {"trajectory": {"all": every}, "depth": depth}


def results(path: Path, protocol: str, rows: list[Row]) -> Path:
    path.write_text(json_page(load_protocol(protocol), rows, "2026-01-02", "/home/someone/mine.toml"))
    return path


def cells(page: str, method: str) -> list[list[str]]:
    """The rows of all tables that begin with a method."""
    lines = [line for line in page.splitlines() if line.startswith(f"| {method} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("method", POSES)
def test_published_figures_are_as_printed(method: str) -> None:
    paper = read_published()[0]
    rows = [row for row in paper.rows if row.method == method]
    poses = [text for row in rows if row.table == "pose" for text in row.figures.values()]
    depth = [text for row in rows if row.table == "depth" for text in row.figures.values()]
    assert " ".join(poses) == POSES[method]
    assert " ".join(depth) == DEPTH[method]


def test_without_measurements_our_cells_are_empty() -> None:
    page = tables_page(read_published(), [])
    for row in cells(page, "this repository"):
        assert set(row[1:-1]) == {""}
        assert row[-1] == "not measured yet"
    assert len(cells(page, "this repository")) == 4


def test_measured_rows_are_means_over_sequences_of_their_data_set(tmp_path: Path) -> None:
    rows = [
        Row("7scenes/redkitchen (evaluation only)", "network×bundle", metrics(0.04)),
        Row("7scenes/redkitchen (evaluation only)", "sensor×bundle", metrics(0.05)),
        Row("hololens (trained on)", "network×bundle", metrics(9.0)),
        Row("demo room (synthetic)", "network×bundle", metrics(9.0)),
    ]
    small = read_results(results(tmp_path / "a.json", "shared-small", rows))
    page = tables_page(read_published(), small)
    (depth,) = cells(page, "this repository, network×bundle, as predicted")
    pose, rotation = cells(page, "this repository, network×bundle")
    assert depth[1:3] == ["0.200", "70.00"]
    assert not cells(page, "this repository, sensor×bundle, as predicted")  # it would be judged by itself
    assert len(cells(page, "this repository, sensor×bundle")) == 2  # poses, rotations
    assert pose[1:8] == ["", "0.040", "0.020", "0.0060", "", "0.250", "1.500"]
    assert rotation[1:5] == ["", "0.250", "1.500", "1.25"]
    assert "9.0" not in page
    assert "/home/someone" not in page


def test_sequences_are_averaged_and_absent_ones_left_out(tmp_path: Path) -> None:
    known = {"chess": 0.1, "fire": 0.3, "office": 0.5}
    scenes = [Row(f"{name}/seq-01", "network×none", metrics(ate)) for name, ate in known.items()]
    scenes.append(Row("stairs/seq-01", "network×none", problem="not in the data folder"))
    page = tables_page((), read_results(results(tmp_path / "b.json", "7scenes-seq01", scenes)))
    row = cells(page, "this repository, network×none")[0]
    assert row[2:4] == ["0.300", "0.150"]
    assert row[8] == "7scenes-seq01 version 2: mean of 3 sequences"


def test_a_figure_that_one_sequence_lacks_is_not_averaged(tmp_path: Path) -> None:
    rows = [
        Row("chess/seq-01", "network×none", metrics(0.1)),
        Row("fire/seq-01", "network×none", metrics(0.3, None)),
    ]
    page = tables_page((), read_results(results(tmp_path / "a.json", "7scenes-seq01", rows)))
    row = cells(page, "this repository, network×none")[0]
    assert row[6:8] == ["0.250", ""]


def test_a_later_result_replaces_an_earlier_one(tmp_path: Path) -> None:
    pages = [
        results(
            tmp_path / f"{ate}.json", "7scenes-seq01", [Row("chess/seq-01", "network×none", metrics(ate))]
        )
        for ate in (0.5, 0.1)
    ]
    page = tables_page((), [m for path in pages for m in read_results(path)])
    assert cells(page, "this repository, network×none")[0][2] == "0.100"


def test_recorded_peers_are_named_without_their_folder() -> None:
    assert shown_method("recorded:cut3r:/data/x/out×none") == "cut3r, recorded, ×none"
    assert shown_method("recorded:/data/x/slam3r×bundle") == "slam3r, recorded, ×bundle"
    assert shown_method("sensor×bundle") == "this repository, sensor×bundle"


def test_unknown_figures_and_bad_pages_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such figures: ate_cm"):
        PublishedRow(table="pose", dataset="7scenes", method="A", figures={"ate_cm": "3"})
    with pytest.raises(ValueError, match="rte_m"):
        PublishedRow(table="pose", dataset="7scenes", method="A", figures={"rte_m": "nan"})
    for text in ("{}", "[1]", "no JSON", json.dumps({"protocol": {"name": "x"}, "rows": []})):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError, match="not a JSON page"):
            read_results(tmp_path / "bad.json")


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    assert main(["tables", "--out", str(tmp_path / "page.md")]) == 0
    page = (tmp_path / "page.md").read_text()
    assert cells(page, "SLAM3R")[0][1:3] == ["0.148", "85.82"]
    assert main(["tables", str(tmp_path / "absent.json"), "--out", str(tmp_path / "page.md")]) == 1


def test_a_published_file_needs_its_source() -> None:
    with pytest.raises(ValueError, match="source"):
        Published.model_validate({"protocol": "x", "rows": ()})
