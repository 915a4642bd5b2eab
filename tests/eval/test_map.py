"""Map errors of planes, whose distances are known."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from remov3r.errors import DataError
from remov3r.eval.map import MapEvalConfig, map_metrics, seen_points, surface_errors
from remov3r.eval.surface import FusedTruth, Surface, fused_truth, sample_mesh, sampled_surface, thinned
from remov3r.geometry import se3_exp
from remov3r.types import Frame, Mesh
from tests.data.helpers import plane_frames

CONFIG = MapEvalConfig(samples=100_000)


def square(side_m: float = 1.0, z_m: float = 2.0) -> Mesh:
    h = side_m / 2
    corners = np.array([[-h, -h, z_m], [h, -h, z_m], [h, h, z_m], [-h, h, z_m]])
    zeros = np.zeros_like(corners)
    return Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]]), zeros, zeros)


def grid(side_m: float = 1.0, z_m: float = 2.0, step_m: float = 0.005) -> Surface:
    x = np.arange(-side_m / 2, side_m / 2, step_m)
    X, Y = np.meshgrid(x, x)
    points = np.stack([X.ravel(), Y.ravel(), np.full(X.size, z_m)], 1)
    return Surface(points, np.tile([0.0, 0.0, -1.0], (len(points), 1)))


def fused(frames: Iterable[Frame]) -> FusedTruth:
    return fused_truth(frames, CONFIG.voxel_m, CONFIG.min_views, CONFIG.min_m, CONFIG.max_m)


@pytest.mark.parametrize("offset_m", [0.0, 0.02, 0.1])
def test_a_plane_moved_along_its_normal(offset_m: float) -> None:
    m = map_metrics(square(z_m=2 + offset_m), grid(), np.eye(4), CONFIG)
    # Points of both lie up to half a grid cell apart within the plane.
    assert m.accuracy_m == pytest.approx(offset_m, abs=0.004)
    assert m.completeness_m == pytest.approx(offset_m, abs=0.006)
    assert m.chamfer_m == pytest.approx(offset_m, abs=0.006)
    assert m.f_score_5cm == m.precision_5cm == m.recall_5cm == (0 if offset_m > 0.05 else 1)
    assert m.normal_consistency == pytest.approx(1)
    assert m.visible is None


def test_half_a_surface_is_accurate_but_not_complete() -> None:
    mesh = square()
    m = map_metrics(replace(mesh, triangles=mesh.triangles[:1]), grid(), np.eye(4), CONFIG)
    assert m.accuracy_mean_m < 0.005
    assert m.completeness_mean_m > 0.05
    recall = 0.5 + np.sqrt(2) * 0.05  # the half itself and a strip of 5 cm along the diagonal
    assert m.f_score_5cm == pytest.approx(2 * recall / (1 + recall), abs=0.02)


def test_the_alignment_brings_the_mesh_home() -> None:
    T_truth_map = se3_exp(np.array([0.5, -1.0, 2.0, 0.2, 0.4, -0.6]))
    m = map_metrics(square(), grid().moved(T_truth_map), T_truth_map, CONFIG)
    assert m.accuracy_m < 0.005
    assert m.normal_consistency == pytest.approx(1)
    assert m.f_score_5cm == 1


def test_no_surface_and_no_points() -> None:
    mesh = square()
    with pytest.raises(DataError, match="no area"):
        map_metrics(replace(mesh, triangles=mesh.triangles[:0]), grid(), np.eye(4), CONFIG)
    with pytest.raises(DataError, match="0 true points"):
        surface_errors(grid(), grid().chosen(np.zeros(len(grid().points_m), bool)))


def test_samples_cover_the_area_evenly() -> None:
    surface = sample_mesh(square(2.0), 40_000)
    points = surface.points_m
    np.testing.assert_allclose(np.abs(surface.normals), np.tile([0, 0, 1], (40_000, 1)))
    assert np.abs(points[:, :2]).max() <= 1
    counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=4)
    np.testing.assert_allclose(counts, 2500, rtol=0.1)


def test_thinning_keeps_the_mean_of_each_cube() -> None:
    points = np.array([[0.001, 0.001, 0.001], [0.003, 0.001, 0.001], [-0.001, 0.0, 0.0]])
    one = thinned(Surface(points, np.array([[0.6, 0.8, 0.0], [0.8, 0.6, 0.0], [np.nan] * 3])), 0.01)
    np.testing.assert_allclose(one.points_m, [[-0.001, 0, 0], [0.002, 0.001, 0.001]])
    np.testing.assert_allclose(one.normals, [[np.nan] * 3, [0.5**0.5, 0.5**0.5, 0]])


@pytest.mark.parametrize(("visits", "seen"), [(2, False), (3, True)])
def test_truth_is_what_enough_frames_saw(visits: int, seen: bool) -> None:
    frames = plane_frames(20)
    elsewhere = np.eye(4)
    elsewhere[0, 3] = 10.0
    frames[:visits] = [replace(frame, T_world_cam=elsewhere) for frame in frames[:visits]]
    truth = fused(iter(frames))
    points = truth.surface.points_m
    assert len(truth.views) == 20
    inner = np.isfinite(truth.surface.normals).all(1)
    assert inner.mean() > 0.9
    np.testing.assert_allclose(np.abs(truth.surface.normals[inner, 2]), 1, atol=1e-6)
    np.testing.assert_allclose(points[:, 2], 2.0, atol=1e-6)
    assert (points[:, 0].max() > 8) == seen


def test_frames_without_depth_or_pose() -> None:
    frame = plane_frames(1)[0]
    assert frame.depth_m is not None
    with pytest.raises(DataError, match="frame 0: has no ground-truth depth or pose"):
        fused([replace(frame, depth_m=None)])
    assert len(fused([replace(frame, depth_m=np.zeros_like(frame.depth_m))]).surface.points_m) == 0


def test_one_outlying_view_does_not_thicken_the_surface() -> None:
    frames = plane_frames(20)
    frames[10] = replace(frames[10], depth_m=plane_frames(1, 2.5)[0].depth_m)
    assert fused(frames).surface.points_m[:, 2].max() < 2.01


def test_a_tilted_copy_has_the_cosine_of_the_tilt_for_its_normals() -> None:
    tilt = se3_exp(np.array([0, 0, 0, 0.4, 0, 0]))
    m = map_metrics(square(), grid(), tilt, CONFIG)
    assert m.normal_consistency == pytest.approx(np.cos(0.4), abs=1e-6)
    bare = Surface(grid().points_m, np.full_like(grid().points_m, np.nan))
    assert map_metrics(square(), bare, np.eye(4), CONFIG).normal_consistency is None


def test_points_that_no_camera_saw_do_not_count_as_visible() -> None:
    views = fused(plane_frames(1)).views  # a wall 2 m before a camera at the origin
    points = np.array([[0, 0, 2.0], [0, 0, 1.0], [0, 0, 2.05], [0, 0, 2.5], [0, 0, -1.0], [9.0, 0, 2.0]])
    assert seen_points(points, views, 0.1).tolist() == [True, True, True, False, False, False]
    assert not seen_points(points, (), 0.1).any()
    blind = replace(views[0], depth_m=np.zeros_like(views[0].depth_m))
    assert not seen_points(points, [blind], 0.1).any()


def test_visibility_spares_what_lies_behind_the_wall_but_not_what_floats_before_it() -> None:
    truth = fused(plane_frames(5))
    wall = square(0.8)

    def with_another(z_m: float) -> Mesh:
        other = square(0.8, z_m)
        vertices = np.concatenate([wall.vertices_m, other.vertices_m])
        return Mesh(vertices, np.concatenate([wall.triangles, other.triangles + 4]), vertices, vertices)

    behind = map_metrics(with_another(3.0), truth.surface, np.eye(4), CONFIG, truth.views)
    assert behind.precision_5cm == pytest.approx(0.5, abs=0.02)
    assert behind.visible is not None
    assert behind.visible.precision_5cm == pytest.approx(1)
    assert behind.visible_share == pytest.approx(0.5, abs=0.02)
    before = map_metrics(with_another(1.5), truth.surface, np.eye(4), CONFIG, truth.views)
    assert before.visible is not None
    assert before.visible.precision_5cm == pytest.approx(0.5, abs=0.02)


def test_visibility_spares_the_truth_that_no_camera_saw() -> None:
    """A true wall goes on far beside the view, and another one lies behind it."""
    views = fused(plane_frames(5)).views
    wall = square(0.8)
    wide, hidden = grid(), grid()
    far = wide.points_m + np.array([50.0, 0, 0]), hidden.points_m + np.array([0, 0, 3.0])
    truth = Surface(np.concatenate([wide.points_m, *far]), np.tile(wide.normals, (3, 1)))
    m = map_metrics(wall, truth, np.eye(4), CONFIG, views)
    assert m.recall_5cm < 0.4
    assert m.visible is not None
    near = seen_points(wide.points_m, views, 0.05)
    alone = surface_errors(sampled_surface(wall, CONFIG.samples, CONFIG.voxel_m), wide.chosen(near))
    assert m.visible.recall_5cm == pytest.approx(alone.recall_5cm)
    assert m.visible.completeness_m == pytest.approx(alone.completeness_m)
