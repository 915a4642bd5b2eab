"""The output folder: checked first, never half written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from remov3r.errors import DataError
from remov3r.pipelines.output_folder import OutputFolder


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file/out: cannot be written: Not a directory"):
        OutputFolder(tmp_path / "file/out")


def test_a_full_disk_is_seen_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1000, 999, 1))
    with pytest.raises(DataError, match="0 MB free"):
        OutputFolder(tmp_path / "out")


def test_the_probe_leaves_nothing(tmp_path: Path) -> None:
    OutputFolder(tmp_path / "a/b")
    assert list((tmp_path / "a/b").iterdir()) == []


def test_a_write_that_fails_keeps_the_older_file_and_names_what_is_safe(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    folder.put_text("trajectory.tum", "old")

    def fails(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"mesh\.ply: .*No space left.*saved so far: trajectory\.tum"):
        folder.put("mesh.ply", fails)
    with pytest.raises(DataError):
        folder.put("trajectory.tum", fails)
    assert (tmp_path / "trajectory.tum").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["trajectory.tum"]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    folder = OutputFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        folder.put("mesh.ply", interrupted)
    assert list(tmp_path.iterdir()) == []
