"""Ablations on equal budgets: `python -m remov3r.training.ablate --shards DIR --init CKPT --out DIR --max-steps N`.

Trains each variant of configs/ablations_lite.toml for the same steps from the same weights and seed, validates it
and writes a table. Variants that are done already are not trained again.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from remov3r.config import Config, build, read_toml
from remov3r.errors import Remov3rError
from remov3r.training.config import Stage, read_train_config
from remov3r.training.trainer import RunOptions, Trainer
from remov3r.training.validate import Report

log = logging.getLogger(__name__)

RESULT = "ablation.json"


class AblationConfig(Config):
    """What is compared.

    Attributes:
        base: training configuration.
        overrides: changes of it that all variants share.
        variants: by name, changes of it; the first is what the others are compared with.
    """

    base: str
    stage: Stage = "clips"
    overrides: tuple[str, ...] = ()
    variants: dict[str, tuple[str, ...]]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m remov3r.training.ablate", description=__doc__)
    parser.add_argument("--config", default="ablations_lite", help="shipped name or TOML file (%(default)s)")
    parser.add_argument("--shards", type=Path, required=True, help="folder with one folder of shards per set")
    parser.add_argument("--init", type=Path, help="weights that every variant starts from (pretrained parts)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and the table")
    parser.add_argument("--max-steps", type=int, required=True, help="training steps of each variant")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    parser.add_argument("--page", type=Path, help="also write the table here")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        config = build(AblationConfig, read_toml(args.config), args.config)
        reports: dict[str, Report] = {}
        for name, changes in config.variants.items():
            overrides = [*config.overrides, *changes, *args.set]
            options = RunOptions(
                args.shards.expanduser(),
                args.out.expanduser() / _folder(name),
                config.stage,
                max_steps=args.max_steps,
                resume="auto",
                init=(args.init,) if args.init else (),
            )
            reports[name] = _trained(name, config.base, overrides, options)
            page = as_markdown(config, reports, args.max_steps)
            for path in filter(None, (args.out.expanduser() / "ablations.md", args.page)):
                path.write_text(page)
    except (Remov3rError, OSError) as error:
        log.error("error: %s", error)
        return 1
    return 0


def _folder(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def _trained(name: str, base: str, overrides: list[str], options: RunOptions) -> Report:
    """Train one variant and validate it, or read what an earlier call found."""
    done = options.out / RESULT
    if done.exists():
        return Report.model_validate_json(done.read_bytes())
    log.info("variant %r: %s", name, ", ".join(overrides) or "as it is")
    report = Trainer(read_train_config(base, overrides), options).run()
    if report is None:
        raise Remov3rError(f"variant {name!r} was stopped; the same command goes on with it")
    done.write_text(report.model_dump_json(indent=1))
    return report


def as_markdown(config: AblationConfig, reports: Mapping[str, Report], steps: int) -> str:
    """Write the table, one line per variant, means over the validation sets."""
    today, machine = datetime.date.today().isoformat(), f"{platform.machine()} CPU"
    out = [
        f"# Ablations, {config.base}, stage {config.stage}, {steps} steps each ({today}, {machine})",
        "",
        "Same start, seed, batches and steps. Depth: mean over the images of each validation set, then over the sets. "
        "Poses: the network's own, no backend, clip by clip after rigid alignment; the same mean. "
        "ECE: mean gap between nominal and found coverage of σ. NEES: 6 is honest.",
        "",
        "| variant | changes | AbsRel | δ<1.25 | median-scaled AbsRel | ECE | ATE m | RTE m | RRE ° | "
        "T_key_cam m | ° | NEES |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, report in reports.items():
        changes = ", ".join(f"`{c}`" for c in config.variants[name]) or "–"
        out.append(f"| {name} | {changes} | {_figures(report)} |")
    if reports:
        first = next(iter(reports.values()))
        still = [p for p in first.poses.values()]
        out += [
            "",
            "The identity in place of T_key_cam: "
            + _mean_of(still, "identity_translation_m", 4)
            + " m, "
            + _mean_of(still, "identity_rotation_deg", 2)
            + "°. Validation sets: "
            + ", ".join(first.depth)
            + ".",
        ]
    return "\n".join(out) + "\n"


def _figures(report: Report) -> str:
    m, poses = report.mean, list(report.poses.values())
    clips = [p.clip for p in poses]
    nees = "–" if report.covariance is None else f"{report.covariance.nees:.1f}"
    return " | ".join(
        [
            f"{m.abs_rel:.3f}", f"{m.delta_1_25:.3f}", f"{m.median_abs_rel:.3f}", f"{report.calibration.error:.3f}",
            _mean_of(clips, "ate_rmse_m", 4), _mean_of(clips, "rte_rmse_m", 4), _mean_of(clips, "rre_rmse_deg", 2),
            _mean_of(poses, "translation_m", 4), _mean_of(poses, "rotation_deg", 2), nees,
        ]
    )  # fmt: skip


def _mean_of(items: Sequence[Config], name: str, digits: int) -> str:
    return f"{sum(getattr(i, name) for i in items) / len(items):.{digits}f}" if items else "–"


if __name__ == "__main__":
    sys.exit(main())
