"""Configuration of a training run; configs/train_lite.toml is a commented instance."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from remov3r.config import Config
from remov3r.losses import LossConfig
from remov3r.models.boxes import NetworkConfig
from remov3r.training.augment import AugmentConfig

Stage = Literal["depth", "clips"]


class StageConfig(Config):
    """What one stage trains on and how fast.

    Attributes:
        sets: shard folders and the share of the samples that each gives.
        batch: clips per step.
        frames: per clip; 1 draws a random frame of each clip.
        lr: highest learning rate.
        lr_factors: parts of parameter names and what `lr` is multiplied by for them; 0 freezes. Where several
            parts occur in a name, all count.
        longest_window: frames after which a training keyframe is replaced at the latest ("clips").
    """

    sets: dict[str, float]
    batch: int = Field(8, ge=1)
    frames: int = Field(1, ge=1)
    lr: float = Field(1e-3, gt=0)
    lr_factors: dict[str, float] = Field(default_factory=dict)
    longest_window: int = Field(8, ge=1)


class OptimizerConfig(Config):
    """AdamW and its schedule: linear warm-up, then a cosine down to `final` of the highest rate.

    Attributes:
        clip: largest gradient norm.
        ema: decay of the averaged weights, which are the ones validated and shipped.
        warmup_steps: steps of the linear rise.
        final: learning rate at the end, as a fraction of the highest.
    """

    weight_decay: float = 0.01
    clip: float = 5.0
    ema: float = Field(0.999, ge=0, lt=1)
    warmup_steps: int = 200
    final: float = 0.01


class ValidationConfig(Config):
    """What is validated and how often.

    Attributes:
        sets: shard folders that are never trained on.
        frame_step: every so-manieth frame of a clip is used for depth.
        every_min: minutes of training between validations.
        largest_depth_m: farther ground truth is left out.
        clips: most clips of a set that are used for poses.
        keyframe_interval: frames after which the suggested keyframe threshold should fire.
    """

    sets: tuple[str, ...] = ()
    frame_step: int = Field(4, ge=1)
    every_min: float = 10.0
    largest_depth_m: float = 10.0
    clips: int = Field(12, ge=1)
    keyframe_interval: int = Field(12, ge=1)


class TrainConfig(Config):
    """A training run.

    Attributes:
        width, height: of the network's input; depth is at half that size.
        smallest_depth_m, largest_depth_m: ground truth outside counts as missing.
        precision: "bf16" computes the network under autocast; the losses stay float32.
        device: "auto" takes a GPU when there is one.
        threads: of torch on the CPU; 1 whenever anything else runs on the machine.
        workers: processes that prepare batches; 0 prepares them in the training process.
        checkpoint_min: minutes between checkpoints.
        rescan_steps: steps between looks for new shards.
        log_steps: steps between log lines.
    """

    seed: int = 0
    width: int = Field(256, multiple_of=32)
    height: int = Field(192, multiple_of=32)
    smallest_depth_m: float = 0.1
    largest_depth_m: float = 15.0
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    threads: int = Field(1, ge=1)
    workers: int = Field(1, ge=0)
    checkpoint_min: float = 5.0
    rescan_steps: int = Field(200, ge=1)
    log_steps: int = Field(20, ge=1)
    depth: StageConfig
    clips: StageConfig
    network: NetworkConfig = NetworkConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    validation: ValidationConfig = ValidationConfig()

    def stage(self, name: Stage) -> StageConfig:
        """Return the settings of a stage."""
        return self.depth if name == "depth" else self.clips
