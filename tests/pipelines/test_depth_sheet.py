"""Sheets of pictures of runs."""

from pathlib import Path

import cv2
import pytest

from remov3r.pipelines.config import PipelineConfig
from remov3r.pipelines.depth_sheet import HEADINGS, TILE, keyframe_of, main
from remov3r.pipelines.export import save_reconstruction
from remov3r.pipelines.output_folder import OutputFolder
from tests.pipelines.results import reconstruction


def test_a_row_for_each_run_with_and_without_a_mesh(tmp_path: Path) -> None:
    for name in ("meshed", "bare"):
        result = reconstruction(name == "meshed")
        save_reconstruction(OutputFolder(tmp_path / name), result, PipelineConfig(), "the room")
    out = tmp_path / "sheet.jpg"
    assert main([f"{tmp_path / 'meshed'}:5", str(tmp_path / "bare"), "--out", str(out)]) == 0
    picture = cv2.imread(str(out))
    assert picture is not None
    assert picture.shape[1] == TILE[0] * len(HEADINGS)
    rows = picture[22:].reshape(2, -1, TILE[0] * len(HEADINGS), 3)[:, : TILE[1]]
    tiles = [rows[:, :, TILE[0] * i : TILE[0] * (i + 1)] for i in range(len(HEADINGS))]
    assert all(tile[0].std() > 3 for tile in (tiles[1], tiles[2], tiles[5])), "depths and mesh show something"
    assert tiles[5][1].std() < 1, "no mesh, no view of it"


def test_the_nearest_keyframe_is_taken_and_trouble_is_named(tmp_path: Path) -> None:
    keyframes = reconstruction().keyframes
    assert keyframe_of(keyframes, 10_000).frame_index == keyframes[-1].frame_index
    with pytest.raises(SystemExit, match=r"no trajectory\.tum there"):
        main([str(tmp_path / "nothing"), "--out", str(tmp_path / "a.jpg")])
