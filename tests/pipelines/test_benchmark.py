"""The benchmark page: figures read back from a run, absent data and failures said plainly."""

import json
import sys
from pathlib import Path

import pytest

from remov3r.errors import DataError
from remov3r.pipelines import benchmark

TRAJECTORY = {
    "se3": {"ate_rmse_m": 0.0512},
    "sim3": {"ate_rmse_m": 0.0409, "scale": 1.023},
    "rte_rmse_m": None,
    "rre_rmse_deg": 0.311,
    "poses": 9,
    "frames": 10,
}


def test_figures_come_from_the_files_of_the_run(tmp_path: Path) -> None:
    metrics = {
        "trajectory": {"all": TRAJECTORY, "online": TRAJECTORY},
        "depth": {"metric": {"abs_rel": 0.2, "delta_1_25": 0.6}, "aligned": None},
        "map": {"accuracy_m": 0.021, "completeness_m": 0.034},
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "timings.json").write_text(json.dumps({"frames_per_s": 21.26, "peak_rss_mb": 812.4}))
    assert benchmark.figures(tmp_path) == [
        "9/10", "0.051", "0.041", "1.023", "0.051", "–", "0.31", "0.200 / 0.600", "–", "2.1 / 3.4", "21.3", "812",
    ]  # fmt: skip
    assert len(benchmark.figures(tmp_path)) == len(benchmark.COLUMNS) - 1


def test_a_run_without_figures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="left no figures"):
        benchmark.figures(tmp_path)


def test_absent_data_is_named_in_the_table(tmp_path: Path) -> None:
    line = benchmark.table_row(benchmark.RUNS[0], tmp_path, tmp_path)
    assert "not in the data folder" in line
    assert line.count("|") == len(benchmark.COLUMNS) + 1


def test_a_failing_run_says_why_and_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "seq").mkdir()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    line = benchmark.table_row(benchmark.Run("x", (), "seq"), tmp_path, tmp_path)
    assert "failed" in line


def test_page_states_hardware_command_and_commit() -> None:
    page = benchmark.page_text(["| a |"], "2026-01-01")
    assert "cores" in page
    assert "make bench" in page
    assert "| a |" in page
    assert "commit" in page or "0." in page


def test_unknown_line_is_a_one_line_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--only", "no such line", "--out", str(tmp_path)]) == 1
    assert "fits none of" in capsys.readouterr().err
