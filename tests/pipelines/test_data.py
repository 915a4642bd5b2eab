"""`remov3r data`: tables, exit states, packed files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from remov3r.geometry import inverse
from remov3r.pipelines.cli import main
from tests.data.layouts import pose_of, room_frames, write_posed


def test_check_prints_a_table_and_says_by_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    frames = room_frames(20)
    folder = write_posed(tmp_path / "room", frames)
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "no errors" in capsys.readouterr().out
    np.savetxt(folder / "poses.txt", [inverse(pose_of(f)).ravel() for f in frames])
    assert main(["data", "check", str(folder)]) == 1
    said = capsys.readouterr().out
    assert all(
        part in said for part in ("inverted poses", "world to camera", "store their inverses", "1 errors")
    )


def test_nothing_to_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tmp_path)]) == 1
    assert "no sequence" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["data", "tidy"])


def test_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_posed(tmp_path / "room", room_frames(3))
    arguments = ["data", "pack", str(tmp_path / "room"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--size", "40by30"]) == 1
    assert "--size '40by30'" in capsys.readouterr().err
    assert main([*arguments, "--size", "40x30"]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["room.tar", "room.tar.index.npz"]
    assert "1 sequences packed" in capsys.readouterr().out
