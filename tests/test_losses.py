"""Losses: known values, the optimum of equation 1, gradients, no NaN where nothing can be learnt."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from remov3r.geometry import quaternion_xyzw, se3_exp
from remov3r.losses import (
    confidence_loss,
    gradient_loss,
    log_ratio,
    masked_mean,
    pose_loss,
    relative_depth_error,
    relative_points_error,
    relative_poses,
    safe_norm,
)

ALL, NONE = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_masked_mean_ignores_what_is_masked() -> None:
    values = torch.tensor([1.0, 3.0, math.nan, math.inf])
    assert float(masked_mean(values, torch.tensor([True, True, False, False]))) == 2
    assert float(masked_mean(values, NONE)) == 0


def test_confidence_loss_known_value() -> None:
    """c·e − α·log c, averaged: (2·0.5 − 0.2·log 2 + 4·0.25 − 0.2·log 4) / 2."""
    loss = confidence_loss(torch.tensor([0.5, 0.25]), torch.tensor([2.0, 4.0]), ALL[:2], 0.2)
    assert float(loss) == pytest.approx(1 - 0.2 * (math.log(2) + math.log(4)) / 2)


def test_best_confidence_is_alpha_over_expected_error() -> None:
    """For Laplace errors of scale b the loss is least at c = α / b, so σ = √2 · α / c."""
    b, alpha = 0.13, 0.2
    error = -b * torch.log1p(-(torch.arange(4000) + 0.5) / 4000)  # quantiles: no sampling noise
    candidates = alpha / b * torch.linspace(0.5, 1.5, 41)
    every = torch.ones(4000, dtype=torch.bool)
    losses = [float(confidence_loss(error, c.expand(4000), every, alpha)) for c in candidates]
    assert alpha / float(candidates[int(np.argmin(losses))]) == pytest.approx(b, rel=0.02)


def test_no_confidence_and_missing_truth_stay_finite() -> None:
    confidence = torch.zeros(4, requires_grad=True)
    loss = confidence_loss(
        torch.tensor([0.0, 1.0, math.nan, math.inf]), confidence, torch.tensor([1, 1, 0, 0]) > 0, 0.2
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(loss.item())
    assert confidence.grad is not None
    assert bool(confidence.grad.isfinite().all())


def test_relative_errors_known_values() -> None:
    assert float(relative_depth_error(torch.tensor(2.0), torch.tensor(3.0))) == 0.5
    points = relative_points_error(torch.tensor([0.0, 3.0, 4.0]), torch.tensor([0.0, 3.0, 5.0]))
    assert float(points) == pytest.approx(0.2)
    assert float(relative_depth_error(torch.tensor(0.0), torch.tensor(0.0))) == 0


def test_best_depth_is_the_median_and_not_drawn_to_small_depths() -> None:
    """The gradient vanishes at the median of the truths and points towards it from either side."""
    truth = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])

    def slope(depth_m: float) -> float:
        depth = torch.full((5,), depth_m, requires_grad=True)
        relative_depth_error(depth, truth).sum().backward()  # type: ignore[no-untyped-call]
        assert depth.grad is not None
        return float(depth.grad.sum())

    assert slope(4.0) == 0
    assert slope(3.9) < 0 < slope(4.1)


def test_gradient_loss_known_values() -> None:
    """A constant offset in log depth costs nothing; a ramp of 0.1 per pixel costs 0.1·2^s / 2 at scale s."""
    mask = torch.ones(1, 8, 8, dtype=torch.bool)
    assert float(gradient_loss(torch.full((1, 8, 8), 0.7), mask, 3)) == 0
    ramp = (0.1 * torch.arange(8.0)).expand(1, 8, 8)
    assert float(gradient_loss(ramp, mask, 3)) == pytest.approx((0.05 + 0.1 + 0.2) / 3)
    lonely = torch.zeros(1, 8, 8, dtype=torch.bool)
    lonely[0, 3, 3] = True
    assert float(gradient_loss(torch.rand(1, 8, 8), lonely, 3)) == 0


def test_log_ratio_of_missing_depth_is_finite() -> None:
    assert bool(log_ratio(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 0.0])).isfinite().all())
    assert float(log_ratio(torch.tensor(2.0), torch.tensor(1.0))) == pytest.approx(math.log(2))


def pose(x: float, quaternion: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor([[x, 0.0, 0.0, *quaternion]])


def test_pose_loss_known_values_and_free_sign() -> None:
    quarter = (0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5))
    rotation, translation = pose_loss(pose(0.3, quarter), pose(0.0, (0, 0, 0, 1)), ALL[:1])
    assert float(rotation) == pytest.approx(2 * math.sin(math.pi / 8))  # chord of half the angle
    assert float(translation) == pytest.approx(0.3)
    negative = tuple(-q for q in quarter)
    again, _ = pose_loss(
        pose(0.3, (negative[0], negative[1], negative[2], negative[3])), pose(0.0, quarter), ALL[:1]
    )
    assert float(again) == pytest.approx(0, abs=1e-6)


def test_identical_or_unknown_poses_have_finite_gradients() -> None:
    T = pose(1, (0, 0, 0, 1)).repeat(3, 1).requires_grad_()
    truth = T.detach().clone()
    truth[2] = math.nan
    rotation, translation = pose_loss(T, truth, torch.tensor([True, True, False]))
    (rotation + translation).backward()  # type: ignore[no-untyped-call]
    assert float(rotation + translation) == 0
    assert T.grad is not None
    assert bool(T.grad.isfinite().all())
    assert float(sum(pose_loss(T, truth, torch.zeros(3, dtype=torch.bool)))) == 0


def test_relative_poses_agree_with_the_geometry_module() -> None:
    T = se3_exp(np.random.default_rng(0).normal(size=(5, 6)))
    a, b = T[:4], T[1:]
    expected = np.linalg.inv(a) @ b
    found = relative_poses(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert np.allclose(found[:, :3], expected[:, :3, 3])
    assert np.allclose(np.abs((found[:, 3:] * quaternion_xyzw(expected)).sum(-1)), 1)
    unknown = torch.from_numpy(a).clone()
    unknown[0] = math.nan
    assert relative_poses(unknown, torch.from_numpy(b))[0].tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_gradients_are_those_of_the_values() -> None:
    mask = random(2, 4, 5, seed=1) > 0.3
    depth, truth = random(2, 4, 5) + 0.5, random(2, 4, 5, seed=2) + 0.5
    c = (random(2, 4, 5, seed=3) + 0.1).requires_grad_()
    error = random(2, 4, 5, seed=4).requires_grad_()
    assert gradcheck(lambda e, k: confidence_loss(e, k, mask, 0.2), (error, c))
    d = depth.requires_grad_()
    assert gradcheck(lambda x: gradient_loss(log_ratio(x, truth), mask, 2), (d,))
    assert gradcheck(lambda x: masked_mean(log_ratio(x, truth).abs(), mask), (d,))
    v = random(3, 4, seed=5).requires_grad_()
    assert gradcheck(safe_norm, (v,))
    T, T_truth = random(3, 7, seed=6).requires_grad_(), random(3, 7, seed=7)
    assert gradcheck(lambda x: torch.stack(pose_loss(x, T_truth, ALL[:3])), (T,))


def test_empty_masks_give_zero_with_zero_gradient() -> None:
    depth = torch.ones(1, 4, 4, requires_grad=True)
    none = torch.zeros(1, 4, 4, dtype=torch.bool)
    ratio = log_ratio(depth, torch.zeros(1, 4, 4))
    loss = masked_mean(ratio, none) + gradient_loss(ratio, none, 4) + confidence_loss(ratio, depth, none, 0.2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss) == 0
    assert depth.grad is not None
    assert bool((depth.grad == 0).all())
