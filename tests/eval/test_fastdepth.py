"""The FastDepth baseline: scoring any single-image model, and its error messages."""

import json
from pathlib import Path

import numpy as np
import pytest

from remov3r.eval.fastdepth import baseline_metrics, main
from tests.data.helpers import write_posed

MODEL = Path(__file__).parents[2].parent / "shared" / "models" / "fastdepth_7.onnx"


def test_a_model_that_always_says_one_metre(tmp_path: Path) -> None:
    folder = write_posed(tmp_path / "room", 3)
    metrics = baseline_metrics(lambda rgb: np.ones((224, 224), np.float32), folder, "auto", [0, 2])
    assert metrics.frames == 2
    assert metrics.metric.abs_rel == pytest.approx((0 + 0.02 / 1.02) / 2, abs=1e-6)


def test_missing_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    assert main(["--onnx", "none.onnx", "--input", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "none.onnx: no such file\n"
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    assert main(["--onnx", str(tmp_path / "bad.onnx"), "--input", str(tmp_path)]) == 1
    assert "not a readable ONNX model" in capsys.readouterr().err


@pytest.mark.skipif(not MODEL.exists(), reason="the FastDepth model does not lie beside the repository")
def test_the_real_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    folder = write_posed(tmp_path / "room", 2)
    assert main(["--onnx", str(MODEL), "--input", str(folder), "--frames", "0,1"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["frames"] == 2
    assert tree["median"]["abs_rel"] < 0.8
