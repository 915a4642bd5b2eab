"""What people see of a run: log lines, log.jsonl and, if wanted, TensorBoard. Rank 0 writes for all ranks."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from remov3r.training.board import Board
from remov3r.training.distributed import Ranks
from remov3r.training.objective import LossParts
from remov3r.training.validate import Report

log = logging.getLogger(__name__)

LOG_NAME = "log.jsonl"
REPORT_NAME = "validation.json"


class Monitor:
    """Measures speed and reports losses and validations of one run.

    Args:
        out: folder of the run.
        step, samples: done when the run starts; records of later steps, which a killed run has left, go.
        tensorboard: also write for TensorBoard, into `out`.
    Raises:
        MissingDependencyError: TensorBoard is wanted and not installed.
    """

    def __init__(
        self, out: Path, step: int, samples: int, ranks: Ranks, device: torch.device, tensorboard: bool
    ) -> None:
        self._out, self._ranks, self._device = out, ranks, device
        self.board = Board(out, step) if tensorboard and ranks.first else None
        if ranks.first:
            _forget_after(out / LOG_NAME, step)
        self._since, self._samples, self._waited_s = time.monotonic(), samples, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block's time as waiting for data."""
        before = time.monotonic()
        yield
        self._waited_s += time.monotonic() - before

    def log_step(
        self,
        step: int,
        samples: int,
        elapsed_s: float,
        progress: float,
        lr: float,
        parts: Sequence[LossParts],
    ) -> None:
        """Report the loss terms, averaged over micro-batches and ranks, and the speed since the last report.

        Every rank must call it.
        """
        now = time.monotonic()
        seconds, waited_s = now - self._since, self._waited_s
        rows = [p.figures() for p in parts]
        names = list(rows[0])
        own = [sum(row[name] for row in rows) / len(rows) for name in names]
        *means, waited = self._ranks.mean([*own, waited_s / seconds])
        figures = dict(zip(names, means))
        speed, memory_mb = (
            (samples - self._samples) / seconds,
            self._ranks.highest([peak_memory_mb(self._device)])[0],
        )
        self._since, self._samples, self._waited_s = now, samples, 0.0
        if not self._ranks.first:
            return
        values = {
            "loss": sum(means),
            "lr": lr,
            "samples_per_s": speed,
            "data_wait": waited,
            "peak_mb": memory_mb,
        }
        self._record({"step": step, "elapsed_s": elapsed_s, **values, **figures})
        if self.board is not None:
            self.board.scalars(step, "train", {**values, **{f"terms/{k}": v for k, v in figures.items()}})
        terms = " ".join(f"{k} {v:.3f}" for k, v in figures.items() if v)
        log.info(
            "step %d (%.0f %%) loss %.3f [%s] lr %.1e, %.1f samples/s, %.0f %% waiting for data, peak %.0f MB",
            step, 100 * progress, sum(means), terms, lr, speed, 100 * waited, memory_mb,
        )  # fmt: skip

    def log_validation(self, step: int, elapsed_s: float, report: Report) -> None:
        """Write and report a validation; rank 0's alone."""
        (self._out / REPORT_NAME).write_text(report.model_dump_json(indent=1))
        self._record({"step": step, "elapsed_s": elapsed_s, "validation": report.model_dump()})
        if self.board is not None:
            self.board.validation(step, report)
        m, c = report.mean, report.calibration
        sets = ", ".join(f"{n} {d.abs_rel:.3f}/{d.delta_1_25:.3f}" for n, d in report.depth.items())
        log.info(
            "validation at step %d: AbsRel %.3f, δ %.3f raw; %.3f, %.3f median-scaled (%s); "
            "σ factor %.2f, %.2f within σ",
            step, m.abs_rel, m.delta_1_25, m.median_abs_rel, m.median_delta_1_25, sets,
            c.sigma_factor, c.within_1_sigma,
        )  # fmt: skip
        for name, p in report.poses.items():
            log.info(
                "  %s: %.3f m, %.2f° to the keyframe (identity: %.3f m, %.2f°); keyframe threshold %.4f",
                name, p.translation_m, p.rotation_deg, p.identity_translation_m, p.identity_rotation_deg,
                p.keyframe_threshold,
            )  # fmt: skip

    def _record(self, entry: Mapping[str, object]) -> None:
        with (self._out / LOG_NAME).open("a") as stream:
            stream.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        """Flush what TensorBoard has not written yet."""
        if self.board is not None:
            self.board.close()


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory used so far: torch's on a GPU, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1e6 if sys.platform == "darwin" else 1e3)  # macOS counts bytes


def score(report: Report) -> float:
    """Return what the best weights have least of: AbsRel, and with poses their error relative to standing still."""
    still = [p.translation_m / max(p.identity_translation_m, 1e-9) for p in report.poses.values()]
    return report.mean.abs_rel + (sum(still) / len(still) if still else 0.0)


def _forget_after(path: Path, step: int) -> None:
    """Drop the records of later steps, and a last line that was cut short."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            continue
    path.write_text("".join(kept))
