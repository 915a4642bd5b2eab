"""Validation: known errors, what a report holds, and an export that carries it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from remov3r.errors import DataError
from remov3r.losses import LossConfig
from remov3r.models.network import Remov3rNetwork
from remov3r.models.weights import load_weights
from remov3r.training.clip_sets import ClipSourceConfig
from remov3r.training.config import TrainConfig
from remov3r.training.export import export
from remov3r.training.trainer import RunOptions, Trainer
from remov3r.training.validate import Report, depth_errors, validate
from tests.models.tiny import switched_on, tiny_config, tiny_network


def test_depth_errors_known_values() -> None:
    truth = torch.tensor([1.0, 2.0, 4.0])
    raw = depth_errors(1.3 * truth, truth)
    assert raw == pytest.approx((0.3, 0.0, 0.0, 1.0), abs=1e-6)
    assert depth_errors(torch.tensor([1.0, 2.0, 6.0]), truth)[:2] == pytest.approx((0.5 / 3, 2 / 3))


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
    assert math.isfinite(poses.clip.ate_rmse_m + poses.clip.rte_rmse_m + poses.clip.rre_rmse_deg)
    assert list(report.calibration_by_set) == ["val"]
    assert report.calibration_by_set["val"] == report.calibration  # the only set
    assert report.covariance is None  # no such head
    assert validate(network, shards / "planes", config, torch.device("cpu"), False) is None


def test_every_set_is_judged_by_the_factor_of_all(shards: Path, config: TrainConfig) -> None:
    both = config.validation.model_copy(update={"sets": ("val", "planes")})
    changed = config.model_copy(update={"validation": both})
    report = validate(tiny_network(), shards, changed, torch.device("cpu"), with_poses=False)
    assert report is not None
    found = report.calibration_by_set
    assert list(found) == ["val", "planes"]
    assert sum(c.pixels for c in found.values()) == report.calibration.pixels
    assert {c.sigma_factor for c in found.values()} == {report.calibration.sigma_factor}
    assert found["val"].own_factor != found["planes"].own_factor


def test_validation_judges_the_covariance_head(shards: Path, config: TrainConfig) -> None:
    plain = tiny_config()
    local = plain.local_state.model_copy(update={"covariance": True})
    network = tiny_network(plain.model_copy(update={"local_state": local}))
    report = validate(network, shards, config, torch.device("cpu"), with_poses=True)
    assert report is not None
    found = report.poses["val"].covariance
    assert found is not None
    assert report.covariance == found
    assert found.frames == 2 * 3  # of clips of 4 the first is the keyframe
    assert found.factor == pytest.approx(found.nees / 6)
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_sigma_of_a_scene_scaled_loss_is_a_share_of_the_scene(shards: Path, config: TrainConfig) -> None:
    """The same confidences and errors, the latter over one scale a frame instead of each pixel's depth."""
    network = tiny_network()
    scene = config.model_copy(update={"loss": LossConfig(normalise="scene")})
    reports = [validate(network, shards, c, torch.device("cpu"), False) for c in (config, scene)]
    assert reports[0] is not None
    assert reports[1] is not None
    assert [r.sigma_unit for r in reports if r] == ["pixel", "scene"]
    ratio = reports[1].calibration.sigma_factor / reports[0].calibration.sigma_factor
    assert 0.5 < ratio < 0.95  # points are farther than deep, more so off the axis


def test_export_carries_weights_threshold_and_sigma(
    shards: Path, config: TrainConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = config.model_copy(update={"loss": LossConfig(normalise="scene"), "network": tiny_config()})
    trainer = Trainer(config, RunOptions(shards, tmp_path / "run", "clips", max_steps=1), tiny_network())
    report = trainer.run()
    assert report is not None
    card = export(tmp_path / "run" / "checkpoint.pt", tmp_path / "lite.safetensors", "7", "planes")
    loaded = load_weights(tmp_path / "lite.safetensors")
    assert (card.version, card.data) == ("7", "planes")
    assert loaded.card.sigma_factor == report.calibration.sigma_factor
    assert loaded.card.sigma_unit == "scene"
    assert loaded.card.calibration_error == pytest.approx(report.calibration.error, abs=1e-4)
    assert loaded.card.covariance_factor == 1  # no such head
    assert loaded.card.figures["val_clip_ate_rmse_m"] == pytest.approx(
        report.poses["val"].clip.ate_rmse_m, abs=1e-4
    )
    assert loaded.network.config.keyframes.threshold == report.poses["val"].keyframe_threshold
    assert loaded.card.figures["steps"] == 1
    for name, weight in loaded.network.state_dict().items():
        assert torch.allclose(weight, trainer.average.state_dict()[name], rtol=1e-3, atol=1e-4)
    (tmp_path / "run" / "validation.json").unlink()
    with pytest.raises(DataError, match=r"validation\.json"):
        export(tmp_path / "run" / "checkpoint.pt", tmp_path / "lite.safetensors", "7", "planes")


def test_a_dishonest_covariance_head_is_left_out(shards: Path, config: TrainConfig, tmp_path: Path) -> None:
    config = config.model_copy(update={"network": switched_on(tiny_config())})
    trainer = Trainer(
        config, RunOptions(shards, tmp_path / "run", "clips", max_steps=1), tiny_network(config.network)
    )
    trainer.run()
    arguments = tmp_path / "run" / "checkpoint.pt", tmp_path / "a.safetensors", "1", ""
    assert export(*arguments).covariance_factor != 1
    assert load_weights(tmp_path / "a.safetensors").network.local_state.covariance is not None
    card = export(*arguments, with_covariance=False)
    assert (card.covariance_factor, card.config.local_state.covariance) == (1, False)
    assert load_weights(tmp_path / "a.safetensors").network.local_state.covariance is None


def test_data_sets_as_downloaded_validate_too(shards: Path, posed_folder: Path, config: TrainConfig) -> None:
    source = ClipSourceConfig(path=posed_folder, width=64, height=64)
    validation = config.validation.model_copy(update={"sets": ("video",), "frames": 3, "frame_step": 1})
    config = config.model_copy(update={"data": {"video": source}, "validation": validation})
    report = validate(tiny_network(), shards, config, torch.device("cpu"), with_poses=True)
    assert report is not None
    assert report.depth["video"].frames == 6
    assert report.poses["video"].clips == 2  # of three frames each


def test_a_large_set_is_sampled(shards: Path, config: TrainConfig) -> None:
    validation = config.validation.model_copy(update={"images": 2})
    config = config.model_copy(update={"validation": validation})
    report = validate(tiny_network(), shards, config, torch.device("cpu"), with_poses=False)
    assert report is not None
    assert report.depth["val"].frames == 2  # every other frame of one of the two clips
