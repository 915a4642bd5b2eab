"""The training loop: one class, one readable `run`; the same on a CPU and on a GPU."""

from __future__ import annotations

import copy
import json
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor

from remov3r.config import build
from remov3r.errors import ConfigError, DataError, OptimizationError
from remov3r.models.encoder import read_imagenet_weights
from remov3r.models.network import Remov3rNetwork
from remov3r.training.batches import Batch, BatchSettings, batches
from remov3r.training.checkpoint import FILE_NAME, Checkpoint, load_checkpoint, load_matching, save_checkpoint
from remov3r.training.config import OptimizerConfig, Stage, StageConfig, TrainConfig
from remov3r.training.objective import LossParts, clip_objective, depth_objective, to_device
from remov3r.training.validate import Report, validate

log = logging.getLogger(__name__)

REPORT_NAME = "validation.json"


@dataclass(frozen=True)
class RunOptions:
    """Where a run reads and writes, and how long it lasts.

    Attributes:
        shards: holds one folder per set.
        out: gets checkpoint.pt, log.jsonl, validation.json and config.json.
        time_budget_s: the learning rate is decayed to its end by then, validation included; None: no limit.
        max_steps: the same in steps; whichever comes first.
        init: a checkpoint whose averaged weights to start from; None takes the ImageNet encoder.
    """

    shards: Path
    out: Path
    stage: Stage
    time_budget_s: float | None = None
    max_steps: int | None = None
    resume: bool = False
    init: Path | None = None


class Trainer:
    """Trains one stage."""

    def __init__(
        self, config: TrainConfig, options: RunOptions, network: Remov3rNetwork | None = None
    ) -> None:
        """Build the network and optimiser, or restore them.

        Args:
            network: trained in place of a new one (its weights are kept unless the run resumes).
        Raises:
            ConfigError: neither a time budget nor a number of steps is given, or a frozen network.
            DataError: a checkpoint is missing or does not fit.
        """
        if options.time_budget_s is None and options.max_steps is None:
            raise ConfigError(
                "training needs --time-budget or --max-steps: the learning rate is decayed over it"
            )
        self.config, self.options = config, options
        self.stage = config.stage(options.stage)
        self.device = torch.device(pick_device(config.device))
        torch.manual_seed(config.seed)
        if self.device.type == "cpu":
            torch.set_num_threads(config.threads)
        self.network = network if network is not None else _new_network(config, options)
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = _optimizer(self.network, self.stage, config.optimizer)
        self.step, self.samples, self._elapsed_before_s = 0, 0, 0.0
        self._started = time.monotonic()
        self._stop = False
        if options.resume:
            self._restore(load_checkpoint(options.out / FILE_NAME))

    @property
    def elapsed_s(self) -> float:
        """Time spent on this training, over all its runs."""
        return self._elapsed_before_s + time.monotonic() - self._started

    def progress(self) -> float:
        """How much of the budget is used, 0 to 1."""
        parts = [0.0]
        if self.options.time_budget_s is not None:
            parts.append(self.elapsed_s / self.options.time_budget_s)
        if self.options.max_steps is not None:
            parts.append(self.step / self.options.max_steps)
        return min(max(parts), 1.0)

    def run(self) -> Report | None:
        """Train until the budget is used or the process is told to stop; returns the last validation.

        Raises:
            OptimizationError: a loss or gradient is not finite; the weights of the step before are saved.
            DataError: no shards.
        """
        self.options.out.mkdir(parents=True, exist_ok=True)
        (self.options.out / "config.json").write_text(self.config.model_dump_json(indent=1))
        clock = _Clock(self)
        with self._stops_on_signal(), batches(self._settings(), self.step, self.config.workers) as stream:
            log.info(
                "%s: %s from step %d on %s", self.options.stage, self.options.out, self.step, self.device
            )
            while self.progress() < 1 and not self._stop:
                with clock.waiting():
                    batch = next(stream)
                parts = self.train_step(batch)
                clock.log_step(parts)
                if clock.due("validation", self.config.validation.every_min):
                    self._validate()
                if clock.due("checkpoint", self.config.checkpoint_min):
                    self.save()
        self.save()
        log.info(
            "%s at step %d, %d samples", "stopped" if self._stop else "finished", self.step, self.samples
        )
        return None if self._stop else self._validate()

    def train_step(self, batch: Batch) -> LossParts:
        """Take one optimiser step on a batch.

        Raises:
            OptimizationError: a loss or gradient is not finite; nothing has been changed.
        """
        self.network.train()
        rate = learning_rate(self.step, self.progress(), self.config.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = self.stage.lr * group["factor"] * rate
        parts = self._losses(batch)
        loss = parts.total()
        self.optimizer.zero_grad(set_to_none=True)
        if not bool(loss.isfinite()):
            self._refuse(batch, f"loss {parts.figures()}")
        loss.backward()  # type: ignore[no-untyped-call]
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trained, self.config.optimizer.clip)
        if not bool(norm.isfinite()):
            self._refuse(batch, f"gradient norm {float(norm)}")
        self.optimizer.step()
        self.step += 1
        self.samples += len(batch.rgb) * batch.rgb.shape[1]
        self._update_average()
        return parts

    def _losses(self, batch: Batch) -> LossParts:
        truth = to_device(batch, self.config, self.device)
        bf16 = self.config.precision == "bf16"
        if self.options.stage == "depth":
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                depth = self.network.forward_depth(truth.image.flatten(0, 1), truth.K.flatten(0, 1))
            return depth_objective(depth, truth, self.config.loss)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            clip = self.network(truth.image, truth.K, truth.keyframe_index)
        return clip_objective(clip, truth, self.config.loss)

    def _refuse(self, batch: Batch, what: str) -> None:
        self.save()
        raise OptimizationError(
            f"not finite at step {self.step} (seed {self.config.seed}, batch {batch.step}): {what}; "
            f"{self.options.out / FILE_NAME} holds the weights before it; try a lower lr or precision fp32"
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.optimizer.ema, (1 + self.step) / (10 + self.step))
        ours: list[Tensor] = list(self.average.parameters())
        theirs: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)

    def _validate(self) -> Report | None:
        report = validate(
            self.average, self.options.shards, self.config, self.device, self.options.stage == "clips"
        )
        if report is not None:
            (self.options.out / REPORT_NAME).write_text(report.model_dump_json(indent=1))
            self._record({"step": self.step, "elapsed_s": self.elapsed_s, "validation": report.model_dump()})
            m, c = report.mean, report.calibration
            sets = ", ".join(f"{n} {d.abs_rel:.3f}/{d.delta_1_25:.3f}" for n, d in report.depth.items())
            log.info(
                "validation at step %d: AbsRel %.3f, δ %.3f raw; %.3f, %.3f median-scaled (%s); "
                "σ factor %.2f, %.2f within σ",
                self.step, m.abs_rel, m.delta_1_25, m.median_abs_rel, m.median_delta_1_25, sets,
                c.sigma_factor, c.within_1_sigma,
            )  # fmt: skip
            for name, p in report.poses.items():
                log.info(
                    "  %s: %.3f m, %.2f° to the keyframe (identity: %.3f m, %.2f°); keyframe threshold %.4f",
                    name, p.translation_m, p.rotation_deg, p.identity_translation_m, p.identity_rotation_deg,
                    p.keyframe_threshold,
                )  # fmt: skip
        return report

    def _record(self, entry: dict[str, object]) -> None:
        with (self.options.out / "log.jsonl").open("a") as stream:
            stream.write(json.dumps(entry) + "\n")

    def save(self) -> None:
        """Write the checkpoint."""
        checkpoint = Checkpoint(
            stage=self.options.stage,
            config=self.config.model_dump_json(),
            step=self.step,
            elapsed_s=self.elapsed_s,
            samples=self.samples,
            network=self.network.state_dict(),
            average=self.average.state_dict(),
            optimizer=self.optimizer.state_dict(),
            rng=torch.get_rng_state(),
        )
        save_checkpoint(self.options.out / FILE_NAME, checkpoint)

    def _restore(self, checkpoint: Checkpoint) -> None:
        where = str(self.options.out / FILE_NAME)
        if checkpoint.stage != self.options.stage:
            raise DataError(
                f"{where}: is of stage {checkpoint.stage}; start stage {self.options.stage} with --init"
            )
        load_matching(self.network, checkpoint.network, where)
        load_matching(self.average, checkpoint.average, where)
        try:
            self.optimizer.load_state_dict(checkpoint.optimizer)
        except ValueError as error:
            raise DataError(
                f"{where}: its optimiser has other groups of weights ({error}); resume with the lr_factors it was "
                "started with, or start anew with --init"
            ) from error
        torch.set_rng_state(checkpoint.rng)
        self.step, self.samples = checkpoint.step, checkpoint.samples
        self._elapsed_before_s = checkpoint.elapsed_s

    def _settings(self) -> BatchSettings:
        c, s = self.config, self.stage
        return BatchSettings(
            self.options.shards, s.sets, c.seed, s.batch, s.frames, c.width, c.height, c.rescan_steps,
            min(s.longest_window, c.network.keyframes.max_window), c.augment,
        )  # fmt: skip

    @contextmanager
    def _stops_on_signal(self) -> Iterator[None]:
        """Finish the step and save on SIGTERM or Ctrl-C."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._stop = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Clock:
    """Says what is due, and logs speed."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._last: dict[str, float] = {}
        self._start = time.monotonic()
        self._log_from = (self._start, trainer.samples)
        self._waited_s = 0.0

    def due(self, what: str, every_min: float) -> bool:
        now = time.monotonic()
        if now - self._last.setdefault(what, self._start) < every_min * 60:
            return False
        self._last[what] = now
        return True

    @contextmanager
    def waiting(self) -> Iterator[None]:
        before = time.monotonic()
        yield
        self._waited_s += time.monotonic() - before

    def log_step(self, parts: LossParts) -> None:
        trainer = self._trainer
        if trainer.step % trainer.config.log_steps:
            return
        now = time.monotonic()
        since, samples = self._log_from
        speed, waited = (trainer.samples - samples) / (now - since), self._waited_s / (now - since)
        self._log_from, self._waited_s = (now, trainer.samples), 0.0
        figures = parts.figures()
        rate = max(group["lr"] for group in trainer.optimizer.param_groups)
        trainer._record(
            {
                "step": trainer.step,
                "elapsed_s": trainer.elapsed_s,
                "samples_per_s": speed,
                "data_wait": waited,
                "lr": rate,
                "loss": sum(figures.values()),
                **figures,
            }
        )
        terms = " ".join(f"{k} {v:.3f}" for k, v in figures.items() if v)
        log.info(
            "step %d (%.0f %%) loss %.3f [%s] lr %.1e, %.1f samples/s, %.0f %% waiting for data",
            trainer.step, 100 * trainer.progress(), sum(figures.values()), terms, rate, speed, 100 * waited,
        )  # fmt: skip


def learning_rate(step: int, progress: float, config: OptimizerConfig) -> float:
    """Return the fraction of the highest learning rate: linear warm-up times a cosine over the budget."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return warm * (config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * progress)))


def pick_device(name: str) -> str:
    """Resolve "auto" to a GPU if there is one.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f'device {name!r}: torch sees no GPU; use device = "auto" or "cpu"')
    return name


def load_network_of(checkpoint: Checkpoint) -> tuple[TrainConfig, Remov3rNetwork]:
    """Build the network of a checkpoint with its averaged weights."""
    config = build(TrainConfig, json.loads(checkpoint.config), "checkpoint")
    network = Remov3rNetwork(config.network)
    load_matching(network, checkpoint.average, "checkpoint")
    return config, network


def _new_network(config: TrainConfig, options: RunOptions) -> Remov3rNetwork:
    network = Remov3rNetwork(config.network)
    if options.resume:
        return network
    if options.init is not None:
        load_matching(network, load_checkpoint(options.init).average, str(options.init))
    else:
        network.encoder.load_imagenet(read_imagenet_weights())
    return network


def _optimizer(network: Remov3rNetwork, stage: StageConfig, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW with a group for each learning rate factor and for weights that are not decayed."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        factor = math.prod(f for part, f in stage.lr_factors.items() if part in name)
        if factor == 0:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    unknown = [p for p in stage.lr_factors if not any(p in n for n, _ in network.named_parameters())]
    if unknown or not groups:
        raise ConfigError(
            f"lr_factors: {unknown or 'everything is frozen'}; names are such as encoder, heads"
        )
    return torch.optim.AdamW(
        [{"params": p, "factor": f, "weight_decay": d} for (f, d), p in groups.items()], lr=stage.lr
    )
