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

TRAJECTORY = {
    "se3": {"ate_rmse_m"},
    "sim3": {"ate_rmse_m", "scale"},
    **dict.fromkeys(("rte_rmse_m", "rre_rmse_deg", "poses", "frames")),
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


def keys(tree: Any) -> Any:
    return {k: keys(v) for k, v in tree.items()} if isinstance(tree, dict) else None


def test_a_run_against_its_source(tmp_path: Path) -> None:
    source = open_source(write_posed(tmp_path / "room", 5), sensor=True)
    metrics = evaluate(run_of(5), source.reference(), source, EvalConfig(map_every=1))
    tree = json.loads(metrics.to_json())
    each = {k: (None if v is None else dict.fromkeys(v)) for k, v in TRAJECTORY.items()}
    errors = dict.fromkeys(("abs_rel", "delta_1_25"))
    assert keys(tree) == {
        "trajectory": dict.fromkeys(("all", "keyframes", "online"), each),
        "depth": {**dict.fromkeys(("metric", "median", "scale_shift", "aligned"), errors), "frames": None},
        "map": dict.fromkeys(("accuracy_m", "completeness_m", "chamfer_m", "f_score_5cm")),
    }
    assert tree["trajectory"]["all"]["se3"]["ate_rmse_m"] == pytest.approx(0, abs=1e-6)
    assert tree["depth"]["metric"]["abs_rel"] == pytest.approx(0.2, abs=1e-5)
    assert tree["depth"]["median"]["abs_rel"] == pytest.approx(0, abs=1e-5)
    assert tree["depth"]["aligned"]["abs_rel"] == pytest.approx(0, abs=1e-5)
    assert tree["depth"]["frames"] == 2
    assert tree["map"]["completeness_m"] < 0.05


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
