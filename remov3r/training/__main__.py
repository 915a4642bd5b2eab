"""Command line of the training: `python -m remov3r.training --config train_lite --shards DIR --out DIR`.

On several processes: `torchrun --nproc-per-node=N -m remov3r.training ...`, with the same options.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Train one stage; returns the exit status."""
    args = _parser().parse_args(argv)
    # worker processes import this module too: what is heavy is imported by the trainer alone
    from remov3r.errors import Remov3rError
    from remov3r.training.config import read_train_config
    from remov3r.training.distributed import joined
    from remov3r.training.trainer import RunOptions, Trainer

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    options = RunOptions(
        shards=args.shards.expanduser(),
        out=args.out.expanduser(),
        stage=args.stage,
        time_budget_s=None if args.time_budget is None else args.time_budget * 60,
        max_steps=args.max_steps,
        resume=args.resume if args.resume == "auto" else args.resume is not None,
        init=tuple(args.init),
        weights_dir=args.weights_dir,
    )
    who = ""
    try:
        config = read_train_config(args.config, args.set)
        with joined(config.device) as ranks:
            if not ranks.first:
                who = f"rank {ranks.rank}: "
                logging.getLogger().setLevel(logging.WARNING)
            Trainer(config, options, ranks=ranks).run()
    except (Remov3rError, OSError) as error:
        log.error("error: %s%s", who, error)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m remov3r.training", description="Train the network.")
    parser.add_argument("--config", default="train_lite", help="shipped name or TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    parser.add_argument("--stage", choices=("depth", "clips"), default="depth")
    parser.add_argument("--shards", type=Path, required=True, help="folder with one folder of shards per set")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and log")
    parser.add_argument(
        "--time-budget", type=float, metavar="MIN", help="minutes, over which the rate decays"
    )
    parser.add_argument("--max-steps", type=int, help="steps, over which the rate decays")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="must",
        choices=("must", "auto"),
        help="go on from the checkpoint in --out; auto: if there is one",
    )
    parser.add_argument(
        "--init",
        type=Path,
        nargs="+",
        default=[],
        help="checkpoint or weights to start from; of several the mean",
    )
    parser.add_argument("--weights-dir", type=Path, help="folder with pretrained weights")
    return parser


if __name__ == "__main__":
    sys.exit(main())
