"""`remov3r benchmark`: runs once, goes on where it stopped, scores the same twice, says what is missing."""

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("evo")

from remov3r.errors import ConfigError, DataError
from remov3r.eval.protocols import ProtocolSequence
from remov3r.pipelines import benchmark
from remov3r.pipelines.benchmark import Method, cases_of
from remov3r.pipelines.benchmark_page import FIGURES, Row, csv_page, markdown_page
from remov3r.pipelines.cli import main
from remov3r.pipelines.evaluate import GroundTruth
from tests.data.helpers import write_posed
from tests.eval.test_protocols import PROTOCOL

TOML = """
name = "tiny"
version = 2
description = "A miniature."
dataset = "posed"
stride = 2
align = "se3"
metrics = ["trajectory", "depth"]
sequences = [{ path = "room*" }, { path = "absent" }]
"""
FAR_TRIANGLE = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
element face 1
property list uchar int vertex_indices
end_header
0 0 100
0.1 0 100
0 0.1 100
3 0 1 2
"""


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Runs carried out, each in this process."""
    done: list[list[str]] = []

    real = subprocess.run

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if command[1:3] != ["-m", "remov3r.pipelines.cli"]:
            return real(command, **options)
        done.append(command[3:])
        return subprocess.CompletedProcess(command, main(command[3:]), "", "a warning\nremov3r: broken")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(benchmark, "code_version", lambda: "the same")
    return done


def test_runs_are_kept_and_figures_repeat(tmp_path: Path, runs: list[list[str]]) -> None:
    write_posed(tmp_path / "data/room_a", 8)
    write_posed(tmp_path / "data/room_b", 6)
    (tmp_path / "tiny.toml").write_text(TOML)
    command = [
        "benchmark",
        str(tmp_path / "tiny.toml"),
        "--data",
        str(tmp_path / "data"),
        "--method",
        "sensor+bundle",
    ]
    command += ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert main(command) == 1, "a sequence is absent"
    assert [run[run.index("--max-frames") + 1] for run in runs] == ["4", "3"]
    pages = {path.suffix: path for path in (tmp_path / "out").iterdir()}
    first = {suffix: path.read_text() for suffix, path in pages.items()}
    tree = json.loads(first[".json"])
    assert [row["problem"] for row in tree["rows"]] == [None, None, "not in the data folder"]
    assert tree["rows"][0]["metrics"]["trajectory"]["all"]["frames"] == 4
    assert set(tree["rows"][0]["metrics"]) == {"trajectory", "depth", "ground_truth"}
    assert {"code", "hardware", "packages"} <= set(tree)
    assert tree["protocol"]["hash"] in first[".md"]
    assert "| room_a | sensor×bundle | 4 | 4 |" in first[".md"]
    assert "- absent, sensor×bundle: not in the data folder" in first[".md"]
    assert main(command) == 1
    assert {suffix: path.read_text() for suffix, path in pages.items()} == first
    assert len(runs) == 2, "nothing ran again"
    next((tmp_path / "runs/tiny").glob("room_b*")).rename(tmp_path / "interrupted")
    assert main(command) == 1
    assert len(runs) == 3, "only what was missing ran"


def test_the_map_is_judged_by_the_mesh_that_the_protocol_names(tmp_path: Path, runs: list[list[str]]) -> None:
    pytest.importorskip("open3d")
    room = write_posed(tmp_path / "data/room_a", 6)
    protocol = TOML.replace('"depth"]', '"map"]\ntruth_mesh = "{sequence}_true.ply"').replace(
        "stride = 2", ""
    )
    (tmp_path / "tiny.toml").write_text(protocol)
    command = ["benchmark", str(tmp_path / "tiny.toml"), "--data", str(tmp_path / "data")]
    command += ["--method", "sensor+bundle", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]

    def first_row() -> dict[str, Any]:
        assert main(command) == 1, "the other sequence is absent"
        page = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
        return dict(page["rows"][0])

    assert "room_a_true.ply: there is no ground-truth mesh here" in first_row()["problem"]
    room.with_name("room_a_true.ply").write_text(FAR_TRIANGLE)
    figures = first_row()["metrics"]["map"]
    assert figures["accuracy_m"] == pytest.approx(100, abs=5), "of the triangle, not of the depth"
    assert figures["visible"] is None, "no camera saw it"
    assert len(runs) == 1, "nothing ran again"
    room.with_name("room_a_true.ply").write_text("nothing")
    assert "holds no triangles" in first_row()["problem"]


def test_a_failed_run_says_why_and_leaves_nothing_to_be_taken_for_a_result(
    tmp_path: Path, runs: list[list[str]]
) -> None:
    write_posed(tmp_path / "data/room_a", 4)
    (tmp_path / "tiny.toml").write_text(TOML)
    command = [
        "benchmark",
        str(tmp_path / "tiny.toml"),
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path),
    ]
    assert main([*command, "--method", "sensor+nothing", "--runs", str(tmp_path / "runs")]) == 1
    page = json.loads(next(tmp_path.glob("tiny_*.json")).read_text())
    assert page["rows"][0]["problem"] == "broken"
    assert all(path.suffix == ".unfinished" for path in (tmp_path / "runs/tiny").iterdir())


def test_methods() -> None:
    assert Method.parse("network+bundle") == Method.parse("network×bundle") == Method("network", "bundle")
    assert Method.parse("recorded:a+b/c+none") == Method("recorded:a+b/c", "none")
    with pytest.raises(ConfigError, match=r"FRONT_END\+BACKEND"):
        Method.parse("network")


def test_depth_alone_needs_no_poses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = write_posed(tmp_path / "room", 3)
    given: list[GroundTruth] = []
    monkeypatch.setattr(benchmark, "load_reconstruction", lambda folder: None)
    monkeypatch.setattr(benchmark, "score", lambda run, truth, config: given.append(truth))
    protocol = PROTOCOL.model_copy(update={"metrics": ("depth",)})
    case = benchmark.Case("room", "posed", room)
    with pytest.raises(DataError, match="no ground truth"):
        benchmark.scored(protocol, case, Method("network", "none"), tmp_path)
    assert given[0].reference is None
    assert given[0].depth is not None


def test_recordings_are_found_by_the_sequence(tmp_path: Path) -> None:
    for name in ("a/seq-01", "b/seq-01"):
        write_posed(tmp_path / name, 3)
    update = {"dataset": "posed", "sequences": (ProtocolSequence(path="*/seq-01", note="a note"),)}
    protocol = PROTOCOL.model_copy(update=update)
    method = Method.parse("recorded:cut3r:outputs/{sequence}+none")
    arguments = [
        benchmark.run_arguments(protocol, case, method, "lite")
        for case in cases_of(protocol, tmp_path, tmp_path)
    ]
    given = [run[run.index("--front-end") + 1] for run in arguments]
    assert given == ["recorded:cut3r:outputs/a/seq-01", "recorded:cut3r:outputs/b/seq-01"]


def test_protocols_of_data_sets_without_a_reader(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no reader of nothing; known: video"):
        list(cases_of(PROTOCOL.model_copy(update={"dataset": "nothing"}), tmp_path, tmp_path))


def test_no_sequence_at_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "benchmark",
        "replica",
        "--data",
        str(tmp_path),
        "--method",
        "sensor+bundle",
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 1
    assert "holds none of the sequences of replica: office0, office1" in capsys.readouterr().err


def test_means_are_over_all_sequences_or_not_given() -> None:
    def row(name: str, ate: float | None, problem: str | None = None) -> Row:
        return Row(
            name, "a×b", {"trajectory": {"all": {"se3": {"ate_rmse_m": ate}, "notes": []}}}, {}, problem
        )

    page = markdown_page(PROTOCOL, [row("x", 0.1), row("y", 0.3)], "2026-01-01", "lite")
    assert "| mean of 2 | a×b | 0.200 |" in page
    assert "mean of" not in markdown_page(
        PROTOCOL, [row("x", 0.1), row("y", None, "lost")], "2026-01-01", "lite"
    )
    assert "| mean of 2 | a×b | – |" in markdown_page(
        PROTOCOL, [row("x", 0.1), row("y", None)], "2026-01-01", "lite"
    )


def test_sequences_weigh_by_their_pixels_where_one_fit_covers_a_sequence() -> None:
    def row(name: str, pixels: int, error: float) -> Row:
        sequence = {"scale": {"abs_rel": error}}
        return Row(name, "a×b", {"depth": {"sequence": sequence, "pooled": {"pixels": pixels}}})

    rows = [row("x", 300, 0.1), row("y", 100, 0.5)]
    per_sequence = PROTOCOL.model_copy(update={"depth_align": "sequence"})
    page = markdown_page(per_sequence, rows, "2026-01-01", "lite")
    assert "headline depth of each sequence" in page
    assert "| sequence | method | sequence scale AbsRel |" in page
    assert "| mean of 2 | a×b | 0.200 |" in page
    assert "sequence scale" not in markdown_page(PROTOCOL, rows, "2026-01-01", "lite")


def test_csv_holds_every_column() -> None:
    rows = list(csv.reader(csv_page([Row("x", "a×b", problem="why, indeed")]).splitlines()))
    assert len(rows[0]) == len(rows[1]) == len(FIGURES) + 3
    assert rows[1][-1] == "why, indeed"


def test_data_error_without_frames_of_the_part(tmp_path: Path) -> None:
    room = write_posed(tmp_path / "room", 3)
    late = PROTOCOL.model_copy(update={"start": 10, "dataset": "posed"})
    with pytest.raises(DataError, match="3 frames leave none"):
        benchmark.run_arguments(late, benchmark.Case("room", "posed", room), Method("sensor", "none"), "lite")
