"""Learning rates and lengths of runs: known values; the paper's table 1 in its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from remov3r.errors import ConfigError
from remov3r.models.sizes import network_config
from remov3r.training.config import EpochConfig, OptimizerConfig, read_train_config
from remov3r.training.schedule import learning_rate, progress, run_steps


def test_rate_rises_then_decays_to_its_end() -> None:
    config = OptimizerConfig(warmup_steps=10, final=0.01)
    assert learning_rate(0, 0.0, config) == pytest.approx(0.1)
    assert learning_rate(9, 0.0, config) == pytest.approx(1)
    assert learning_rate(500, 0.5, config) == pytest.approx(0.505)
    assert learning_rate(999, 1.0, config) == pytest.approx(0.01)


def test_rate_falls_by_gamma_after_each_epoch() -> None:
    config, epochs = OptimizerConfig(warmup_steps=0), EpochConfig(count=1000, steps=100, gamma=0.995)
    assert learning_rate(0, 0.0, config, epochs) == 1
    assert learning_rate(99, 0.5, config, epochs) == 1
    assert learning_rate(100, 0.5, config, epochs) == pytest.approx(0.995)
    assert learning_rate(99_999, 1.0, config, epochs) == pytest.approx(0.995**999)
    assert run_steps(None, epochs) == 100_000
    assert run_steps(10, epochs) == 10
    assert run_steps(None, None) is None


def test_progress_is_of_the_budget_used_up_first() -> None:
    assert progress(30.0, 5, 60.0, None) == pytest.approx(0.5)
    assert progress(30.0, 9, 60.0, 10) == pytest.approx(0.9)
    assert progress(90.0, 1, 60.0, 10) == 1


@pytest.mark.parametrize("name", ["train_lite", "train_small", "train_paper"])
def test_shipped_configurations_are_valid(name: str) -> None:
    config = read_train_config(name)
    assert config.network.encoder.kind == ("efficientnet_lite0" if name == "train_lite" else "dinov2")


def test_table_1() -> None:
    config = read_train_config("train_paper")
    clips, optimizer = config.stage("clips"), config.optimizer
    assert (clips.batch, clips.accumulate, clips.frames) == (8, 1, 16)
    assert (config.width, config.height) == (224, 224)
    assert (clips.lr, clips.lr_factors, optimizer.warmup_steps) == (1e-4, {}, 0)
    assert config.epochs is not None
    assert (config.epochs.gamma, config.epochs.count) == (0.995, 1000)
    assert (optimizer.clip, optimizer.weight_decay, config.precision) == (5.0, 0.01, "fp16")
    with pytest.raises(ConfigError, match="depth"):
        config.stage("depth")


def test_an_unknown_size_of_network_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('network = "huge"')
    with pytest.raises(ConfigError, match="network_huge"):
        read_train_config(str(tmp_path / "run.toml"))


def test_one_value_of_a_named_size_can_be_changed() -> None:
    config = read_train_config("train_lite", ["network.local_state.covariance=true"])
    assert config.network.local_state.covariance
    assert config.network.fusion == network_config("lite").fusion
