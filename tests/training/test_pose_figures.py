"""Pose figures: clip errors as evo gives them, known values, and covariances judged by normalised errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from remov3r.data.pose_files import known_trajectory
from remov3r.eval.trajectory import evaluate_trajectory
from remov3r.geometry import se3_exp
from remov3r.losses import compose, normalised_error, relative_poses, tangent_error
from remov3r.training.pose_figures import (
    CovarianceFigures,
    clip_errors,
    covariance_figures,
    pooled_covariance,
    pose_errors,
)
from remov3r.types import Trajectory


def path(frames: int, seed: int) -> np.ndarray:
    """A random walk, T_world_cam."""
    rng = np.random.default_rng(seed)
    T = [np.eye(4)]
    for step in se3_exp(rng.normal(0, 0.1, (frames - 1, 6))):
        T.append(T[-1] @ step)
    return np.stack(T)


def trajectory(T_world_cam: np.ndarray) -> Trajectory:
    frames = range(len(T_world_cam))
    return known_trajectory(frames, [i / 10 for i in frames], list(T_world_cam))


def test_pose_errors_known_values() -> None:
    half = math.radians(10) / 2
    turned = torch.tensor([[0.3, 0.0, 0.4, 0.0, math.sin(half), 0.0, math.cos(half)]])
    identity = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]])
    translation, rotation = pose_errors(turned, identity)
    assert float(translation) == pytest.approx(0.5)
    assert float(rotation) == pytest.approx(10, abs=1e-4)


@pytest.mark.parametrize("frames", [3, 16])
def test_clip_errors_are_those_of_evo(frames: int) -> None:
    pytest.importorskip("evo")
    truth = path(frames, 0)
    noise = np.random.default_rng(1).normal(0, 0.05, (frames, 6))
    estimate = se3_exp(np.array([1.0, 2, 3, 0.3, -2, 1])) @ truth @ se3_exp(noise)
    found = clip_errors(estimate, truth)
    evo = evaluate_trajectory(trajectory(estimate), trajectory(truth))
    assert found.ate_rmse_m == pytest.approx(evo.se3.ate_rmse_m)
    assert found.rte_rmse_m == pytest.approx(evo.rte_rmse_m)
    assert found.rre_rmse_deg == pytest.approx(evo.rre_rmse_deg)
    assert found.ate_rmse_m > 0.01


def test_clip_errors_known_values() -> None:
    """A straight path of unit steps given as half as long: positions off by 1, 0, 1 m / 2; steps by half a metre."""
    truth = np.tile(np.eye(4), (3, 1, 1))
    truth[:, 0, 3] = [0, 1, 2]
    half = truth.copy()
    half[:, 0, 3] /= 2
    found = clip_errors(half, truth)
    assert found.ate_rmse_m == pytest.approx(math.sqrt((0.25 + 0 + 0.25) / 3))
    assert found.rte_rmse_m == pytest.approx(0.5)
    assert found.rre_rmse_deg == pytest.approx(0, abs=1e-6)
    moved = se3_exp(np.array([1.0, 2, 3, 0.3, -2, 1])) @ truth
    assert clip_errors(moved, truth).ate_rmse_m == pytest.approx(0, abs=1e-9)
    still = np.tile(np.eye(4), (3, 1, 1))
    assert clip_errors(still, truth).ate_rmse_m == pytest.approx(math.sqrt(2 / 3))
    turned = still.copy()
    turned[1] = se3_exp(np.array([0.0, 0, 0, 0, 0, math.radians(5)]))
    assert clip_errors(turned, still).rre_rmse_deg == pytest.approx(5)


def test_a_mirrored_path_is_not_a_turned_one() -> None:
    truth = path(8, 0)
    mirrored = truth.copy()
    mirrored[:, 0, 3] *= -1
    assert clip_errors(mirrored, truth).ate_rmse_m > 0.01


def test_honest_covariances_have_a_mean_normalised_error_of_6() -> None:
    """Poses disturbed by Exp(e), e ~ N(0, L Lᵀ); with L half as large the factor is 4."""
    rng = np.random.default_rng(0)
    L = np.tril(rng.normal(0, 0.01, (6, 6)), -1) + np.diag([0.02, 0.03, 0.01, 0.05, 0.04, 0.1])
    e = rng.normal(size=(4000, 6)) @ L.T  # rotation, translation
    noise = se3_exp(np.concatenate([e[:, 3:], e[:, :3]], 1))
    world = torch.eye(4, dtype=torch.float64).expand(4000, 4, 4)
    disturbance = relative_poses(world, torch.from_numpy(noise))
    T = relative_poses(world, torch.from_numpy(path(4000, 1)))
    errors = tangent_error(T, compose(T, disturbance))
    assert np.allclose(errors.numpy(), e, atol=1e-6)
    for scale, factor in ((1.0, 1.0), (0.5, 4.0)):
        z = normalised_error(errors, scale * torch.from_numpy(L).expand(4000, 6, 6))
        found = covariance_figures([z[:1000].square().sum(-1).numpy(), z[1000:].square().sum(-1).numpy()])
        assert found is not None
        assert found.frames == 4000
        assert found.nees == pytest.approx(6 * factor, rel=0.05)
        assert found.factor == pytest.approx(factor, rel=0.05)
        assert found.held_out_nees == pytest.approx(6, rel=0.05)


def test_pooling_weighs_frames_and_not_sets() -> None:
    found = pooled_covariance(
        [
            CovarianceFigures(half_frames=(1, 0), half_nees=(12, 0)),
            CovarianceFigures(half_frames=(1, 2), half_nees=(6, 3)),
        ]
    )
    assert found == CovarianceFigures(half_frames=(2, 2), half_nees=(9, 3))
    assert found is not None
    assert (found.frames, found.nees, found.factor) == (4, 6, 1)
    assert found.held_out_nees == pytest.approx(6 * (3 + 1 / 3) / 2)  # each half with the other's factor
    assert np.isnan(CovarianceFigures(half_frames=(3, 0), half_nees=(6, 0)).held_out_nees)
    assert pooled_covariance([]) is None
