"""Overfit one real clip: `python -m remov3r.training.overfit DATA/hololens`. It proves that gradients reach every part.

Trains on one clip without augmentation, from ImageNet weights alone, then scores the network's own depth and
poses on that clip. The exit status is 1 when it could not learn the clip.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from remov3r.errors import DataError, Remov3rError
from remov3r.training.augment import PLAIN
from remov3r.training.clip_sets import ClipSourceConfig, open_clip_dataset
from remov3r.training.config import TrainConfig, read_train_config
from remov3r.training.shards import write_shard
from remov3r.training.trainer import RunOptions, Trainer
from remov3r.training.validate import Report

log = logging.getLogger(__name__)

SET = "clip"
ABS_REL, ATE_M, RRE_DEG = 0.05, 0.02, 0.3  # to be undercut


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m remov3r.training.overfit", description=__doc__)
    parser.add_argument("data", type=Path, help="data set with depth and poses, such as shared/data/hololens")
    parser.add_argument("--dataset", default="auto", help="its layout (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of its first frame (%(default)s)")
    parser.add_argument("--frames", type=int, default=8, help="of the clip (%(default)s)")
    parser.add_argument("--time-budget", type=float, default=4.75, metavar="MIN", help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        config = overfit_config(args.frames, args.threads, args.set)
        with tempfile.TemporaryDirectory() as folder:
            write_clip(Path(folder) / SET, args.data, args.dataset, args.first, args.frames)
            options = RunOptions(Path(folder), Path(folder) / "run", "clips", args.time_budget * 60)
            report = Trainer(config, options).run()
    except (Remov3rError, OSError) as error:
        log.error("error: %s", error)
        return 1
    if report is None:
        return 1
    figures, learnt = judged(report)
    log.info("%s: %s", "learnt" if learnt else "NOT learnt", figures)
    return 0 if learnt else 1


def overfit_config(frames: int, threads: int, overrides: list[str]) -> TrainConfig:
    """Return the configuration: the lite network, everything trained, one clip, no augmentation."""
    config = read_train_config("overfit_lite", overrides)
    assert config.clips is not None
    longest = min(frames, config.network.keyframes.max_window)
    stage = config.clips.model_copy(update={"frames": frames, "longest_window": longest, "sets": {SET: 1.0}})
    validation = config.validation.model_copy(update={"sets": (SET,)})
    changes = {"clips": stage, "validation": validation, "threads": threads, "augment": PLAIN}
    return config.model_copy(update=changes)


def write_clip(out: Path, data: Path, dataset: str, first: int, frames: int) -> None:
    """Cut one clip of neighbouring frames out of a data set and write it as a shard."""
    source = open_clip_dataset(ClipSourceConfig(path=data, dataset=dataset, width=320, height=240))
    if first >= len(source):
        raise DataError(f"{data}: --first {first}: there are {len(source)} frames")
    write_shard(out / f"{SET}-00000.npz", source.window(first, frames))


def judged(report: Report) -> tuple[str, bool]:
    """Put a validation of the clip in words, and say whether it was learnt."""
    depth, poses = report.mean, report.poses[SET].clip
    words = (
        f"AbsRel {depth.abs_rel:.4f} (< {ABS_REL}), ATE {100 * poses.ate_rmse_m:.2f} cm (< {100 * ATE_M:.0f}), "
        f"RRE {poses.rre_rmse_deg:.3f}° (< {RRE_DEG})"
    )
    return words, depth.abs_rel < ABS_REL and poses.ate_rmse_m < ATE_M and poses.rre_rmse_deg < RRE_DEG


if __name__ == "__main__":
    sys.exit(main())
