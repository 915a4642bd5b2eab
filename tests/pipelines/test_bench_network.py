from __future__ import annotations

from pathlib import Path

import pytest
import torch

from remov3r.models.network import Remov3rNetwork
from remov3r.models.sizes import network_config
from remov3r.pipelines.bench_network import BenchOptions, as_markdown, measure
from remov3r.pipelines.cli import main


def test_the_lite_network_is_measured_stage_by_stage() -> None:
    figures = measure(BenchOptions("lite", "cpu", "float32", False, 5, torch.get_num_threads()))
    network = Remov3rNetwork(network_config("lite"))
    assert figures.parameters == sum(p.numel() for p in network.parameters())
    assert figures.trainable < figures.parameters
    assert "scale_shift" not in figures.stages_ms  # not part of lite
    assert all(ms > 0 for ms in figures.stages_ms.values())
    assert figures.stages_ms["encoder"] > figures.stages_ms["global_state"]
    assert figures.frame_ms > 0
    assert figures.memory_mb > 4 * figures.parameters / 2**20
    page = as_markdown([figures])
    assert f"| lite | 256x192 | {figures.parameters / 1e6:.1f} |" in page
    assert "pointmap_encoder" in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sizes", "huge"], "none of lite, small, paper"),
        (["--device", "cuda"], "no GPU"),
        (["--frames", "1"], "2 or more"),
    ],
)
def test_what_cannot_be_measured_is_said(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["bench", "network", *arguments]) == 1
    assert says in capsys.readouterr().err


def test_the_table_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a" / "bench.md"
    assert (
        main(["bench", "network", "--sizes", "lite", "--device", "cpu", "--frames", "2", "--out", str(out)])
        == 0
    )
    assert "| lite | 256x192 |" in out.read_text()
    assert "keyframe ms" in capsys.readouterr().out
