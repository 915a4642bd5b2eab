"""Objective: what each switch changes, equal parts of a batch, and nothing but finite numbers."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from remov3r.errors import ConfigError
from remov3r.geometry import se3_exp
from remov3r.losses import LossConfig
from remov3r.models.network import ClipOutput, DepthOutput
from remov3r.training.objective import (
    LossParts,
    Truth,
    clip_objective,
    depth_objective,
    true_relative_poses,
    unprojected,
)

PAPER = LossConfig(
    normalise="scene", masked=False, prior_log=0, refined_log=0, gradient=0, points_confidence=1
)
EVERYTHING = LossConfig(smoothness=0.1, covariance=0.1)
CLIPS, FRAMES, H, W = 4, 6, 5, 7


def truth_of(seed: int = 0) -> Truth:
    """Clips with holes, an image and a clip without any depth, and unknown poses; two windows a clip."""
    rng = np.random.default_rng(seed)
    depth = torch.from_numpy(rng.uniform(1, 4, (CLIPS, FRAMES, H, W)).astype(np.float32))
    valid = torch.from_numpy(rng.random((CLIPS, FRAMES, H, W)) < 0.6)
    valid[0, 1] = False
    valid[2] = False
    T = torch.from_numpy(se3_exp(rng.normal(0, 0.2, (CLIPS, FRAMES, 6))).astype(np.float32))
    T[1, 3], T[3] = math.nan, math.nan
    K = torch.tensor([[10.0, 0, 6.5], [0, 10, 4.5], [0, 0, 1]]).expand(CLIPS, FRAMES, 3, 3)
    key = torch.tensor([0, 0, 0, 3, 3, 3]).expand(CLIPS, FRAMES)
    rgb = torch.zeros(CLIPS, FRAMES, 2 * H, 2 * W, 3, dtype=torch.uint8)
    return Truth(rgb, torch.where(valid, depth, 0.0), valid, K, T, key)


def output_of(truth: Truth, seed: int = 1) -> ClipOutput:
    """Predictions of any kind, with gradients."""
    rng = np.random.default_rng(seed)

    def random(*shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(0.5, 3, shape).astype(np.float32)).requires_grad_()

    maps = CLIPS, FRAMES, H, W
    q = torch.nn.functional.normalize(random(2, CLIPS, FRAMES, 4), dim=-1)
    T = torch.cat([random(2, CLIPS, FRAMES, 3), q], -1)
    L = random(CLIPS, FRAMES, 6, 6).tril()
    return ClipOutput(
        random(*maps), random(*maps), random(*maps), random(*maps, 3), random(*maps),
        random(CLIPS, FRAMES, 8), truth.keyframe_index, T[0], T[1], L,
    )  # fmt: skip


def perfect(truth: Truth) -> ClipOutput:
    """The truth itself as prediction, with confidence 1."""
    local, world, _ = true_relative_poses(truth)
    points = unprojected(truth.depth_m.flatten(0, 1), truth.K.flatten(0, 1)).view(CLIPS, FRAMES, H, W, 3)
    d, c = truth.depth_m, torch.ones_like(truth.depth_m)
    L = torch.eye(6).expand(CLIPS, FRAMES, 6, 6)
    return ClipOutput(d, d, c, points, c, c.mean((2, 3))[..., None], truth.keyframe_index, local, world, L)


def part(of: Truth | ClipOutput, clips: slice) -> dict[str, Tensor]:
    return {f.name: getattr(of, f.name)[clips] for f in fields(of)}


def graded(output: ClipOutput) -> list[Tensor]:
    """Retain gradients of every prediction that a loss may reach."""
    names = "prior_depth_m depth_m depth_confidence points_cam points_confidence T_key_cam T_world_key local_cholesky"
    tensors = [getattr(output, name) for name in names.split()]
    for tensor in tensors:
        tensor.retain_grad()
    return tensors


CONFIGS = {
    "lite": EVERYTHING,
    "paper": PAPER.model_copy(update={"smoothness": 0.1, "covariance": 0.1}),
    "scale-free": LossConfig(
        normalise="scene", metric=False, rotation="geodesic", smoothness=1, covariance=1
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_batch_is_the_mean_of_its_halves(name: str) -> None:
    truth = truth_of()
    output = output_of(truth)
    whole = clip_objective(output, truth, CONFIGS[name])
    halves = [
        clip_objective(ClipOutput(**part(output, s)), Truth(**part(truth, s)), CONFIGS[name])
        for s in (slice(0, 2), slice(2, 4))
    ]
    for term, value in whole.figures().items():
        assert value == pytest.approx(np.mean([h.figures()[term] for h in halves]), rel=1e-5), term
    assert whole.total().item() == pytest.approx(np.mean([h.total().item() for h in halves]), rel=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_finite_and_reach_every_prediction(name: str) -> None:
    truth = truth_of()
    output = output_of(truth)
    tensors = graded(output)
    clip_objective(output, truth, CONFIGS[name]).total().backward()  # type: ignore[no-untyped-call]
    reached = [t for t in tensors if t.grad is not None and bool((t.grad != 0).any())]
    assert all(bool(t.grad.isfinite().all()) for t in reached if t.grad is not None)
    assert len(reached) == len(tensors) - (name == "paper")  # which has no loss on the prior


def test_not_a_number_under_the_mask_changes_nothing() -> None:
    truth = truth_of()
    expected = clip_objective(output_of(truth), truth, EVERYTHING).figures()
    spoilt = replace(truth, depth_m=torch.where(truth.valid, truth.depth_m, math.nan))
    output = output_of(truth)
    tensors = graded(output)
    parts = clip_objective(output, spoilt, EVERYTHING)
    parts.total().backward()  # type: ignore[no-untyped-call]
    assert parts.figures() == expected
    assert all(t.grad is not None and bool(t.grad.isfinite().all()) for t in tensors)


def test_nothing_known_costs_nothing() -> None:
    truth = truth_of()
    blind = replace(
        truth, valid=torch.zeros_like(truth.valid), T_world_cam=torch.full_like(truth.T_world_cam, math.nan)
    )
    output = output_of(truth)
    tensors = graded(output)
    config = LossConfig(normalise="scene", covariance=1.0)
    total = clip_objective(output, blind, config).total()
    total.backward()  # type: ignore[no-untyped-call]
    assert total.item() == 0
    assert all(t.grad is not None and not bool(t.grad.any()) for t in tensors)


@pytest.mark.parametrize("rotation", ["quaternion", "geodesic"])
def test_perfect_predictions_cost_nothing(rotation: str) -> None:
    """With confidence 1, Σ = 1 and a camera that moves: only smoothness is above 0."""
    truth = truth_of()
    config = LossConfig(
        rotation="geodesic" if rotation == "geodesic" else "quaternion", smoothness=1, covariance=1
    )
    parts = clip_objective(perfect(truth), truth, config)
    figures = parts.figures()
    assert figures.pop("smoothness") > 0.1
    assert list(figures.values()) == pytest.approx([0.0] * len(figures), abs=1e-5)


def test_masks_off_counts_missing_depth_as_zero() -> None:
    """All predicted at 2 m, nothing known of the second image: |2 − 0| / s with s = 1 there."""
    truth = truth_of()
    truth = replace(truth, depth_m=torch.ones_like(truth.depth_m), valid=torch.ones_like(truth.valid))
    truth.depth_m[:, 1], truth.valid[:, 1] = 0, False
    output = perfect(truth)
    output = replace(output, depth_m=torch.full_like(output.depth_m, 2.0))
    config = PAPER.model_copy(update={"points_confidence": 0.0})
    s = unprojected(truth.depth_m[0, :1], truth.K[0, :1]).norm(dim=-1).mean().item()
    off = clip_objective(output, truth, config).depth_confidence
    on = clip_objective(output, truth, config.model_copy(update={"masked": True})).depth_confidence
    assert off is not None
    assert on is not None
    assert off.item() == pytest.approx(((FRAMES - 1) / s + 2) / FRAMES, rel=1e-5)
    assert on.item() == pytest.approx((FRAMES - 1) / s / FRAMES, rel=1e-5)


def test_scene_scale_divides_translations_and_points() -> None:
    """Doubling the world and the prediction leaves the loss of the paper as it is, and doubles metres."""
    truth = truth_of()
    output = output_of(truth)
    T_world_cam = truth.T_world_cam.clone()
    T_world_cam[..., :3, 3] *= 2
    double = replace(truth, depth_m=2 * truth.depth_m, T_world_cam=T_world_cam)

    def doubled(T: Tensor) -> Tensor:
        return torch.cat([2 * T[..., :3], T[..., 3:]], -1)

    scaled = replace(
        output, depth_m=2 * output.depth_m, points_cam=2 * output.points_cam,
        T_key_cam=doubled(output.T_key_cam), T_world_key=doubled(output.T_world_key),
    )  # fmt: skip
    known = replace(truth, valid=torch.ones_like(truth.valid), depth_m=truth.depth_m + 1)
    paper = PAPER.model_copy(update={"masked": True})
    ours = clip_objective(output, known, paper).figures()
    twice = clip_objective(
        scaled, replace(double, valid=known.valid, depth_m=2 * known.depth_m), paper
    ).figures()
    assert twice == pytest.approx(ours, rel=1e-4)
    metres = clip_objective(scaled, double, LossConfig()).figures()["local_translation"]
    assert metres == pytest.approx(
        2 * clip_objective(output, truth, LossConfig()).figures()["local_translation"]
    )


def test_terms_of_weight_0_are_not_computed() -> None:
    truth = truth_of()
    output = output_of(truth)
    parts = clip_objective(output, truth, LossConfig(gradient=0, global_pose=0))
    assert parts.gradient is None
    assert parts.global_rotation is None
    assert parts.smoothness is None
    assert parts.figures()["gradient"] == 0
    assert list(parts.figures()) == [f.name for f in fields(LossParts)]
    depth = DepthOutput(*(getattr(output, f.name).flatten(0, 1) for f in fields(DepthOutput)))
    single = depth_objective(depth, truth, LossConfig())
    assert single.local_rotation is None
    assert single.depth_confidence is not None
    none = LossConfig(depth_confidence=0, points_confidence=0, prior_log=0, refined_log=0, gradient=0)
    with pytest.raises(ConfigError, match="every weight"):
        depth_objective(depth, truth, none).total()


def test_likelihood_trains_the_covariance_alone_and_needs_its_head() -> None:
    truth = truth_of()
    output = output_of(truth)
    tensors = graded(output)
    likelihood = clip_objective(output, truth, EVERYTHING).covariance
    assert likelihood is not None
    likelihood.backward()  # type: ignore[no-untyped-call]
    assert [t.grad is not None for t in tensors] == [False] * 7 + [True]
    with pytest.raises(ConfigError, match="covariance head"):
        clip_objective(replace(output, local_cholesky=None), truth, EVERYTHING)


def test_without_metric_truth_the_scale_of_a_prediction_is_free() -> None:
    truth = truth_of()
    output = output_of(truth)
    tripled = replace(
        output, depth_m=3 * output.depth_m, points_cam=3 * output.points_cam,
        T_key_cam=torch.cat([3 * output.T_key_cam[..., :3], output.T_key_cam[..., 3:]], -1),
        T_world_key=torch.cat([3 * output.T_world_key[..., :3], output.T_world_key[..., 3:]], -1),
    )  # fmt: skip
    config = LossConfig(normalise="scene", metric=False, prior_log=0, refined_log=0, gradient=0)
    known = replace(truth, valid=torch.ones_like(truth.valid), depth_m=truth.depth_m + 1)
    free, same = (clip_objective(o, known, config).figures() for o in (tripled, output))
    assert free == pytest.approx(same, rel=1e-4)
    metric = config.model_copy(update={"metric": True})
    assert (
        clip_objective(tripled, known, metric).figures()["local_translation"]
        > 1.5 * same["local_translation"]
    )


def test_what_a_keyframe_says_of_itself_does_not_count() -> None:
    truth = truth_of()
    output = output_of(truth)
    T_key_cam, cholesky = output.T_key_cam.detach().clone(), output.local_cholesky
    assert cholesky is not None
    cholesky = cholesky.detach().clone()
    T_key_cam[:, [0, 3], :3] += 5
    cholesky[:, [0, 3]] *= 2
    spoilt = replace(output, T_key_cam=T_key_cam, local_cholesky=cholesky)
    config = LossConfig(covariance=1.0)
    assert clip_objective(spoilt, truth, config).figures() == clip_objective(output, truth, config).figures()


def test_smoothness_is_of_world_poses() -> None:
    """Of perfect predictions it is that of the true path, whatever the keyframes."""
    T = torch.from_numpy(
        se3_exp(np.random.default_rng(3).normal(0, 0.2, (CLIPS, FRAMES, 6))).astype(np.float32)
    )
    truth = replace(truth_of(), T_world_cam=T)
    T_before_after = torch.linalg.inv(T[:, :-1]) @ T[:, 1:]
    turned = (T_before_after[..., :3, :3] - torch.eye(3)).norm(dim=(-2, -1))
    expected = (turned + T_before_after[..., :3, 3].norm(dim=-1)).mean()
    found = clip_objective(perfect(truth), truth, LossConfig(smoothness=1.0)).smoothness
    assert found is not None
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
