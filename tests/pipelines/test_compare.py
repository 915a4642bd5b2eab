"""`remov3r compare` from files to table, plots and per-frame errors."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("evo")
pytest.importorskip("matplotlib")

from remov3r.data.tum_trajectory import write_tum
from remov3r.pipelines.cli import main
from tests.eval.test_input_checks import carried, estimated


def write_files(folder: Path) -> list[str]:
    write_tum(folder / "gt.tum", carried())
    write_tum(folder / "good.tum", estimated())
    np.savez(
        folder / "small.npz", timestamps_s=carried().timestamps_s, T_world_cam=estimated(0.5).T_world_cam
    )
    np.savetxt(folder / "kitti.txt", estimated(1000.0).T_world_cam[:, :3].reshape(-1, 12))
    return [str(folder / name) for name in ("good.tum", "small.npz", "kitti.txt")]


def test_any_number_of_trajectories_of_any_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write_files(tmp_path)
    out = tmp_path / "out"
    assert (
        main(["compare", *files, files[0], "--reference", str(tmp_path / "gt.tum"), "--out", str(out)]) == 0
    )
    printed = capsys.readouterr().out
    assert (out / "comparison.md").read_text() in printed
    assert "kitti: the scale is 0.001: likely the estimate is in millimetres" in printed
    tree = json.loads((out / "comparison.json").read_text())["trajectories"]
    assert list(tree) == ["good 1", "small", "kitti", "good 2"]
    assert tree["small"]["sim3"]["scale"] == pytest.approx(2, rel=0.01)
    assert tree["good 1"] == tree["good 2"]
    with (out / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["ATE Sim(3) m"]) == pytest.approx(tree["small"]["sim3"]["ate_rmse_m"], abs=1e-4)
    with (out / "errors_small.csv").open() as file:
        ate = np.array([float(row["ate_m"]) for row in csv.DictReader(file)])
    assert np.sqrt((ate**2).mean()) == pytest.approx(tree["small"]["se3"]["ate_rmse_m"])
    with np.load(out / "errors.npz") as archive:
        np.testing.assert_allclose(archive["small/ate_m"], ate, rtol=1e-7)
    for name in ("trajectories.png", "errors.png"):
        image = cv2.imread(str(out / name))
        assert image is not None
        assert image.shape[0] > 600
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50, "not blank"


def test_an_error_names_the_trajectory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_files(tmp_path)
    write_tum(tmp_path / "later.tum", replace(carried(), timestamps_s=carried().timestamps_s + 900.5))
    arguments = ["compare", str(tmp_path / "later.tum"), "--reference", str(tmp_path / "gt.tum")]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    assert "remov3r: later: no timestamp of the estimate" in capsys.readouterr().err
