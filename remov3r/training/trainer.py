"""The training loop: one class, one readable `run`; the same on a CPU, a GPU and many of them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import replace

import torch

from remov3r.errors import ConfigError, DataError, OptimizationError
from remov3r.models.network import Remov3rNetwork
from remov3r.training.augment import PLAIN
from remov3r.training.batches import Batch, BatchMaker, BatchSettings, batches
from remov3r.training.checkpoint import (
    BEST_NAME,
    FILE_NAME,
    Checkpoint,
    keep_last,
    load_checkpoint,
    load_matching,
    random_state,
    remove_parts,
    save_checkpoint,
    set_random_state,
)
from remov3r.training.clock import Clock
from remov3r.training.config import TrainConfig
from remov3r.training.distributed import Ranks, pick_device
from remov3r.training.monitor import REPORT_NAME, Monitor, score
from remov3r.training.objective import LossParts, to_device
from remov3r.training.optimizer import Average, build_optimizer
from remov3r.training.options import RunOptions, load_network_of, new_network, resumes
from remov3r.training.schedule import learning_rate, progress, run_steps
from remov3r.training.update import Objective, Update
from remov3r.training.validate import Report, validate

__all__ = ["REPORT_NAME", "RunOptions", "Trainer", "load_network_of"]

log = logging.getLogger(__name__)

_PICTURES = 4  # validation frames shown in TensorBoard


class Trainer:
    """Trains one stage.

    Attributes:
        network: the weights that are trained, by `optimizer`.
        average: the network with their running average, which is validated and shipped.
        step: steps done.
        samples: clips drawn by all ranks, and the number of the next one.
        best: lowest validation score so far.
    """

    def __init__(
        self,
        config: TrainConfig,
        options: RunOptions,
        network: Remov3rNetwork | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """Build the network and optimiser, or restore them.

        Args:
            network: trained in place of a new one (its weights are kept unless the run resumes).
            ranks: the group this process trains in; None: on its own.
        Raises:
            ConfigError: no length of the run is given, or a frozen network.
            DataError: a checkpoint is missing or does not fit.
        """
        self._steps = run_steps(options.max_steps, config.epochs)
        if options.time_budget_s is None and self._steps is None:
            raise ConfigError(
                "training needs --time-budget or --max-steps (or [epochs] in its configuration): the learning "
                "rate is decayed over it"
            )
        self.config = config = config.below(options.shards)
        self.options, self.ranks = options, ranks or Ranks()
        self.stage = config.stage(options.stage)
        self.device = torch.device(pick_device(config.device, self.ranks.local))
        self._resumes = resumes(options, self.ranks)
        torch.manual_seed(config.seed)
        if self.device.type == "cpu":
            torch.set_num_threads(config.threads)
        self.network = network if network is not None else new_network(config, options, self._resumes)
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.network, self.stage, config.optimizer)
        objective = Objective(self.network, options.stage, config)
        self._update = Update(objective, self.optimizer, config, self.device, self.ranks)
        self._average = Average(self.network, config.optimizer.ema)
        self.average = self._average.network
        torch.manual_seed(config.seed + self.ranks.rank)
        self.step, self.samples, self.best = 0, 0, float("inf")
        self.clock = Clock(self.ranks)
        if self._resumes:
            self._restore(load_checkpoint(options.out / FILE_NAME))

    def run(self) -> Report | None:
        """Train until the budget is used or a process is told to stop; returns rank 0's last validation.

        Raises:
            ConfigError: the folder holds another run.
            OptimizationError: a loss or gradient is not finite; the weights of the step before are saved.
            DataError: no shards, or a checkpoint could not be written.
        """
        self._prepare_folder()
        c, clock = self.config, self.clock
        monitor = Monitor(self.options.out, self.step, self.samples, self.ranks, self.device, c.tensorboard)
        log.info(
            "%s: %s from step %d on %s × %d",
            self.options.stage, self.options.out, self.step, self.device, self.ranks.count,
        )  # fmt: skip
        with clock.stops_on_signal(), batches(self._settings(), self._firsts(), c.workers) as stream:
            while self._goes_on():
                with monitor.waiting():
                    micro = [next(stream) for _ in range(self.stage.accumulate)]
                parts = self.train_step(*micro)
                if self.step % c.log_steps == 0:
                    monitor.log_step(
                        self.step, self.samples, clock.elapsed_s, self.progress(), self.learning_rate(), parts
                    )
                if clock.due("validation", c.validation.every_min):
                    self._validate(monitor)
                if clock.due("checkpoint", c.checkpoint_min):
                    self.save()
        self.save()
        log.info(
            "%s at step %d, %d samples", "stopped" if clock.stopped else "finished", self.step, self.samples
        )
        report = None if clock.stopped else self._validate(monitor)
        monitor.close()
        return report

    def _goes_on(self) -> bool:
        self.clock.beat()
        return self.progress() < 1 and not self.clock.stopped

    def progress(self) -> float:
        """Return how much of the budget is used, 0 to 1."""
        return progress(self.clock.elapsed_s, self.step, self.options.time_budget_s, self._steps)

    def learning_rate(self) -> float:
        """Return the next step's learning rate, where no factor applies."""
        return self.stage.lr * learning_rate(
            self.step, self.progress(), self.config.optimizer, self.config.epochs
        )

    def train_step(self, *micro: Batch) -> list[LossParts]:
        """Take one optimiser step on this rank's micro-batches (and, at once, on all other ranks').

        Returns:
            The loss terms of each micro-batch.
        Raises:
            OptimizationError: a loss or gradient of some rank is not finite; no weight has been changed.
        """
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() * group["factor"]
        try:
            parts = self._update(micro)
        except OptimizationError as error:
            self.save()
            raise OptimizationError(
                f"not finite at step {self.step} (seed {self.config.seed}): {error}; all ranks stopped, "
                f"{self.options.out / FILE_NAME} holds the weights before it; try a lower lr or precision fp32"
            ) from error
        self.step += 1
        self.samples += self._global_batch
        self._average.update(self.step)
        return parts

    @property
    def _global_batch(self) -> int:
        """Samples of one step, of all ranks."""
        return self.ranks.count * self.stage.accumulate * self.stage.batch

    def _firsts(self) -> Iterator[int]:
        """Number of the first sample of each of this rank's batches to come."""
        batch, ranks = self.stage.batch, self.ranks
        return itertools.count(self.samples + ranks.rank * batch, ranks.count * batch)

    def _settings(self) -> BatchSettings:
        c, s = self.config, self.stage
        return BatchSettings(
            self.options.shards, s.sets, c.seed, s.batch, s.frames, c.width, c.height,
            c.rescan_steps * self._global_batch, min(s.longest_window, c.network.keyframes.max_window), c.augment,
            c.data,
        )  # fmt: skip

    def _validate(self, monitor: Monitor) -> Report | None:
        """Validate on rank 0, while the others wait; the best weights so far are kept."""
        report, better = None, False
        if self.ranks.first:
            report = validate(
                self.average, self.options.shards, self.config, self.device, self.options.stage == "clips"
            )
        if report is not None:
            monitor.log_validation(self.step, self.clock.now_s(), report)
            found = score(report)
            better, self.best = found < self.best, min(found, self.best)
            self._show(monitor)
        if self.ranks.highest([float(better)])[0]:
            self.save(BEST_NAME)
            self.save()
        return report

    def _show(self, monitor: Monitor) -> None:
        """Draw a few validation frames, always the same."""
        if monitor.board is None:
            return
        sets = dict.fromkeys(self.config.validation.sets, 1.0)
        settings = replace(self._settings(), sets=sets, batch=_PICTURES, frames=1, augment=PLAIN)
        truth = to_device(BatchMaker(settings).make(0), self.config, self.device)
        monitor.board.images(self.step, self.average, truth)

    def save(self, name: str = FILE_NAME) -> None:
        """Write a checkpoint; every rank must call it, rank 0 writes.

        Raises:
            DataError: it could not be written; the one before it is still there.
        """
        rng = self.ranks.gathered(random_state(self.device))
        if not self.ranks.first:
            return
        checkpoint = Checkpoint(
            stage=self.options.stage,
            config=self.config.model_dump_json(),
            step=self.step,
            elapsed_s=self.clock.now_s(),
            samples=self.samples,
            network=self.network.state_dict(),
            average=self.average.state_dict(),
            optimizer=self.optimizer.state_dict(),
            rng=rng,
            scaler=self._update.scaler.state_dict(),
            best=self.best,
        )
        save_checkpoint(self.options.out / name, checkpoint)
        if name == FILE_NAME:
            keep_last(self.options.out / name, self.step, self.config.keep)

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
        self._update.scaler.load_state_dict(checkpoint.scaler)
        self.step, self.samples, self.best = checkpoint.step, checkpoint.samples, checkpoint.best
        self.clock = Clock(self.ranks, checkpoint.elapsed_s)
        if self.ranks.rank < len(checkpoint.rng):
            set_random_state(checkpoint.rng[self.ranks.rank], self.device)

    def _prepare_folder(self) -> None:
        out = self.options.out
        if not self.ranks.first:
            return
        if not self._resumes and (out / FILE_NAME).exists():
            raise ConfigError(
                f"{out} holds the checkpoint of a run: go on with --resume, or give another --out"
            )
        out.mkdir(parents=True, exist_ok=True)
        remove_parts(out)
        (out / "config.json").write_text(self.config.model_dump_json(indent=1))
