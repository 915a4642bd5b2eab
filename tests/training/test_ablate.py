from __future__ import annotations

from pathlib import Path

import pytest

from remov3r.config import build, read_toml
from remov3r.pipelines.toml_writer import dump_toml
from remov3r.training.ablate import AblationConfig, main
from remov3r.training.config import read_train_config
from tests.training.runs import run_config, write_run, write_shards


def test_variants_are_trained_once_and_compared(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards")
    run = write_run(tmp_path, run_config(validation={"sets": ["val"]}), shards)
    table = {
        "base": str(tmp_path / "run.toml"),
        "overrides": ["clips.batch=1"],
        "variants": {
            "plain": [],
            "with covariance": ["network.local_state.covariance=true", "loss.covariance=0.1"],
        },
    }
    (tmp_path / "ablations.toml").write_text(dump_toml(table))
    arguments = ["--config", str(tmp_path / "ablations.toml"), *run[2:], "--out", str(tmp_path / "out")]
    arguments += ["--max-steps", "2", "--page", str(tmp_path / "page.md")]
    assert main(arguments) == 0
    page = (tmp_path / "page.md").read_text()
    rows = {
        line.split(" | ")[0].strip("| "): line.split(" | ")
        for line in page.splitlines()
        if line.startswith("| ")
    }
    assert rows["plain"][-1].strip("| ") == "–"  # no covariance, no NEES
    assert float(rows["with covariance"][-1].strip("| ")) > 0
    assert rows["plain"][2] == rows["with covariance"][2] != "–"  # that head costs the depth nothing
    stamp = (tmp_path / "out" / "plain" / "checkpoint.pt").stat().st_mtime_ns
    assert main(arguments) == 0
    assert (tmp_path / "out" / "plain" / "checkpoint.pt").stat().st_mtime_ns == stamp
    assert (tmp_path / "page.md").read_text() == page


def test_every_shipped_variant_is_a_valid_configuration() -> None:
    config = build(AblationConfig, read_toml("ablations_lite"), "ablations_lite")
    trees = [read_train_config(config.base, [*config.overrides, *v]) for v in config.variants.values()]
    assert len({t.model_dump_json() for t in trees}) == len(trees)  # no two are the same


def test_a_misspelt_variant_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.toml").write_text('base = "train_lite"\n[variants]\n"x" = ["loss.smothness=1"]\n')
    assert (
        main(
            [
                "--config",
                str(tmp_path / "a.toml"),
                "--shards",
                "x",
                "--out",
                str(tmp_path),
                "--max-steps",
                "1",
            ]
        )
        == 1
    )
    assert "smothness" in caplog.text
