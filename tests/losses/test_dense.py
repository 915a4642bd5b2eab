"""Dense losses: known values, the optimum of equation 1, gradients, no NaN where nothing can be learnt."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.autograd import gradcheck

from remov3r.losses import (
    LossConfig,
    confidence_loss,
    depth_error,
    gradient_loss,
    log_ratio,
    masked_mean,
    points_error,
    safe_norm,
    scene_scale,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def every(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.bool)


def test_masked_mean_is_of_images_first() -> None:
    """One valid pixel of the first image counts as much as both of the second; an empty image counts as 0."""
    values = torch.tensor([[1.0, math.nan], [3.0, 5.0], [math.inf, math.nan]])
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    assert float(masked_mean(values, mask)) == pytest.approx((1 + 4 + 0) / 3)
    assert float(masked_mean(values, torch.zeros_like(mask))) == 0


def test_confidence_loss_known_value() -> None:
    """c·e − α·log c, averaged: (2·0.5 − 0.2·log 2 + 4·0.25 − 0.2·log 4) / 2."""
    loss = confidence_loss(torch.tensor([[0.5, 0.25]]), torch.tensor([[2.0, 4.0]]), every(1, 2), 0.2)
    assert float(loss) == pytest.approx(1 - 0.2 * (math.log(2) + math.log(4)) / 2)


def test_best_confidence_is_alpha_over_expected_error() -> None:
    """For Laplace errors of scale b the loss is least at c = α / b, so σ = √2 · α / c."""
    b, alpha = 0.13, 0.2
    error = -b * torch.log1p(-(torch.arange(4000) + 0.5) / 4000)[None]  # quantiles: no sampling noise
    candidates = alpha / b * torch.linspace(0.5, 1.5, 41)
    losses = [float(confidence_loss(error, c.expand(1, 4000), every(1, 4000), alpha)) for c in candidates]
    assert alpha / float(candidates[int(np.argmin(losses))]) == pytest.approx(b, rel=0.02)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_no_confidence_and_missing_truth_stay_finite(value: float) -> None:
    confidence = torch.full((1, 4), value, requires_grad=True)
    error, mask = torch.tensor([[0.0, 1.0, math.nan, math.inf]]), torch.tensor([[True, True, False, False]])
    loss = confidence_loss(error, confidence, mask, 0.2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(loss.item())
    assert confidence.grad is not None
    assert bool(confidence.grad.isfinite().all())


def test_scene_scale_is_the_mean_distance_of_valid_points() -> None:
    points = torch.tensor([[[0.0, 3, 4], [0, 0, 1], [100, 0, 0]]])[None].repeat(3, 1, 1, 1)
    points[2] = math.nan
    mask = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])[:, None]
    assert scene_scale(points, mask).tolist() == pytest.approx([3, 106 / 3, 1])
    assert scene_scale(torch.zeros(1, 1, 3, 3), every(1, 1, 3)).tolist() == [1]


def test_errors_of_equation_1_known_values() -> None:
    """|2 − 3| / 2 by the pixel's own depth; |2/4 − 3/5| by ŝ = 4, s = 5; points likewise."""
    two, three = torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), 3.0)
    scales = torch.tensor([4.0]), torch.tensor([5.0])
    assert float(depth_error(two, three)) == 0.5
    assert float(depth_error(two, three, scales)) == pytest.approx(0.1)
    assert float(depth_error(0 * two, 0 * two)) == 0
    a, b = torch.tensor([0.0, 3.0, 4.0])[None, None, None], torch.tensor([0.0, 3.0, 5.0])[None, None, None]
    assert float(points_error(a, b)) == pytest.approx(0.2)
    assert float(points_error(a, b, (scales[1], scales[1]))) == pytest.approx(0.2)
    assert float(points_error(a, b, scales)) == pytest.approx(0.15)  # (0, 3/4 − 3/5, 4/4 − 5/5)


def test_a_scale_of_the_prediction_makes_equation_1_blind_to_its_scale() -> None:
    truth = random(2, 3, 4, 3) + 0.5
    mask = every(2, 3, 4)
    scales = scene_scale(1.7 * truth, mask), scene_scale(truth, mask)
    assert float(points_error(1.7 * truth, truth, scales).max()) < 1e-12
    assert float(points_error(1.7 * truth, truth, (scales[1], scales[1])).min()) > 0.1


def test_best_depth_is_the_median_and_not_drawn_to_small_depths() -> None:
    """The gradient vanishes at the median of the truths and points towards it from either side."""
    truth = torch.tensor([[[1.0, 2.0, 4.0, 8.0, 16.0]]])

    def slope(depth_m: float) -> float:
        depth = torch.full((1, 1, 5), depth_m, requires_grad=True)
        depth_error(depth, truth).sum().backward()  # type: ignore[no-untyped-call]
        assert depth.grad is not None
        return float(depth.grad.sum())

    assert slope(4.0) == 0
    assert slope(3.9) < 0 < slope(4.1)


def test_gradient_loss_known_values() -> None:
    """A constant offset in log depth costs nothing; a ramp of 0.1 per pixel costs 0.1·2^s / 2 at scale s."""
    mask = every(1, 8, 8)
    assert float(gradient_loss(torch.full((1, 8, 8), 0.7), mask, 3)) == 0
    ramp = (0.1 * torch.arange(8.0)).expand(1, 8, 8)
    assert float(gradient_loss(ramp, mask, 3)) == pytest.approx((0.05 + 0.1 + 0.2) / 3)
    lonely = torch.zeros(1, 8, 8, dtype=torch.bool)
    lonely[0, 3, 3] = True
    assert float(gradient_loss(torch.rand(1, 8, 8), lonely, 3)) == 0


def test_log_ratio_of_missing_depth_is_finite() -> None:
    assert bool(log_ratio(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 0.0])).isfinite().all())
    assert float(log_ratio(torch.tensor(2.0), torch.tensor(1.0))) == pytest.approx(math.log(2))


def test_gradients_are_those_of_the_values() -> None:
    mask = random(2, 4, 5, seed=1) > 0.3
    truth = random(2, 4, 5, seed=2) + 0.5
    d = (random(2, 4, 5) + 0.5).requires_grad_()
    c = (random(2, 4, 5, seed=3) + 0.1).requires_grad_()
    error = random(2, 4, 5, seed=4).requires_grad_()
    assert gradcheck(lambda e, k: confidence_loss(e, k, mask, 0.2), (error, c))
    assert gradcheck(lambda x: gradient_loss(log_ratio(x, truth), mask, 2), (d,))
    assert gradcheck(lambda x: masked_mean(log_ratio(x, truth).abs(), mask), (d,))
    assert gradcheck(safe_norm, (random(3, 4, seed=5).requires_grad_(),))


def test_gradients_of_equation_1_with_scene_scales() -> None:
    """Also through ŝ where it comes from the prediction."""
    mask = random(2, 3, 4, seed=1) > 0.3
    truth, depth = random(2, 3, 4, 3, seed=2) + 0.5, random(2, 3, 4, seed=3) + 0.5
    c = (random(2, 3, 4, seed=4) + 0.1).requires_grad_()
    p, d = (random(2, 3, 4, 3, seed=5) + 0.5).requires_grad_(), (depth + 0.3).requires_grad_()
    s = scene_scale(truth, mask)

    def on_points(x: Tensor, k: Tensor) -> Tensor:
        return confidence_loss(points_error(x, truth, (scene_scale(x, mask), s)), k, mask, 0.2)

    def on_depth(x: Tensor, k: Tensor) -> Tensor:
        return confidence_loss(depth_error(x, depth, (s, s)), k, mask, 0.2)

    assert gradcheck(on_points, (p, c))
    assert gradcheck(on_depth, (d, c))


def test_own_scale_of_a_pixel_passes_no_gradient() -> None:
    """d/dx of |x − y| / x̄ with x̄ held fixed is sign(x − y) / x."""
    depth = (random(1, 2, 3) + 0.5).requires_grad_()
    truth = random(1, 2, 3, seed=1) + 0.5
    depth_error(depth, truth).sum().backward()  # type: ignore[no-untyped-call]
    assert depth.grad is not None
    assert torch.allclose(depth.grad, (depth - truth).sign() / depth)


def test_empty_masks_give_zero_with_zero_gradient() -> None:
    depth = torch.ones(1, 4, 4, requires_grad=True)
    none = torch.zeros(1, 4, 4, dtype=torch.bool)
    ratio = log_ratio(depth, torch.zeros(1, 4, 4))
    loss = masked_mean(ratio, none) + gradient_loss(ratio, none, 4) + confidence_loss(ratio, depth, none, 0.2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert depth.grad is not None
    assert bool((depth.grad == 0).all())


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="scene"):
        LossConfig(metric=False, normalise="pixel")
    with pytest.raises(ValidationError, match="local_pose"):
        LossConfig(local_pose=-1.0)
