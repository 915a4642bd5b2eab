"""Map errors of planes, whose distances are known."""

from dataclasses import replace

import numpy as np
import pytest

from remov3r.errors import DataError
from remov3r.eval.map import MapEvalConfig, cloud_metrics, map_metrics, sample_mesh, thinned, truth_points
from remov3r.geometry import se3_exp, transform
from remov3r.types import Mesh
from tests.data.helpers import plane_frames

CONFIG = MapEvalConfig(samples=100_000)


def square(side_m: float = 1.0, z_m: float = 2.0) -> Mesh:
    h = side_m / 2
    corners = np.array([[-h, -h, z_m], [h, -h, z_m], [h, h, z_m], [-h, h, z_m]])
    zeros = np.zeros_like(corners)
    return Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]]), zeros, zeros)


def grid(side_m: float = 1.0, z_m: float = 2.0, step_m: float = 0.005) -> np.ndarray:
    x = np.arange(-side_m / 2, side_m / 2, step_m)
    X, Y = np.meshgrid(x, x)
    return np.stack([X.ravel(), Y.ravel(), np.full(X.size, z_m)], 1)


@pytest.mark.parametrize("offset_m", [0.0, 0.02, 0.1])
def test_a_plane_moved_along_its_normal(offset_m: float) -> None:
    m = map_metrics(square(z_m=2 + offset_m), grid(), np.eye(4), CONFIG)
    # Points of both lie up to half a grid cell apart within the plane.
    assert m.accuracy_m == pytest.approx(offset_m, abs=0.004)
    assert m.completeness_m == pytest.approx(offset_m, abs=0.006)
    assert m.chamfer_m == pytest.approx(offset_m, abs=0.006)
    assert m.f_score_5cm == (0 if offset_m > 0.05 else 1)


def test_half_a_surface_is_accurate_but_not_complete() -> None:
    mesh = square()
    m = map_metrics(replace(mesh, triangles=mesh.triangles[:1]), grid(), np.eye(4), CONFIG)
    assert m.accuracy_mean_m < 0.005
    assert m.completeness_mean_m > 0.05
    recall = 0.5 + np.sqrt(2) * 0.05  # the half itself and a strip of 5 cm along the diagonal
    assert m.f_score_5cm == pytest.approx(2 * recall / (1 + recall), abs=0.02)


def test_the_alignment_brings_the_mesh_home() -> None:
    T_truth_map = se3_exp(np.array([0.5, -1.0, 2.0, 0.2, 0.4, -0.6]))
    m = map_metrics(square(), transform(T_truth_map, grid()), T_truth_map, CONFIG)
    assert m.accuracy_m < 0.005
    assert m.f_score_5cm == 1


def test_no_surface_and_no_points() -> None:
    mesh = square()
    with pytest.raises(DataError, match="no area"):
        map_metrics(replace(mesh, triangles=mesh.triangles[:0]), grid(), np.eye(4), CONFIG)
    with pytest.raises(DataError, match="0 true points"):
        cloud_metrics(grid(), np.zeros((0, 3)))


def test_samples_cover_the_area_evenly() -> None:
    points = sample_mesh(square(2.0), 40_000)
    assert np.abs(points[:, :2]).max() <= 1
    counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=4)
    np.testing.assert_allclose(counts, 2500, rtol=0.1)


def test_thinning_keeps_the_mean_of_each_cube() -> None:
    points = np.array([[0.001, 0.001, 0.001], [0.003, 0.001, 0.001], [-0.001, 0.0, 0.0]])
    np.testing.assert_allclose(thinned(points, 0.01), [[-0.001, 0, 0], [0.002, 0.001, 0.001]])


@pytest.mark.parametrize(("visits", "seen"), [(2, False), (3, True)])
def test_truth_is_what_enough_frames_saw(visits: int, seen: bool) -> None:
    frames = plane_frames(20)
    elsewhere = np.eye(4)
    elsewhere[0, 3] = 10.0
    frames[:visits] = [replace(frame, T_world_cam=elsewhere) for frame in frames[:visits]]
    points = truth_points(iter(frames))
    np.testing.assert_allclose(points[:, 2], 2.0, atol=1e-6)
    assert (points[:, 0].max() > 8) == seen


def test_frames_without_depth_or_pose() -> None:
    frame = plane_frames(1)[0]
    assert frame.depth_m is not None
    with pytest.raises(DataError, match="frame 0: has no ground-truth depth or pose"):
        truth_points([replace(frame, depth_m=None)])
    assert len(truth_points([replace(frame, depth_m=np.zeros_like(frame.depth_m))])) == 0


def test_one_outlying_view_does_not_thicken_the_surface() -> None:
    frames = plane_frames(20)
    frames[10] = replace(frames[10], depth_m=plane_frames(1, 2.5)[0].depth_m)
    assert truth_points(frames)[:, 2].max() < 2.01
