"""Fusion against rooms and spheres whose surfaces are known exactly."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from remov3r.backends import fusion
from remov3r.backends.block_mesh import without_small_pieces
from remov3r.backends.fusion import FULL_WEIGHT, FusionConfig, TsdfVolume, prepare
from remov3r.camera import Camera
from remov3r.errors import DataError, ShapeError
from remov3r.types import Mesh
from tests.backends.room import CAMERA, pose, prediction, room_depth, sphere_depth, wall_distance

RGB = np.full((120, 160, 3), (200, 100, 50), dtype=np.uint8)
CONFIG = FusionConfig(voxel_m=0.04, truncation_voxels=4, min_component_triangles=20)
DESK = Path(__file__).parents[2] / "../shared/data/desk"


def state(volume: TsdfVolume) -> dict[tuple[int, ...], np.ndarray]:
    """The sums of all blocks."""
    keys = [tuple(key) for key in volume._blocks.keys().tolist()]
    return {key: np.array(volume._blocks.read(key)) for key in keys}


def assert_same_map(volume: TsdfVolume, expected: TsdfVolume) -> None:
    """Blocks and sums are equal to the last bit."""
    have, want = state(volume), state(expected)
    assert have.keys() == want.keys()
    assert all(np.array_equal(have[key], want[key]) for key in want)


def test_room_is_fused_within_a_fraction_of_a_voxel() -> None:
    volume = TsdfVolume(CONFIG)
    for yaw in (-0.4, 0.0, 0.4):
        T = pose(x=yaw / 2, yaw=yaw)
        volume.integrate(prediction(room_depth(T)), RGB, T)
    mesh = volume.mesh()
    assert mesh is not None
    error = wall_distance(mesh.vertices_m)
    assert np.median(error) < 0.05 * CONFIG.voxel_m
    assert np.percentile(error, 95) < 0.5 * CONFIG.voxel_m
    assert np.allclose(mesh.colors, np.array([200, 100, 50]) / 255, atol=2e-3)


def test_surfaces_are_not_biased_by_half_a_pixel() -> None:
    """A slanted plane shows any offset of the pixel grid, which a wall seen frontally hides."""
    T = pose(yaw=0.6)
    volume = TsdfVolume(CONFIG)
    volume.integrate(prediction(room_depth(T)), RGB, T)
    mesh = volume.mesh()
    assert mesh is not None
    wall = mesh.vertices_m[mesh.vertices_m[:, 0] > 1.4]
    assert len(wall) > 200
    assert abs(float(np.mean(wall[:, 0])) - 1.5) < 0.1 * CONFIG.voxel_m


def test_normals_and_triangles_face_the_camera() -> None:
    volume = TsdfVolume(CONFIG)
    volume.integrate(prediction(room_depth(np.eye(4))), RGB, np.eye(4))
    mesh = volume.mesh()
    assert mesh is not None
    a, b, c = (mesh.vertices_m[mesh.triangles[:, k]] for k in range(3))
    winding = np.cross(b - a, c - a)
    assert ((winding * -a).sum(1) > 0).mean() > 0.99
    assert ((mesh.normals * -mesh.vertices_m).sum(1) > 0).mean() > 0.98
    assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-3)


def test_sphere_from_all_sides_has_its_radius() -> None:
    centre, radius = np.array([0.0, 0.0, 1.2]), 0.4
    volume = TsdfVolume(FusionConfig(voxel_m=0.02, truncation_voxels=4))
    for angle in np.arange(0, 2 * np.pi, np.pi / 4):
        T = pose(yaw=angle)
        T[:3, 3] = centre - 1.2 * T[:3, 2]
        volume.integrate(prediction(sphere_depth(centre, radius, T, CAMERA)), RGB, T)
    cloud = volume.cloud()
    assert cloud is not None
    distance = np.linalg.norm(cloud.points_m - centre, axis=1) - radius
    assert np.abs(np.median(distance)) < 0.25 * 0.02
    assert np.percentile(np.abs(distance), 90) < 0.5 * 0.02


@pytest.mark.parametrize("bad_first", [True, False])
def test_confident_frame_beats_a_bad_one(bad_first: bool) -> None:
    truth = room_depth(np.eye(4))
    good, bad = prediction(truth, sigma_m=0.02), prediction(truth + 0.06, sigma_m=0.2)
    volume = TsdfVolume(CONFIG)
    for dense in (bad, good) if bad_first else (good, bad):
        volume.integrate(dense, RGB, np.eye(4))
    mesh = volume.mesh()
    assert mesh is not None
    # Weights go as 1/sigma²: 6.25 against 0.0625, so the mean moves by 0.6 mm, not by 30.
    front = mesh.vertices_m[(np.abs(mesh.vertices_m[:, :2]) < 0.5).all(1)]
    assert abs(float(np.median(front[:, 2])) - 2.5) < 0.004


def test_deintegration_restores_the_volume() -> None:
    T, other = pose(yaw=0.2), pose(x=0.1, yaw=0.4)
    first, wrong = prediction(room_depth(T)), prediction(room_depth(T) * 1.04, sigma_m=0.05)
    volume, reference = TsdfVolume(CONFIG), TsdfVolume(CONFIG)
    reference.integrate(first, RGB, T)
    volume.integrate(first, RGB, T)
    volume.integrate(wrong, 255 - RGB, other)
    assert state(volume).keys() != state(reference).keys()
    volume.deintegrate(wrong, 255 - RGB, other)
    assert_same_map(volume, reference)
    mesh, expected = volume.mesh(), reference.mesh()
    assert mesh is not None
    assert expected is not None
    assert np.allclose(np.unique(mesh.vertices_m, axis=0), np.unique(expected.vertices_m, axis=0), atol=1e-6)


def test_order_does_not_matter() -> None:
    views = [(pose(x=0.1 * k, yaw=0.3 * k), 0.02 * (k + 1)) for k in range(4)]
    one, other = TsdfVolume(CONFIG), TsdfVolume(CONFIG)
    for T, sigma in views:
        one.integrate(prediction(room_depth(T), sigma_m=sigma), RGB, T)
    for T, sigma in reversed(views):
        other.integrate(prediction(room_depth(T), sigma_m=sigma), RGB, T)
    assert_same_map(other, one)


def test_nothing_seen_gives_no_mesh() -> None:
    volume = TsdfVolume(CONFIG)
    assert volume.mesh() is None
    assert volume.cloud() is None
    volume.integrate(prediction(np.zeros((120, 160))), RGB, np.eye(4))
    volume.integrate(prediction(np.full((120, 160), 50.0)), RGB, np.eye(4))
    assert volume.mesh() is None


def test_everything_taken_back_gives_no_mesh() -> None:
    dense = prediction(room_depth(np.eye(4)))
    volume = TsdfVolume(CONFIG)
    volume.integrate(dense, RGB, np.eye(4))
    volume.deintegrate(dense, RGB, np.eye(4))
    assert volume.mesh() is None
    assert len(volume) == 0


def test_bad_input_is_refused() -> None:
    dense = prediction(room_depth(np.eye(4)))
    volume = TsdfVolume(CONFIG)
    holes = dense.depth_m.copy()
    holes[3, 4] = np.nan
    with pytest.raises(DataError, match="NaN"):
        volume.integrate(replace(dense, depth_m=holes), RGB, np.eye(4))
    with pytest.raises(ShapeError, match="60x80"):
        volume.integrate(replace(dense, camera=CAMERA.resized(80, 60)), RGB, np.eye(4))
    with pytest.raises(DataError, match="pose"):
        volume.integrate(dense, RGB, np.full((4, 4), np.nan))
    assert volume.mesh() is None


def test_weights_are_integers_that_fit() -> None:
    dense = prediction(room_depth(np.eye(4)), sigma_m=1e-3)
    assert prepare(dense, RGB, CONFIG).weight.max() == FULL_WEIGHT
    faint = prepare(prediction(room_depth(np.eye(4)), sigma_m=50.0), RGB, CONFIG).weight
    assert faint.max() == np.ceil(FULL_WEIGHT * CONFIG.min_weight / CONFIG.max_weight)


def test_more_depth_maps_than_the_sums_can_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "MAX_WEIGHT", 2 * FULL_WEIGHT - 1)
    volume = TsdfVolume(CONFIG)
    dense = prediction(room_depth(np.eye(4)), sigma_m=1e-3)
    volume.integrate(dense, RGB, np.eye(4))
    with pytest.raises(DataError, match="the most"):
        volume.integrate(dense, RGB, np.eye(4))
    volume.deintegrate(dense, RGB, np.eye(4))
    volume.integrate(dense, RGB, np.eye(4))


def test_depth_edges_carry_no_weight_and_slanted_planes_do() -> None:
    step = np.full((120, 160), 2.0)
    step[:, 80:] = 1.0
    config = FusionConfig(upsample_to_width=0)
    weight = prepare(prediction(step), RGB, config).weight
    assert (weight[:, 79:81] == 0).all()
    assert (weight[:, :78] > 0).all()
    assert (weight[:, 82:] > 0).all()
    floor = room_depth(pose(pitch=-0.7))
    assert (prepare(prediction(floor), RGB, config).weight > 0).mean() > 0.9


def test_small_depth_is_enlarged_exactly_on_planes() -> None:
    small = Camera(64, 48, 52.0, 52.0, 31.5, 23.5)
    T = pose(yaw=0.7)
    seen = prepare(prediction(room_depth(T, small), small), RGB, FusionConfig())
    assert seen.depth_m.shape == (192, 256)
    truth = room_depth(T, seen.camera)
    known = seen.weight > 0
    assert known.mean() > 0.7
    assert np.median(np.abs(seen.depth_m - truth)[known]) < 1e-4


def test_small_pieces_are_dropped() -> None:
    vertices = np.array(
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [5, 5, 5], [6, 5, 5], [5, 6, 5]], np.float32
    )
    mesh = Mesh(vertices, np.array([[4, 5, 6], [0, 1, 2], [1, 3, 2]]), vertices / 10, vertices)
    kept = without_small_pieces(mesh, 2)
    assert kept is not None
    assert np.array_equal(kept.vertices_m, vertices[:4])
    assert np.array_equal(kept.triangles, [[0, 1, 2], [1, 3, 2]])
    assert without_small_pieces(mesh, 3) is None


def test_real_depth_is_reproduced_within_a_voxel() -> None:
    """The fused mesh lies on the depth it came from (sensor frames where present, else a noisy room)."""
    volume = TsdfVolume(FusionConfig())
    points = []
    for rgb, depth, T, camera in real_frames() or noisy_room():
        dense = prediction(depth, camera)
        volume.integrate(dense, rgb, T)
        near = (dense.depth_m > 0.3) & (dense.depth_m < 3)
        points.append((dense.points_cam[near] @ T[:3, :3].T + T[:3, 3])[::7])
    mesh = volume.mesh()
    assert mesh is not None
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(mesh.vertices_m).query(np.concatenate(points))
    assert np.median(distance) < 0.02


def real_frames() -> list[tuple[np.ndarray, np.ndarray, np.ndarray, Camera]]:
    """A few neighbouring frames with sensor depth, if the data is there."""
    if not (DESK / "poses.txt").is_file():
        return []
    poses = np.loadtxt(DESK / "poses.txt").reshape(-1, 4, 4)
    camera = Camera(320, 240, 307.6158, 307.72825, 160.37385, 121.8734)
    out = []
    for i in range(60, 80, 4):
        rgb = np.asarray(cv2.imread(str(DESK / f"rgb/{i:06d}.jpg"), cv2.IMREAD_COLOR_RGB), dtype=np.uint8)
        depth = np.asarray(cv2.imread(str(DESK / f"depth/{i:06d}.png"), cv2.IMREAD_UNCHANGED)) / 1000
        out.append((rgb, depth, poses[i], camera))
    return out


def noisy_room() -> list[tuple[np.ndarray, np.ndarray, np.ndarray, Camera]]:
    """The room seen by a sensor with 1 % of noise."""
    rng = np.random.default_rng(0)
    poses = [pose(yaw=0.1 * k) for k in range(5)]
    return [(RGB, room_depth(T) * rng.normal(1, 0.01, (120, 160)), T, CAMERA) for T in poses]
