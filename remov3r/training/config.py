"""Configuration of a training run; configs/train_lite.toml is a commented instance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from remov3r.config import Config, build, read_toml, with_overrides
from remov3r.errors import ConfigError
from remov3r.losses import LossConfig
from remov3r.models.boxes import NetworkConfig
from remov3r.models.sizes import network_table
from remov3r.training.augment import AugmentConfig
from remov3r.training.clip_sets import ClipSourceConfig

Stage = Literal["depth", "clips"]
Precision = Literal["fp32", "bf16", "fp16"]


class StageConfig(Config):
    """What one stage trains on and how fast.

    Attributes:
        sets: sets of clips, by name, and the share of the samples that each gives.
        batch: clips that one process passes through the network at once.
        accumulate: such passes per step and process, whose gradients are averaged: a step of N processes sees
            N · accumulate · batch clips.
        frames: per clip; 1 draws a random frame of each clip.
        lr: highest learning rate.
        lr_factors: parts of the network, by dotted name, and what `lr` is multiplied by for them; 0 freezes.
            The longest name that fits a parameter counts.
        longest_window: frames after which a training keyframe is replaced at the latest ("clips").
    """

    sets: dict[str, float]
    batch: int = Field(8, ge=1)
    accumulate: int = Field(1, ge=1)
    frames: int = Field(1, ge=1)
    lr: float = Field(1e-3, gt=0)
    lr_factors: dict[str, float] = Field(default_factory=dict)
    longest_window: int = Field(8, ge=1)


class OptimizerConfig(Config):
    """AdamW and its schedule: linear warm-up, then a cosine over the run's length (or `EpochConfig`'s decay).

    Attributes:
        clip: largest gradient norm.
        ema: decay of the averaged weights, which are the ones validated and shipped; 0 takes the last weights.
        warmup_steps: steps of the linear rise.
        final: learning rate at the end of the cosine, as a fraction of the highest.
    """

    weight_decay: float = 0.01
    clip: float = 5.0
    ema: float = Field(0.999, ge=0, lt=1)
    warmup_steps: int = Field(200, ge=0)
    final: float = 0.01


class EpochConfig(Config):
    """A run counted in epochs, whose learning rate falls by a factor after each.

    Attributes:
        count: epochs of the whole run.
        steps: steps of one epoch; an epoch is nothing but a number of steps.
        gamma: what the learning rate is multiplied by after each epoch.
    """

    count: int = Field(ge=1)
    steps: int = Field(ge=1)
    gamma: float = Field(gt=0, le=1)


class ValidationConfig(Config):
    """What is validated and how often.

    Attributes:
        sets: names of sets that are never trained on.
        frames: per clip, of sets that are cut into clips here; shards have their own length.
        frame_step: every so-manieth frame of a clip is used for depth.
        images: most frames of a set that are used for depth, spread over it.
        every_min: minutes of training between validations.
        largest_depth_m: farther ground truth is left out.
        clips: most clips of a set that are used for poses.
        keyframe_interval: frames after which the suggested keyframe threshold should fire.
    """

    sets: tuple[str, ...] = ()
    frames: int = Field(12, ge=1)
    frame_step: int = Field(4, ge=1)
    images: int = Field(512, ge=1)
    every_min: float = 10.0
    largest_depth_m: float = 10.0
    clips: int = Field(12, ge=1)
    keyframe_interval: int = Field(12, ge=1)


class TrainConfig(Config):
    """A training run.

    Attributes:
        width, height: of the network's input; depth is at half that size.
        smallest_depth_m, largest_depth_m: ground truth outside counts as missing.
        precision: "bf16" and "fp16" compute the network under autocast; weights and losses stay float32. "fp16"
            scales the loss, and leaves out a step whose gradient overflows.
        device: "auto" takes a GPU when there is one; under torchrun each process takes its own.
        threads: of torch on the CPU; 1 whenever anything else runs on the machine.
        workers: processes per training process that prepare batches; 0 prepares them in the training process.
        checkpoint_min: minutes between checkpoints.
        keep: last checkpoints that are kept under the number of their step.
        rescan_steps: steps between looks for new shards.
        log_steps: steps between log lines.
        tensorboard: also log to TensorBoard, in the folder of the run.
        depth, clips: the two stages; one that is left out cannot be trained.
        data: sets that are no folder of shards, by the name that `sets` calls them; relative paths start at the
            folder of shards.
        epochs: the run's length and learning rate in epochs; None: a cosine over the time or step budget.
        network: in the TOML file a table, or the name of a size ("lite", "small", "paper").
    """

    seed: int = 0
    width: int = Field(256, multiple_of=2)
    height: int = Field(192, multiple_of=2)
    smallest_depth_m: float = 0.1
    largest_depth_m: float = 15.0
    precision: Precision = "fp32"
    device: str = "auto"
    threads: int = Field(1, ge=1)
    workers: int = Field(1, ge=0)
    checkpoint_min: float = 5.0
    keep: int = Field(2, ge=1)
    rescan_steps: int = Field(200, ge=1)
    log_steps: int = Field(20, ge=1)
    tensorboard: bool = False
    depth: StageConfig | None = None
    clips: StageConfig | None = None
    data: dict[str, ClipSourceConfig] = Field(default_factory=dict)
    epochs: EpochConfig | None = None
    network: NetworkConfig = NetworkConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    validation: ValidationConfig = ValidationConfig()

    def below(self, shards: Path) -> TrainConfig:
        """Return the configuration with the relative paths of `data` taken from a folder."""
        data = {n: d.model_copy(update={"path": shards / d.path.expanduser()}) for n, d in self.data.items()}
        return self.model_copy(update={"data": data})

    def stage(self, name: Stage) -> StageConfig:
        """Return the settings of a stage.

        Raises:
            ConfigError: there are none.
        """
        stage = self.depth if name == "depth" else self.clips
        if stage is None:
            raise ConfigError(
                f"this configuration has no [{name}] section: choose the other --stage, or add one"
            )
        return stage


def read_train_config(name: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a training configuration, its network's size filled in before the overrides are applied.

    Args:
        name: shipped name or TOML file.
        overrides: `key=value`, for example `network.local_state.covariance=true`.
    Raises:
        ConfigError: no such file or size, or a key is wrong.
    """
    tree = read_toml(name)
    if isinstance(tree.get("network"), str):
        tree["network"] = network_table(tree["network"])
    return build(TrainConfig, with_overrides(tree, overrides), name)
