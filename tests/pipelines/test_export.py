"""What is saved must come back the same, and be readable by the tools that people use."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evo.tools import file_interface

from remov3r.errors import DataError
from remov3r.pipelines.config import PipelineConfig, load_config
from remov3r.pipelines.export import OWN_FILES, json_text, save_reconstruction
from remov3r.pipelines.load import load_reconstruction, read_source_name
from remov3r.pipelines.output_folder import OutputFolder
from remov3r.types import Reconstruction
from tests.pipelines.results import mesh, reconstruction


def saved(path: Path, result: Reconstruction) -> OutputFolder:
    folder = OutputFolder(path)
    save_reconstruction(folder, result, PipelineConfig(), "the room")
    folder.tidy(OWN_FILES)
    return folder


def test_round_trip(tmp_path: Path) -> None:
    result = reconstruction()
    saved(tmp_path, result)
    back = load_reconstruction(tmp_path)
    for name in ("trajectory", "online"):
        old, new = getattr(result, name), getattr(back, name)
        np.testing.assert_allclose(new.T_world_cam, old.T_world_cam, atol=1e-8)
        np.testing.assert_allclose(new.timestamps_s, old.timestamps_s, atol=1e-6)
        np.testing.assert_array_equal(new.frame_index, old.frame_index)
        np.testing.assert_array_equal(new.is_keyframe, result.trajectory.is_keyframe)
    assert back.trajectory.state == result.trajectory.state
    assert (back.timings, back.notes) == (result.timings, result.notes)
    assert read_source_name(tmp_path) == "the room"
    assert back.mesh is not None
    assert back.cloud is not None
    np.testing.assert_array_equal(back.mesh.triangles, mesh().triangles)


def test_keyframes_round_trip(tmp_path: Path) -> None:
    result = reconstruction()
    saved(tmp_path, result)
    back = load_reconstruction(tmp_path).keyframes
    assert [k.frame_index for k in back] == [0, 8, 16]
    for old, new in zip(result.keyframes, back):
        np.testing.assert_array_equal(new.dense.depth_m, old.dense.depth_m)
        np.testing.assert_array_equal(new.aligned.depth_m, old.aligned.depth_m)
        np.testing.assert_allclose(new.dense.sigma_m, old.dense.sigma_m, rtol=1e-3)
        np.testing.assert_allclose(new.dense.points_cam, old.dense.points_cam, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(new.aligned.points_cam, old.aligned.points_cam, rtol=1e-5)
        np.testing.assert_allclose(new.T_world_cam, old.T_world_cam)
        assert new.dense.camera == old.dense.camera
        assert np.abs(new.rgb.astype(int) - old.rgb).max() <= 4  # JPEG


def test_evo_reads_the_trajectories(tmp_path: Path) -> None:
    result = reconstruction()
    saved(tmp_path, result)
    back = file_interface.read_tum_trajectory_file(str(tmp_path / "trajectory.tum"))
    np.testing.assert_allclose(np.stack(back.poses_se3), result.trajectory.T_world_cam, atol=1e-7)
    keys = file_interface.read_tum_trajectory_file(str(tmp_path / "keyframes.tum"))
    assert keys.num_poses == 3


def test_saved_configuration_can_be_used_again(tmp_path: Path) -> None:
    saved(tmp_path, reconstruction())
    assert load_config(tmp_path / "config.toml") == PipelineConfig()
    assert (tmp_path / "config.toml").read_text().startswith("# remov3r 0.")
    assert tomllib.loads((tmp_path / "config.toml").read_text())["backend"] == "bundle"


def test_covariances_are_written_when_known_and_their_absence_is_stated(tmp_path: Path) -> None:
    result = reconstruction()
    saved(tmp_path / "without", result)
    assert not (tmp_path / "without/covariances.npz").exists()
    assert "not known" in json.loads((tmp_path / "without/summary.json").read_text())["covariances"]
    covariances = np.arange(12 * 36, dtype=float).reshape(12, 6, 6)
    saved(tmp_path / "with", replace(result, trajectory=replace(result.trajectory, covariances=covariances)))
    back = load_reconstruction(tmp_path / "with").trajectory.covariances
    assert back is not None
    np.testing.assert_array_equal(back, covariances)


def test_a_second_run_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    saved(tmp_path, reconstruction())
    (tmp_path / "my notes.txt").write_text("keep")
    (tmp_path / "keyframes/000777.npz").write_bytes(b"of an earlier run")
    saved(tmp_path, reconstruction(meshed=False))
    assert not (tmp_path / "mesh.ply").exists()
    assert not (tmp_path / "keyframes/000777.npz").exists()
    assert (tmp_path / "my notes.txt").read_text() == "keep"
    assert load_reconstruction(tmp_path).mesh is None


def test_json_has_no_nan() -> None:
    tree = {"a": float("nan"), "b": [1.5, float("inf")], "c": {"d": "text", "e": None}}
    assert json.loads(json_text(tree)) == {"a": None, "b": [1.5, None], "c": {"d": "text", "e": None}}


@pytest.mark.parametrize("damaged", ["frames.csv", "timings.json", "trajectory.tum", "keyframes/000008.npz"])
def test_damaged_outputs_are_refused(tmp_path: Path, damaged: str) -> None:
    saved(tmp_path, reconstruction())
    (tmp_path / damaged).write_bytes(b"garbage\n")
    with pytest.raises(DataError, match=str(tmp_path)):
        load_reconstruction(tmp_path)


def test_a_folder_that_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no trajectory\.tum"):
        load_reconstruction(tmp_path)
