"""Transforms: known values, and the invariants that hold for every input."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from remov3r import geometry as geo
from remov3r.camera import Camera
from remov3r.errors import DataError, ShapeError

CAMERA = Camera(8, 6, 7.0, 6.5, 3.2, 2.9)
tangents = arrays(np.float64, 6, elements=st.floats(-1.5, 1.5, allow_subnormal=False))


@settings(max_examples=30, deadline=None)
@given(tangents)
def test_log_inverts_exp(xi: np.ndarray) -> None:
    np.testing.assert_allclose(geo.se3_log(geo.se3_exp(xi)), xi, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(tangents, tangents)
def test_inverse_undoes_and_composes(a: np.ndarray, b: np.ndarray) -> None:
    A, B = geo.se3_exp(a), geo.se3_exp(b)
    np.testing.assert_allclose(geo.inverse(A @ B), geo.inverse(B) @ geo.inverse(A), atol=1e-9)
    np.testing.assert_allclose(geo.inverse(A) @ A, np.eye(4), atol=1e-9)


def test_quarter_turn_has_known_quaternion_and_angle() -> None:
    T = geo.se3_exp(np.array([0, 0, 0, 0, 0, np.pi / 2]))
    np.testing.assert_allclose(T[:3, :3], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(geo.quaternion_xyzw(T), [0, 0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-12)
    assert geo.rotation_angle_rad(T) == pytest.approx(np.pi / 2)


def test_small_angles_are_exact_where_the_trace_formula_is_not() -> None:
    T = geo.se3_exp(np.array([0, 0, 0, 1e-7, 0, 0]))
    assert geo.rotation_angle_rad(T) == pytest.approx(1e-7, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(tangents)
def test_quaternion_round_trip(xi: np.ndarray) -> None:
    T = geo.se3_exp(xi)
    np.testing.assert_allclose(geo.from_quaternion_xyzw(T[:3, 3], geo.quaternion_xyzw(T)), T, atol=1e-9)


def test_zero_quaternion_is_refused() -> None:
    with pytest.raises(DataError, match="quaternion"):
        geo.from_quaternion_xyzw(np.zeros(3), np.zeros(4))


def test_rotation_of_determinant_below_one_is_projected() -> None:
    T = geo.se3_exp(np.array([1, 2, 3, 0.1, 0.2, 0.3]))
    shrunk = T.copy()
    shrunk[:3, :3] *= 0.9998
    np.testing.assert_allclose(geo.checked_pose(shrunk, "frame 7"), T, atol=1e-12)


@pytest.mark.parametrize(
    "bad", [np.full((4, 4), np.nan), np.eye(4) * 1.5, np.eye(3), np.diag([1.0, 1, -1, 1])]
)
def test_poses_that_are_none_are_refused_by_name(bad: np.ndarray) -> None:
    with pytest.raises(DataError, match="frame 7"):
        geo.checked_pose(bad, "frame 7")


@settings(max_examples=20, deadline=None)
@given(tangents, st.floats(0.2, 5))
def test_umeyama_recovers_the_similarity(xi: np.ndarray, scale: float) -> None:
    points = np.random.default_rng(0).normal(size=(20, 3))
    T = geo.se3_exp(xi)
    found = geo.umeyama(points, scale * points @ T[:3, :3].T + T[:3, 3], with_scale=True)
    assert found is not None
    assert found.scale == pytest.approx(scale, rel=1e-9)
    np.testing.assert_allclose(found.matrix()[:3, :3], scale * T[:3, :3], atol=1e-8)
    np.testing.assert_allclose(found.t, T[:3, 3], atol=1e-8)


def test_umeyama_never_mirrors() -> None:
    points = np.random.default_rng(1).normal(size=(20, 3))
    found = geo.umeyama(points, points * [1, 1, -1], with_scale=True)
    assert found is not None
    assert np.linalg.det(found.R) == pytest.approx(1)


@pytest.mark.parametrize("points", [np.zeros((5, 3)), np.arange(15.0).reshape(5, 3), np.ones((2, 3))])
def test_umeyama_says_none_when_the_points_do_not_fix_it(points: np.ndarray) -> None:
    assert geo.umeyama(points, points, with_scale=True) is None


def test_umeyama_refuses_unequal_sets() -> None:
    with pytest.raises(ShapeError, match="differ"):
        geo.umeyama(np.zeros((3, 3)), np.zeros((4, 3)), with_scale=False)


def test_similarity_of_poses_moves_centres_like_points_and_keeps_rotations_rigid() -> None:
    poses = geo.se3_exp(np.random.default_rng(2).normal(size=(5, 6)))
    found = geo.Similarity(2.0, geo.se3_exp(np.array([0, 0, 0, 0.3, 0, 0]))[:3, :3], np.array([1.0, 0, 0]))
    moved = found.apply_to_poses(poses)
    np.testing.assert_allclose(moved[:, :3, 3], found.apply(poses[:, :3, 3]))
    np.testing.assert_allclose(np.linalg.det(moved[:, :3, :3]), 1)


def test_projection_inverts_unprojection() -> None:
    depth = np.random.default_rng(3).uniform(0.5, 4, (6, 8))
    uv, inside = geo.project(geo.unproject(depth, CAMERA).reshape(-1, 3), CAMERA)
    v, u = np.indices((6, 8))
    np.testing.assert_allclose(uv, np.stack([u.ravel(), v.ravel()], 1), atol=1e-9)
    assert inside.all()


def test_points_behind_the_camera_are_not_seen() -> None:
    uv, inside = geo.project(np.array([[0.0, 0, -1], [0, 0, 1]]), CAMERA)
    assert not inside[0]
    assert inside[1]
    assert np.isnan(uv[0]).all()


def test_unproject_refuses_depth_of_another_size() -> None:
    with pytest.raises(ShapeError, match="does not fit"):
        geo.unproject(np.ones((5, 8)), CAMERA)


def test_the_backends_do_without_torch() -> None:
    """Whoever brings an own front end need not load torch for the pose graph or the bundle."""
    code = (
        "import sys, remov3r.backends.pose_graph, remov3r.backends.bundle, remov3r.frontends.recorded; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
