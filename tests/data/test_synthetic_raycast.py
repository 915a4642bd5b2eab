"""The ray caster against closed forms and against a plain double-precision slab test."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from remov3r.camera import Camera
from remov3r.data.synthetic.raycast import BALL, BOX, CAN, Hits, Solids, Views, cast
from remov3r.geometry import transform, unproject

CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
SHELL = [[-5.0, -5.0, -5.0], [5.0, 5.0, 7.0]]


def solids(rows: list[tuple[list[float], list[float], int]], rotation: torch.Tensor | None = None) -> Solids:
    n = len(rows)
    R = torch.eye(3).repeat(n, 1, 1) if rotation is None else rotation
    return Solids(
        torch.tensor([r[0] for r in rows]).reshape(n, 3),
        torch.tensor([r[1] for r in rows]).reshape(n, 3),
        R,
        torch.tensor([r[2] for r in rows], dtype=torch.int64),
        torch.tensor(SHELL),
    )


def views(T: np.ndarray, camera: Camera = CAMERA) -> Views:
    K = torch.tensor(camera.K, dtype=torch.float32).expand(len(T), 3, 3)
    return Views(camera.width, camera.height, K, torch.tensor(T, dtype=torch.float32))


def random_scene(n: int, seed: int) -> Solids:
    g = torch.Generator().manual_seed(seed)
    R = torch.linalg.qr(torch.randn(n, 3, 3, generator=g))[0]
    R = R * torch.linalg.det(R)[:, None, None]
    center = torch.rand(n, 3, generator=g) * 6 - 3
    half = torch.rand(n, 3, generator=g) * 0.6 + 0.02
    return Solids(center, half, R, torch.arange(n) % 3, torch.tensor(SHELL))


def random_poses(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    T = np.tile(np.eye(4), (n, 1, 1))
    Q = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]
    T[:, :3, :3] = Q * np.linalg.det(Q)[:, None, None]
    T[:, :3, 3] = rng.uniform(-4, 4, (n, 3))
    return T


def slab_depth(scene: Solids, T: np.ndarray, camera: Camera) -> np.ndarray:
    """Nearest z-depth by slab tests and quadratics in double precision."""
    rays = np.stack(
        [
            *np.meshgrid(np.arange(camera.width), np.arange(camera.height)),
            np.ones((camera.height, camera.width)),
        ],
        -1,
    )
    d_world = rays @ np.linalg.inv(camera.K).T @ T[:3, :3].T
    low, high = scene.shell_m.double().numpy()
    with np.errstate(divide="ignore"):
        best = np.maximum((low - T[:3, 3]) / d_world, (high - T[:3, 3]) / d_world).min(-1)
    for c, h, R, shape in zip(scene.center_m, scene.half_m, scene.rotation, scene.shape):
        A = R.double().numpy().T / h.double().numpy()[:, None]
        o, d = A @ (T[:3, 3] - c.double().numpy()), d_world @ A.T
        if np.abs(o).max() < 1:
            continue
        t0, t1 = (-o - np.sign(d)) / d, (-o + np.sign(d)) / d
        near, far = t0.max(-1), t1.min(-1)
        if shape != BOX:
            m = np.array([1, 1, float(shape == BALL)])
            a, b, k = (d * d * m).sum(-1), (d * o * m).sum(-1), (o * o * m).sum() - 1
            root = np.sqrt(np.maximum(b * b - a * k, 0))
            inside = b * b > a * k
            near, far = np.maximum((-b - root) / a, t0[..., 2]), np.minimum((-b + root) / a, t1[..., 2])
            if shape == BALL:
                near, far = (-b - root) / a, (-b + root) / a
            far = np.where(inside, far, -1)
        hit = (near < far) & (near > 0.02)
        best = np.where(hit, np.minimum(best, near), best)
    return best


def one(scene: Solids) -> Hits:
    return cast(scene, views(np.eye(4)[None]))


def test_axis_aligned_box_has_the_depth_of_its_front() -> None:
    hits = one(solids([([0.0, 0.0, 3.0], [0.5, 0.5, 1.0], BOX)]))
    assert hits.depth_m[0, 24, 32] == pytest.approx(2.0, rel=2e-6)
    assert hits.solid[0, 24, 32] == 0
    assert hits.face[0, 24, 32] == 5
    # its outline: 60 · 0.5 / 2 = 15 pixels to either side of the centre
    assert (hits.solid[0, 24] == 0).nonzero()[:, 0].tolist() == list(range(17, 47))


def test_ball_in_the_middle() -> None:
    camera = Camera(65, 49, 60.0, 60.0, 32.0, 24.0)
    hits = cast(solids([([0.0, 0.0, 3.0], [1.0, 1.0, 1.0], BALL)]), views(np.eye(4)[None], camera))
    assert hits.depth_m[0, 24, 32] == pytest.approx(2.0, rel=1e-5)
    x = 12 / 60  # |(x z, 0, z − 3)| = 1 at the column 12 pixels to the right
    expected = (6 - np.sqrt(36 - 4 * (1 + x * x) * 8)) / (2 * (1 + x * x))
    assert hits.depth_m[0, 24, 44] == pytest.approx(expected, rel=1e-4)


def test_can_shows_its_cap_along_the_axis_and_its_side_across() -> None:
    hits = one(solids([([0.0, 0.0, 3.0], [1.0, 1.0, 0.5], CAN)]))
    assert hits.depth_m[0, 24, 32] == pytest.approx(2.5, rel=1e-5)
    assert hits.face[0, 24, 32] == 5
    across = torch.tensor([[[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]])
    hits = one(solids([([0.0, 0.0, 3.0], [1.0, 1.0, 0.5], CAN)], across))
    assert hits.depth_m[0, 24, 32] == pytest.approx(2.0, rel=1e-3)
    assert hits.face[0, 24, 32] == 0


def test_room_shell_is_a_plane_at_every_pixel() -> None:
    hits = one(solids([]))
    assert torch.allclose(hits.depth_m, torch.full_like(hits.depth_m, 7.0), rtol=3e-6)
    assert (hits.solid == 0).all()
    assert (hits.face == 4).all()


def test_solid_around_or_behind_the_camera_is_not_drawn() -> None:
    hits = one(solids([([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], BOX), ([0.0, 0.0, -3.0], [1.0, 1.0, 1.0], BOX)]))
    assert (hits.solid == 2).all()


def test_box_that_crosses_the_camera_plane_is_drawn_where_it_is_in_front() -> None:
    scene = solids([([1.0, 0.0, 0.0], [0.5, 0.5, 4.0], BOX)])
    hits = one(scene)
    assert (hits.solid[0, 24] == 0).any()
    expected = slab_depth(scene, np.eye(4), CAMERA)
    off = np.abs(hits.depth_m[0].numpy() - expected) > 1e-5 * expected
    assert off.mean() < 0.01  # only rays that run exactly along an edge may differ


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_scenes_agree_with_slab_tests(seed: int) -> None:
    scene, T = random_scene(40, seed), random_poses(3, seed)
    hits = cast(scene, views(T))
    for k in range(3):
        expected = slab_depth(scene, T[k], CAMERA)
        off = np.abs(hits.depth_m[k].numpy() - expected) > 1e-4 * expected
        assert off.mean() < 0.003  # only grazing rays at outlines may differ


def test_batch_equals_single_views() -> None:
    scene, T = random_scene(30, 5), random_poses(4, 6)
    batch = cast(scene, views(T))
    for k in range(4):
        alone = cast(scene, views(T[k : k + 1]))
        assert torch.equal(batch.depth_m[k], alone.depth_m[0])
        assert torch.equal(batch.solid[k], alone.solid[0])


def test_unprojected_points_lie_on_the_surface_that_was_named() -> None:
    scene, T = random_scene(30, 8), random_poses(1, 9)
    hits = cast(scene, views(T))
    points = transform(T[0], unproject(hits.depth_m[0].numpy().astype(float), CAMERA)).reshape(-1, 3)
    solid, face = hits.solid.view(-1).numpy(), hits.face.view(-1).numpy()
    boxes = (solid < 30) & (scene.shape.numpy()[np.minimum(solid, 29)] == BOX)
    assert boxes.sum() > 50
    s = solid[boxes]
    local = np.einsum("nij,ni->nj", scene.rotation.numpy()[s], points[boxes] - scene.center_m.numpy()[s])
    axis, sign = face[boxes] // 2, 1 - 2 * (face[boxes] % 2)
    distance = local[np.arange(len(s)), axis] * sign - scene.half_m.numpy()[s, axis]
    assert np.abs(distance).max() < 1e-4
    assert (np.abs(local) - scene.half_m.numpy()[s]).max() < 1e-3


def test_size_that_is_no_multiple_of_a_tile() -> None:
    camera = Camera(61, 45, 60.0, 60.0, 30.0, 22.0)
    scene = random_scene(20, 3)
    hits = cast(scene, views(np.eye(4)[None], camera))
    assert hits.depth_m.shape == (1, 45, 61)
    assert np.mean(np.abs(hits.depth_m[0].numpy() - slab_depth(scene, np.eye(4), camera)) > 1e-3) < 0.003
