"""Covariance head and scale-shift head."""

from __future__ import annotations

import pytest
import torch

from remov3r.models.covariance import START_M, START_RAD, CovarianceHead
from remov3r.models.scale_shift import LARGEST_LOG_SCALE, LARGEST_SHIFT, ScaleShift


def test_factors_are_lower_triangular_with_positive_diagonal() -> None:
    head = CovarianceHead(5, 8)
    torch.nn.init.normal_(head.mlp[2].weight, std=3.0)  # type: ignore[arg-type]
    L = head(torch.randn(2, 3, 5))
    assert L.shape == (2, 3, 6, 6)
    assert torch.equal(L, L.tril())
    assert (L.diagonal(dim1=-2, dim2=-1) > 0).all()
    assert (torch.linalg.eigvalsh((L @ L.mT).double()) > 0).all()
    assert L.tril(-1).abs().max() > 0


def test_an_untrained_covariance_is_the_stated_one() -> None:
    head = CovarianceHead(5, 8)
    torch.nn.init.zeros_(head.mlp[2].weight)  # type: ignore[arg-type]
    L = head(torch.randn(4, 5))
    expected = torch.diag(torch.tensor([START_RAD] * 3 + [START_M] * 3))
    torch.testing.assert_close(L, expected.expand(4, 6, 6))


def test_the_covariance_costs_the_pose_nothing() -> None:
    x = torch.randn(3, 5, requires_grad=True)
    torch.autograd.backward(CovarianceHead(5, 8)(x).sum() + 0 * x.sum())
    assert x.grad is not None
    assert not x.grad.any()


def inputs(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.rand(batch, 8, 8) + 0.5, torch.randn(batch, 6, 2, 2), torch.full((batch, 2), 0.9)


def last_bias(head: ScaleShift) -> torch.Tensor:
    last = head.mlp[2]
    assert isinstance(last, torch.nn.Linear)
    return last.bias


def test_scale_shift_starts_as_identity() -> None:
    log_prior, coarse, focal = inputs()
    torch.testing.assert_close(ScaleShift(6)(log_prior, coarse, focal), log_prior)


@pytest.mark.parametrize(("scale", "shift"), [(0.3, 0.0), (-0.3, 0.0), (0.0, 0.5), (0.1, -0.2)])
def test_scale_and_shift_do_what_they_say(scale: float, shift: float) -> None:
    log_prior, coarse, focal = inputs()
    head = ScaleShift(6)
    with torch.no_grad():
        last_bias(head).copy_(torch.tensor([scale, shift]).atanh())
    depth = log_prior.exp()
    expected = (LARGEST_LOG_SCALE * torch.tensor(scale)).exp() * (
        depth + LARGEST_SHIFT * shift * depth.mean((1, 2), keepdim=True)
    )
    torch.testing.assert_close(head(log_prior, coarse, focal).exp(), expected)


def test_depth_stays_positive_under_any_shift() -> None:
    log_prior, coarse, focal = inputs()
    log_prior[:, 0, 0] = -5.0
    head = ScaleShift(6)
    with torch.no_grad():
        last_bias(head).copy_(torch.tensor([0.0, -30.0]))
    assert head(log_prior, coarse, focal).isfinite().all()
