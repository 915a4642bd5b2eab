"""metrics.json has exactly its fixed keys, and a run is measured against a source with ground truth."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("evo")

from remov3r.camera import Camera
from remov3r.data.pose_files import known_trajectory
from remov3r.data.sources import open_source
from remov3r.eval.metrics import EvalConfig, Metrics, evaluate
from remov3r.types import DensePrediction, Keyframe, Mesh, Reconstruction, Timings
from tests.data.helpers import HEIGHT, WIDTH, image, pose, write_posed

# The names other tools rely on; there may be more.
FIXED = {
    *{
        f"trajectory.{which}.{name}"
        for which in ("all", "keyframes", "online")
        for name in (
            "se3.ate_rmse_m",
            "sim3.ate_rmse_m",
            "sim3.scale",
            "rte_rmse_m",
            "rre_rmse_deg",
            "poses",
            "frames",
        )
    },
    *{
        f"depth.{variant}.{name}"
        for variant in ("metric", "median", "scale_shift", "aligned")
        for name in ("abs_rel", "delta_1_25")
    },
    "depth.frames",
    *(f"map.{name}" for name in ("accuracy_m", "completeness_m", "chamfer_m", "f_score_5cm")),
}


def keyframe(index: int, depth_m: float) -> Keyframe:
    camera = Camera(WIDTH, HEIGHT, 60, 61, 31.5, 23.5).resized(WIDTH // 2, HEIGHT // 2)
    ones = np.ones((HEIGHT // 2, WIDTH // 2), np.float32)
    points = np.zeros((*ones.shape, 3), np.float32)
    dense = DensePrediction(camera, depth_m * ones, ones, points, ones, ones)
    true = DensePrediction(camera, (1 + 0.01 * index) * ones, ones, points, ones, ones)
    return Keyframe(index, 0.1 * index, image(index, WIDTH // 2, HEIGHT // 2), pose(index), dense, true)


def run_of(count: int) -> Reconstruction:
    n = range(count)
    trajectory = known_trajectory(n, [0.1 * i for i in n], [pose(i) for i in n])
    x, y = np.meshgrid([-3.0, 3.0], [-3.0, 3.0])
    vertices = np.stack([x.ravel(), y.ravel(), np.full(4, 1.0)], 1)
    mesh = Mesh(vertices, np.array([[0, 1, 2], [1, 2, 3]]), np.zeros((4, 3)), np.zeros((4, 3)))
    keyframes = (keyframe(0, 1.2), keyframe(3, 1.2 * 1.03))
    return Reconstruction(trajectory, trajectory, keyframes, Timings(30.0, {}, 100.0), mesh)


def names(tree: Any, prefix: str = "") -> set[str]:
    if not isinstance(tree, dict):
        return {prefix.rstrip(".")}
    return set().union(*(names(value, f"{prefix}{key}.") for key, value in tree.items()))


def test_a_run_against_its_source(tmp_path: Path) -> None:
    source = open_source(write_posed(tmp_path / "room", 5), sensor=True)
    metrics = evaluate(run_of(5), source.reference(), source, EvalConfig(map_every=1))
    tree = json.loads(metrics.to_json())
    assert names(tree) >= FIXED
    assert tree["trajectory"]["all"]["se3"]["ate_rmse_m"] == pytest.approx(0, abs=1e-6)
    assert tree["depth"]["metric"]["abs_rel"] == pytest.approx(0.2, abs=1e-5)
    assert tree["depth"]["median"]["abs_rel"] == pytest.approx(0, abs=1e-5)
    assert tree["depth"]["aligned"]["abs_rel"] == pytest.approx(0, abs=1e-5)
    assert tree["depth"]["frames"] == 2
    assert tree["map"]["completeness_m"] < 0.05
    assert tree["map"]["visible"]["completeness_m"] < 0.05
    assert tree["trajectory"]["all"]["notes"] == []
    assert "ground_truth" not in tree
    shrunk = evaluate(run_of(5), source.reference(), stored_rotations=np.tile(0.9 * np.eye(3), (5, 1, 1)))
    assert shrunk.ground_truth is not None
    assert shrunk.ground_truth.determinant == pytest.approx(0.729)


def test_the_map_against_a_mesh(tmp_path: Path) -> None:
    source, run = open_source(write_posed(tmp_path / "room", 5), sensor=True), run_of(5)
    m = evaluate(run, source.reference(), source, EvalConfig(map_every=1), truth_mesh=run.mesh).map
    assert m is not None
    assert m.accuracy_m < 0.01
    assert m.normal_consistency == pytest.approx(1)


def test_without_depth_or_reference_the_parts_are_absent(tmp_path: Path) -> None:
    assert json.loads(evaluate(run_of(5), None).to_json()) == {}
    source = open_source(write_posed(tmp_path / "room", 5))
    assert set(json.loads(evaluate(run_of(5), source.reference()).to_json())) == {"trajectory"}
    assert json.loads(Metrics().to_json()) == {}


def test_what_could_not_be_measured_is_null() -> None:
    run = run_of(1)
    tree = json.loads(evaluate(run, run.trajectory).to_json())
    assert tree["trajectory"]["all"]["se3"]["ate_rmse_m"] is None
    assert tree["trajectory"]["all"]["rte_rmse_m"] is None
