"""TensorBoard: scalars, images of the validation sets, and the reliability of the confidence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from remov3r.errors import MissingDependencyError
from remov3r.models.network import DepthOutput, Remov3rNetwork
from remov3r.training.objective import Truth
from remov3r.training.reliability_plot import reliability_figure
from remov3r.training.validate import Report


class Board:
    """Writes events into the folder of a run; the one place that uses TensorBoard.

    Args:
        step: from which a resumed run goes on; events of later steps are hidden.
    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """

    def __init__(self, out: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingDependencyError(
                "tensorboard = true, but TensorBoard is not installed: pip install 'remov3r[train]', or "
                "--set tensorboard=false"
            ) from error
        self._writer = SummaryWriter(str(out), purge_step=step + 1)

    def scalars(self, step: int, group: str, values: Mapping[str, float]) -> None:
        """Add values of a step."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def validation(self, step: int, report: Report) -> None:
        """Add a validation's figures, and the plot of how reliable the confidence is."""
        tree = report.model_dump()
        groups = {"mean": tree["mean"], "calibration": tree["calibration"], **tree["depth"]}
        groups |= {f"{name} poses": figures for name, figures in tree["poses"].items()}
        for name, figures in groups.items():
            numbers = {k: float(v) for k, v in figures.items() if isinstance(v, int | float)}
            self.scalars(step, f"validation {name}", numbers)
        plot = reliability_figure(report.calibration, report.calibration_by_set)
        self._writer.add_image("reliability", plot, step, dataformats="HWC")

    @torch.no_grad()
    def images(self, step: int, network: Remov3rNetwork, truth: Truth) -> None:
        """Add rgb, depth, confidence and pointmap of a few frames."""
        output = network.forward_depth(truth.image.flatten(0, 1), truth.K.flatten(0, 1))
        for name, image in panels(truth, output).items():
            self._writer.add_images(f"frames/{name}", image, step, dataformats="NHWC")

    def close(self) -> None:
        """Write what is not written yet."""
        self._writer.close()


def panels(truth: Truth, output: DepthOutput) -> dict[str, UInt8[np.ndarray, "n h w 3"]]:
    """Draw the frames of a batch: images, true and predicted depth on one scale, confidence, pointmap."""
    rgb = truth.rgb.flatten(0, 1).cpu().numpy()
    depth = output.depth_m.float().cpu().numpy()
    true = truth.depth_m.flatten(0, 1).cpu().numpy()
    valid = truth.valid.flatten(0, 1).cpu().numpy()
    low, high = np.percentile(np.log(depth), [1, 99])
    points = output.points_cam.float().cpu().numpy()
    ends = np.percentile(points, [2, 98], axis=(1, 2))[:, :, None, None]
    return {
        "rgb": rgb,
        "depth": coloured(np.log(depth), low, high),
        "true depth": coloured(np.log(np.maximum(true, 1e-3)), low, high) * valid[..., None],
        "confidence": _spread(output.depth_confidence),
        "points confidence": _spread(output.points_confidence),
        "pointmap": (255 * ((points - ends[0]) / np.maximum(ends[1] - ends[0], 1e-6)).clip(0, 1)).astype(
            np.uint8
        ),
    }


def _spread(values: torch.Tensor) -> UInt8[np.ndarray, "n h w 3"]:
    array = values.float().cpu().numpy()
    return coloured(array, *np.percentile(array, [1, 99]))


def coloured(values: Float[np.ndarray, "n h w"], low: float, high: float) -> UInt8[np.ndarray, "n h w 3"]:
    """Colour values between two ends, as RGB."""
    grey = (255 * ((values - low) / max(high - low, 1e-9)).clip(0, 1)).astype(np.uint8)
    return np.stack([cv2.applyColorMap(g, cv2.COLORMAP_TURBO)[..., ::-1] for g in grey])
