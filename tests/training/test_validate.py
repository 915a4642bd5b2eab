"""Validation: known errors, calibration of confidences, and an export that carries both."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from remov3r.errors import DataError
from remov3r.models.network import Remov3rNetwork
from remov3r.models.weights import load_weights
from remov3r.training.config import TrainConfig
from remov3r.training.export import export
from remov3r.training.trainer import RunOptions, Trainer
from remov3r.training.validate import _Pixels, calibrate, depth_errors, pose_errors, validate


def test_depth_errors_known_values() -> None:
    truth = torch.tensor([1.0, 2.0, 4.0])
    raw = depth_errors(1.3 * truth, truth)
    assert raw == pytest.approx((0.3, 0.0, 0.0, 1.0), abs=1e-6)
    assert depth_errors(torch.tensor([1.0, 2.0, 6.0]), truth)[:2] == pytest.approx((0.5 / 3, 2 / 3))


def test_pose_errors_known_values() -> None:
    half = math.radians(10) / 2
    turned = torch.tensor([[0.3, 0.0, 0.4, 0.0, math.sin(half), 0.0, math.cos(half)]])
    identity = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]])
    translation, rotation = pose_errors(turned, identity)
    assert float(translation) == pytest.approx(0.5)
    assert float(rotation) == pytest.approx(10, abs=1e-4)


def test_calibration_recovers_sigma_and_ranks_by_confidence() -> None:
    """Normal errors of σ = 0.4 / c: the factor is 0.4 and the shares are those of a normal distribution."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(1, 8, 40000)
    error = np.abs(rng.normal(size=40000)) * 0.4 / confidence
    found = calibrate([_Pixels(error[:100], confidence[:100]), _Pixels(error[100:], confidence[100:])])
    assert found.sigma_factor == pytest.approx(0.4, rel=0.02)
    assert found.within_1_sigma == pytest.approx(0.683, abs=0.01)
    assert found.within_2_sigma == pytest.approx(0.954, abs=0.01)
    assert list(found.abs_rel_by_confidence) == sorted(found.abs_rel_by_confidence, reverse=True)


def test_validation_covers_depth_poses_and_missing_sets(shards: Path, config: TrainConfig) -> None:
    torch.manual_seed(0)
    network = Remov3rNetwork().train()
    report = validate(network, shards, config, torch.device("cpu"), with_poses=True)
    assert report is not None
    assert network.training
    assert list(report.depth) == ["val"]
    assert report.depth["val"].frames == 4  # 2 clips, every second frame of 4
    assert report.mean.abs_rel == pytest.approx(report.depth["val"].abs_rel)
    poses = report.poses["val"]
    assert poses.clips == 2
    assert poses.keyframe_threshold == poses.divergence[-1]  # the clips are shorter than the interval
    assert validate(network, shards / "planes", config, torch.device("cpu"), False) is None


def test_export_carries_weights_threshold_and_sigma(
    shards: Path, config: TrainConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    trainer = Trainer(config, RunOptions(shards, tmp_path / "run", "clips", max_steps=1), Remov3rNetwork())
    report = trainer.run()
    assert report is not None
    card = export(tmp_path / "run" / "checkpoint.pt", tmp_path / "lite.safetensors", "7", "planes")
    loaded = load_weights(tmp_path / "lite.safetensors")
    assert (card.version, card.data) == ("7", "planes")
    assert loaded.card.sigma_factor == report.calibration.sigma_factor
    assert loaded.network.config.keyframes.threshold == report.poses["val"].keyframe_threshold
    assert loaded.card.figures["steps"] == 1
    for name, weight in loaded.network.state_dict().items():
        assert torch.allclose(weight, trainer.average.state_dict()[name], rtol=1e-3, atol=1e-4)
    (tmp_path / "run" / "validation.json").unlink()
    with pytest.raises(DataError, match=r"validation\.json"):
        export(tmp_path / "run" / "checkpoint.pt", tmp_path / "lite.safetensors", "7", "planes")
