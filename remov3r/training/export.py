"""Turn a checkpoint into the weights file and card that are shipped: `python -m remov3r.training.export`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from pydantic import ValidationError

from remov3r.errors import DataError
from remov3r.models.boxes import NetworkConfig
from remov3r.models.network import Remov3rNetwork
from remov3r.models.weights import WeightsCard, save_network
from remov3r.training.checkpoint import load_checkpoint, load_matching
from remov3r.training.commands import exit_status
from remov3r.training.reliability_plot import write_reliability_plot
from remov3r.training.trainer import REPORT_NAME, load_network_of
from remov3r.training.validate import Report

log = logging.getLogger(__name__)

COVARIANCE = "local_state.covariance."


def export(
    checkpoint: Path,
    weights: Path,
    version: str,
    data: str,
    report: Path | None = None,
    threshold: float | None = None,
    with_covariance: bool = True,
) -> WeightsCard:
    """Write the averaged weights of a checkpoint, with what validation said of them.

    Args:
        weights: ends in .safetensors; the card goes beside it.
        data: what they were trained on and its terms, for people.
        report: validation.json of the run; beside the checkpoint if None.
        threshold: of the keyframe rule; what validation suggests if None.
        with_covariance: keep the covariance head, if there is one; not if validation found it dishonest.
    Raises:
        DataError: the checkpoint or the report is missing or unreadable.
    """
    state = load_checkpoint(checkpoint)
    validation = read_report(report or checkpoint.with_name(REPORT_NAME))
    config, trained = load_network_of(state)
    threshold = suggested_threshold(validation) if threshold is None else threshold
    shipped = config.network if threshold is None else _with_threshold(config.network, threshold)
    weights_by_name = trained.state_dict()
    if not with_covariance:
        local = shipped.local_state.model_copy(update={"covariance": False})
        shipped = shipped.model_copy(update={"local_state": local})
        weights_by_name = {k: v for k, v in weights_by_name.items() if not k.startswith(COVARIANCE)}
    network = Remov3rNetwork(shipped)
    load_matching(network, weights_by_name, str(checkpoint))
    figures = {f"validation_{k}": float(v) for k, v in validation.mean.model_dump().items()}
    figures["validation_within_1_sigma"] = validation.calibration.within_1_sigma
    figures |= {"steps": state.step, "samples": state.samples, "hours": state.elapsed_s / 3600}
    for name, poses in validation.poses.items():
        figures[f"{name}_local_translation_m"] = poses.translation_m
        figures[f"{name}_local_rotation_deg"] = poses.rotation_deg
        figures |= {f"{name}_clip_{k}": v for k, v in poses.clip.model_dump().items()}
    covariance = validation.covariance
    if covariance is not None and with_covariance:
        figures["validation_nees"] = covariance.nees
        figures["validation_nees_held_out"] = covariance.held_out_nees
    return save_network(
        network,
        weights,
        version=version,
        sigma_factor=validation.calibration.sigma_factor,
        sigma_unit=validation.sigma_unit,
        calibration_error=round(validation.calibration.error, 4),
        covariance_factor=covariance.factor if covariance is not None and with_covariance else 1.0,
        data=data,
        figures={k: round(v, 4) for k, v in figures.items()},
    )


def read_report(path: Path) -> Report:
    """Read a validation report.

    Raises:
        DataError: it is missing or not one.
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(
            f"validation report {path}: {error}; training with validation sets writes it"
        ) from error


def suggested_threshold(report: Report) -> float | None:
    """Return the largest threshold any set suggests: a faster camera must not flood the backend with keyframes."""
    found = [p.keyframe_threshold for p in report.poses.values()]
    return max(found) if found else None


def _with_threshold(config: NetworkConfig, threshold: float) -> NetworkConfig:
    keyframes = config.keyframes.model_copy(update={"threshold": threshold})
    return config.model_copy(update={"keyframes": keyframes})


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m remov3r.training.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="weights file, NAME.safetensors")
    parser.add_argument("--version", required=True, help="of these weights")
    parser.add_argument("--data", default="", help="what they were trained on, and its terms")
    parser.add_argument("--report", type=Path, help="validation.json; beside the checkpoint by default")
    parser.add_argument("--keyframe-threshold", type=float, help="what validation suggests by default")
    parser.add_argument("--no-covariance", action="store_true", help="leave the covariance head out")
    parser.add_argument("--reliability-plot", type=Path, help="also draw the coverage of σ (PNG)")
    args = parser.parse_args(argv)

    def write() -> None:
        card = export(
            args.checkpoint,
            args.out,
            args.version,
            args.data,
            args.report,
            args.keyframe_threshold,
            not args.no_covariance,
        )
        if args.reliability_plot:
            report = read_report(args.report or args.checkpoint.with_name(REPORT_NAME))
            write_reliability_plot(args.reliability_plot, report.calibration, report.calibration_by_set)
        log.info("%s (%.1f MB): σ factor %.3f", args.out, args.out.stat().st_size / 1e6, card.sigma_factor)

    return exit_status(write)


if __name__ == "__main__":
    sys.exit(main())
