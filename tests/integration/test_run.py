"""The whole pipeline through the command line and through Python."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from evo.tools import file_interface

from remov3r import Slam, open_source
from remov3r.backends.none import FrontEndOnlyBackend
from remov3r.backends.open3d_import import load_open3d
from remov3r.errors import TrackingError
from remov3r.frontends.network import NetworkFrontEnd, NetworkFrontEndConfig
from remov3r.models.weights import save_network
from remov3r.pipelines.config import PipelineConfig, load_config
from remov3r.pipelines.demo import DemoFiles
from remov3r.pipelines.load import load_reconstruction
from remov3r.types import Frame
from tests.integration.conftest import FRAMES, Run
from tests.models.tiny import tiny_network

ALWAYS = {
    *("trajectory.tum", "trajectory_online.tum", "keyframes.tum", "frames.csv", "config.toml"),
    *("timings.json", "summary.json", "report.html", "cloud.ply", "mesh.ply", "keyframes", "session"),
}
SENSOR = PipelineConfig(front_end="sensor", mesh=False)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network with random weights: it runs, it knows nothing."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_network(tiny_network(), path, version="0", sigma_factor=1.0)
    return path


def frames(room: DemoFiles, count: int) -> list[Frame]:
    return list(open_source(room.frames, max_frames=count, sensor=True))


def test_every_output_file_is_there_and_can_be_read(finished: Path) -> None:
    scored = {"reference.tum", "metrics.json", "trajectory.png", "errors.png"}
    assert {path.name for path in finished.iterdir()} == ALWAYS | scored | {"covariances.npz"}
    for name, poses in (("trajectory", FRAMES), ("trajectory_online", FRAMES)):
        assert file_interface.read_tum_trajectory_file(str(finished / f"{name}.tum")).num_poses == poses
    result = load_reconstruction(finished)
    assert len(result.trajectory) == FRAMES
    assert len(result.keyframes) == result.trajectory.is_keyframe.sum() >= 1
    mesh = trimesh.load(finished / "mesh.ply", process=False)
    cloud = load_open3d().io.read_point_cloud(str(finished / "cloud.ply"))
    assert len(mesh.faces) > 1000
    assert len(cloud.points) == len(mesh.vertices)
    assert load_config(finished / "config.toml") == load_config("lite", ["front_end=sensor"])


def test_the_trajectory_the_depth_and_the_map_are_right(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    every = metrics["trajectory"]["all"]
    assert every["se3"]["ate_rmse_m"] < 0.05
    assert every["poses"] == every["frames"] == FRAMES
    assert metrics["depth"]["aligned"]["abs_rel"] < 0.01
    assert metrics["map"]["accuracy_m"] < 0.03
    assert metrics["map"]["f_score_5cm"] > 0.6


def test_timings_name_every_stage(finished: Path) -> None:
    timings = json.loads((finished / "timings.json").read_text())
    assert timings["frames_per_s"] > 0
    assert timings["peak_rss_mb"] > 100
    assert {"reading", "front_end", "tracking", "closing_optimisation", "fusion"} <= set(timings["stages"])
    assert timings["stages"]["tracking"]["calls"] == FRAMES
    assert set(timings["stages"]["tracking"]) == {"median_ms", "p99_ms", "calls"}


def test_summary_names_every_file(room: DemoFiles, remov3r: Run, tmp_path: Path) -> None:
    options = ("--front-end", "sensor", "--no-mesh", "--start", 3, "--stride", 2, "--max-frames", 6)
    done = remov3r("run", room.frames, *options, "--out", tmp_path)
    assert done.status == 0
    for path in tmp_path.iterdir():
        assert path.name in done.out
    assert "no mesh and no cloud: switched off" in done.out
    assert "no covariances.npz" in done.out
    assert done.err == ""  # no progress bar where nobody watches
    assert list(load_reconstruction(tmp_path).trajectory.frame_index) == [3, 5, 7, 9, 11, 13]


def test_scoring_again_gives_the_same_and_a_bare_reference_scores_the_path(
    finished: Path, room: DemoFiles, remov3r: Run, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    before = json.loads((out / "metrics.json").read_text())
    assert remov3r("eval", out, "--reference", room.frames).status == 0
    again = json.loads((out / "metrics.json").read_text())
    assert again["trajectory"]["all"]["se3"] == pytest.approx(before["trajectory"]["all"]["se3"], rel=1e-3)
    assert again["depth"]["metric"] == pytest.approx(before["depth"]["metric"], rel=1e-3)
    assert remov3r("eval", out, "--reference", room.frames, "--mesh", out / "mesh.ply").status == 0
    by_mesh = json.loads((out / "metrics.json").read_text())
    assert by_mesh["map"]["accuracy_m"] != again["map"]["accuracy_m"]
    assert remov3r("eval", out, "--reference", room.frames, "--mesh", out / "no.ply").status == 1
    done = remov3r("eval", out, "--reference", room.video.with_suffix(".tum"))
    assert "ATE SE(3)" in done.out
    assert set(json.loads((out / "metrics.json").read_text())) == {"trajectory"}


def test_ten_lines_of_python(room: DemoFiles) -> None:
    with Slam.from_config(SENSOR) as slam:
        for frame in open_source(room.frames, sensor=True, max_frames=10):
            tracked = slam.track(frame)
        result = slam.finish()
    assert tracked.frame_index == 9
    assert len(result.trajectory) == 10
    with pytest.raises(TrackingError, match="finished"):
        slam.track(frame)


def test_same_input_gives_the_same_output(room: DemoFiles) -> None:
    paths = []
    for _ in range(2):
        slam = Slam.from_config(SENSOR)
        for frame in frames(room, 15):
            slam.track(frame)
        paths.append(slam.finish().trajectory.T_world_cam)
    np.testing.assert_array_equal(paths[0], paths[1])


@pytest.mark.parametrize("backend", ["bundle", "none"])
def test_ground_truth_does_not_leak_into_a_monocular_run(
    room: DemoFiles, weights: Path, backend: str
) -> None:
    config = load_config("lite", [f"network.weights={weights}", f"backend={backend}", "mesh=false"])
    outcomes = []
    for blindfold in (False, True):
        slam = Slam.from_config(config)
        for frame in frames(room, 12):
            slam.track(replace(frame, depth_m=None, T_world_cam=None) if blindfold else frame)
        outcomes.append(slam.finish())
    seeing, blind = outcomes
    np.testing.assert_array_equal(seeing.trajectory.T_world_cam, blind.trajectory.T_world_cam)
    np.testing.assert_array_equal(seeing.online.T_world_cam, blind.online.T_world_cam)
    for a, b in zip(seeing.keyframes, blind.keyframes, strict=True):
        np.testing.assert_array_equal(a.aligned.depth_m, b.aligned.depth_m)


def test_the_front_end_is_shown_no_ground_truth(room: DemoFiles, weights: Path) -> None:
    seen: list[Frame] = []

    class Spy(NetworkFrontEnd):
        def process(self, frame: Frame):  # type: ignore[no-untyped-def]
            seen.append(frame)
            return super().process(frame)

    spy = Spy(NetworkFrontEndConfig(weights=str(weights)))
    slam = Slam(spy, FrontEndOnlyBackend(), PipelineConfig(mesh=False))
    for frame in frames(room, 2):
        assert frame.depth_m is not None
        assert frame.T_world_cam is not None
        slam.track(frame)
    assert [(f.depth_m, f.T_world_cam) for f in seen] == [(None, None)] * 2


def test_demo_renders_runs_and_reports(weights: Path, remov3r: Run, tmp_path: Path) -> None:
    done = remov3r("demo", "--seconds", 0.3, "--set", f"network.weights={weights}", "--out", tmp_path)
    assert done.status == 0, done.err
    assert done.out.rstrip().endswith(str(tmp_path / "report.html"))
    assert (tmp_path / "input/room.mp4").stat().st_size > 10_000
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["trajectory"]["all"]["poses"] == metrics["trajectory"]["all"]["frames"] == 9
    assert metrics["depth"]["frames"] >= 1
    assert remov3r("demo", "--seconds", 0, "--out", tmp_path).status == 1


def test_a_video_runs_from_its_rgb_alone(
    room: DemoFiles, weights: Path, remov3r: Run, tmp_path: Path
) -> None:
    done = remov3r("run", room.video, "--set", f"network.weights={weights}", "--out", tmp_path)
    assert done.status == 0, done.err
    assert len(load_reconstruction(tmp_path).trajectory) == FRAMES
    assert set(json.loads((tmp_path / "metrics.json").read_text())) == {"trajectory"}
