"""Pose losses: known values, signs, gradients, and finite ones for identical poses and turns by 180°."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from remov3r.geometry import inverse, quaternion_xyzw, rotation_angle_rad, se3_exp, se3_log
from remov3r.losses import (
    compose,
    covariance_loss,
    normalised_error,
    pose_loss,
    relative_poses,
    rotation_angle,
    smoothness_loss,
    tangent_error,
)

IDENTITY = (0.0, 0.0, 0.0, 1.0)
ONE = torch.ones(1, 1, dtype=torch.bool)


def pose(x: float, degrees: float) -> Tensor:
    """One clip of one pose: x metres along x, turned about z."""
    half = math.radians(degrees) / 2
    return torch.tensor([[[x, 0.0, 0.0, 0.0, 0.0, math.sin(half), math.cos(half)]]])


def random_poses(clips: int, frames: int, seed: int) -> Tensor:
    T = torch.from_numpy(se3_exp(np.random.default_rng(seed).normal(size=(clips, frames, 6))))
    return relative_poses(torch.eye(4, dtype=torch.float64).expand(clips, frames, 4, 4), T)


def matrices(T: Tensor) -> np.ndarray:
    eye = np.zeros((*T.shape[:-1], 4, 4))
    q, w = T[..., 3:6].numpy(), T[..., 6].numpy()
    cross = np.cross(np.eye(3), q[..., None, :])  # rows: e_i × q
    skew = np.swapaxes(-cross, -1, -2)
    eye[..., :3, :3] = np.eye(3) + 2 * w[..., None, None] * skew + 2 * skew @ skew
    eye[..., :3, 3], eye[..., 3, 3] = T[..., :3].numpy(), 1
    return eye


def finite(*tensors: Tensor) -> bool:
    return all(t.grad is not None and bool(t.grad.isfinite().all()) for t in tensors)


def test_equation_2_known_values() -> None:
    rotation, translation = pose_loss(pose(0.3, 90), pose(0, 0), ONE)
    assert float(rotation) == pytest.approx(2 * math.sin(math.pi / 8))  # chord of half the angle
    assert float(translation) == pytest.approx(0.3)
    scales = torch.full((1, 1), 2.0), torch.full((1, 1), 4.0)
    _, scaled = pose_loss(pose(0.3, 90), pose(1, 0), ONE, scales=scales)
    assert float(scaled) == pytest.approx(0.25 - 0.15)


def test_only_the_geodesic_loss_takes_both_signs_for_one_rotation() -> None:
    T, flipped = pose(0, 50), pose(0, 50)
    flipped[..., 3:] *= -1
    assert float(pose_loss(flipped, T, ONE, "geodesic")[0]) == pytest.approx(0, abs=1e-6)
    assert float(pose_loss(flipped, T, ONE, "quaternion")[0]) == pytest.approx(2)
    assert float(pose_loss(T, pose(0, 10), ONE, "geodesic")[0]) == pytest.approx(math.radians(40), rel=1e-5)


def test_angle_is_that_of_the_geometry_module() -> None:
    a, b = random_poses(1, 20, 0)[0], random_poses(1, 20, 1)[0]
    expected = rotation_angle_rad(inverse(matrices(a)) @ matrices(b))
    assert np.allclose(rotation_angle(a[:, 3:], b[:, 3:]).numpy(), expected)


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 180.0])
def test_rotation_gradients_are_finite_at_both_ends(degrees: float) -> None:
    for rotation in ("quaternion", "geodesic"):
        T = pose(0, degrees).requires_grad_()
        loss, _ = pose_loss(T, pose(0, 0), ONE, "geodesic" if rotation == "geodesic" else "quaternion")
        loss.backward()  # type: ignore[no-untyped-call]
        assert finite(T)
        expected = (
            math.radians(degrees) if rotation == "geodesic" else 2 * math.sin(math.radians(degrees) / 4)
        )
        assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_unknown_poses_are_left_out() -> None:
    T = pose(1, 0).repeat(1, 3, 1).requires_grad_()
    truth = T.detach().clone()
    truth[0, 2] = math.nan
    for mask in (torch.tensor([[True, True, False]]), torch.zeros(1, 3, dtype=torch.bool)):
        for rotation, moved in (pose_loss(T, truth, mask), pose_loss(T, truth, mask, "geodesic")):
            (rotation + moved).backward()  # type: ignore[no-untyped-call]
            assert (rotation + moved).item() == 0
            assert finite(T)


def test_relative_poses_agree_with_the_geometry_module() -> None:
    T = se3_exp(np.random.default_rng(0).normal(size=(5, 6)))
    a, b = T[:4], T[1:]
    expected = np.linalg.inv(a) @ b
    found = relative_poses(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert np.allclose(found[:, :3], expected[:, :3, 3])
    assert np.allclose(found[:, 3:], quaternion_xyzw(expected))  # of both, w ≥ 0
    unknown = torch.from_numpy(a).clone()
    unknown[0] = math.nan
    assert relative_poses(unknown, torch.from_numpy(b))[0].tolist() == [0, 0, 0, *IDENTITY]


def test_compose_is_the_product_of_matrices() -> None:
    a, b = random_poses(2, 3, 0), random_poses(2, 3, 1)
    assert np.allclose(matrices(compose(a, b)), matrices(a) @ matrices(b))
    assert gradcheck(compose, (a.requires_grad_(), b.requires_grad_()))


def test_smoothness_known_values() -> None:
    """A turn by 60° is ‖R − 1‖_F = 2√2 sin 30°; steps of 0.2 m; a clip at rest, or of one frame, costs nothing."""
    steps = torch.cat([pose(0.2 * i, 60.0 * i) for i in range(3)], 1)
    assert float(smoothness_loss(steps)) == pytest.approx(math.sqrt(2) + 0.2, rel=1e-5)
    turned = matrices(steps)[0, 1, :3, :3]
    assert np.linalg.norm(turned - np.eye(3)) == pytest.approx(math.sqrt(2))
    at_rest = pose(1, 70).repeat(2, 4, 1).requires_grad_()
    loss = smoothness_loss(at_rest) + smoothness_loss(at_rest[:, :1])
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert finite(at_rest)


def test_tangent_error_is_the_logarithm_rotation_first() -> None:
    T, truth = random_poses(2, 4, 0), random_poses(2, 4, 1)
    log = se3_log(inverse(matrices(T)) @ matrices(truth))
    expected = np.concatenate([log[..., 3:], log[..., :3]], -1)
    assert np.allclose(tangent_error(T, truth).numpy(), expected, atol=1e-6)
    moved = tangent_error(pose(0, 90), compose(pose(0, 90), pose(0.3, 0)))  # 0.3 m along the camera's own x
    assert moved[0, 0].tolist() == pytest.approx([0, 0, 0, 0.3, 0, 0], abs=1e-6)
    assert bool(tangent_error(pose(0, 0), pose(1, 180)).isfinite().all())


def test_covariance_loss_known_value_and_optimum() -> None:
    """½ Σ (e/σ)² + Σ log σ; of diagonal matrices the one with E[e²] on its diagonal costs least."""
    e = torch.tensor([[[0.1, 0, 0, 0.4, 0, 0]]])
    sigma = torch.tensor([0.1, 1, 1, 0.2, 1, 1])
    L = torch.diag(sigma)[None, None]
    assert float(covariance_loss(e, L, ONE)) == pytest.approx(0.5 + 2 + math.log(0.1) + math.log(0.2))
    z = torch.randn(1, 2000, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factor = torch.linalg.cholesky(torch.eye(6, dtype=torch.float64) + 0.3).expand(1, 2000, 6, 6)
    errors, known = (factor @ z[..., None])[..., 0], torch.ones(1, 2000, dtype=torch.bool)
    losses = [float(covariance_loss(errors, s * factor, known)) for s in (0.8, 1.0, 1.25)]
    assert losses[1] == min(losses)
    assert torch.allclose(normalised_error(errors, factor), z)


def test_covariance_loss_of_unknown_frames_is_zero_with_zero_gradient() -> None:
    L = torch.eye(6).repeat(1, 2, 1, 1)
    L[0, 1] = 0  # a masked matrix may even be singular
    L.requires_grad_()
    e = torch.zeros(1, 2, 6)
    e[0, 1] = math.nan
    loss = covariance_loss(e, L, torch.tensor([[True, False]]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert finite(L)
    assert L.grad is not None
    assert bool((L.grad[0, 1] == 0).all())


def test_gradients_are_those_of_the_values() -> None:
    T, truth = random_poses(2, 3, 0), random_poses(2, 3, 1)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    scales = torch.full((2, 3), 1.7, dtype=torch.float64).requires_grad_(), torch.full((2, 3), 0.6)
    x = T.clone().requires_grad_()
    assert gradcheck(lambda t: torch.stack(pose_loss(t, truth, mask)), (x,))
    assert gradcheck(lambda t: torch.stack(pose_loss(t, truth, mask, "geodesic")), (x,))
    scaled = lambda t, s: pose_loss(t, truth, mask, scales=(s, scales[1].double()))[1]  # noqa: E731
    assert gradcheck(scaled, (x, scales[0]))
    assert gradcheck(smoothness_loss, (x,))
    L = (torch.eye(6) + 0.1 * torch.ones(6, 6).tril()).double().repeat(2, 3, 1, 1).requires_grad_()
    e = tangent_error(T, truth)
    assert gradcheck(lambda c: covariance_loss(e, c.tril(), mask), (L,))
