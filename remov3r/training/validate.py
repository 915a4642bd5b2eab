"""Validation: depth figures, what a confidence means in metres, pose errors, and a keyframe threshold.

Nothing here touches the weights. Shapes: B clips, T frames, N images, h w depth size.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remov3r.config import Config
from remov3r.losses import safe_norm
from remov3r.models.network import DepthOutput, Remov3rNetwork
from remov3r.training.augment import PLAIN, augment
from remov3r.training.batches import stacked
from remov3r.training.calibration import Calibration, Pixels, SigmaUnit, calibrate, pooled
from remov3r.training.clip_sets import FixedClips, open_validation_set
from remov3r.training.config import TrainConfig
from remov3r.training.objective import Truth, to_device
from remov3r.training.pose_figures import CovarianceFigures, PoseFigures, pooled_covariance, pose_figures
from remov3r.training.shards import Clips, ShardSet

log = logging.getLogger(__name__)

_FEWEST_PIXELS = 100  # images with less ground truth say nothing
_CHUNK = 8  # images per forward pass
_EVERY_PIXEL = 31  # of the valid ones is a sample for the calibration; at least four of an image


class DepthFigures(Config):
    """Depth against ground truth, mean over images: raw metric, and with each image scaled by its median."""

    frames: int
    abs_rel: float
    delta_1_25: float
    median_abs_rel: float
    median_delta_1_25: float


class Report(Config):
    """One validation.

    Attributes:
        mean: weighs each set the same.
        sigma_unit: what σ = sigma_factor / confidence is a multiple of, see `calibration`.
        calibration: of all pixels together; its factor is the one that is shipped.
        calibration_by_set: that factor on each set.
        covariance: of all frames together; its factor is the one that is shipped. None without the head.
    """

    mean: DepthFigures
    depth: dict[str, DepthFigures]
    sigma_unit: SigmaUnit
    calibration: Calibration
    calibration_by_set: dict[str, Calibration]
    poses: dict[str, PoseFigures]
    covariance: CovarianceFigures | None = None


def validate(
    network: Remov3rNetwork, shards: Path, config: TrainConfig, device: torch.device, with_poses: bool
) -> Report | None:
    """Validate on the configured sets.

    Args:
        shards: the folder that holds one folder per set.
        with_poses: also run whole clips, for the sets that have any.
    Returns:
        None when no validation frames are there.
    """
    was_training = network.training
    network.eval()
    depth: dict[str, DepthFigures] = {}
    poses: dict[str, PoseFigures] = {}
    pixels: dict[str, Pixels] = {}
    with torch.no_grad():
        for name in config.validation.sets:
            clips = open_validation_set(shards, name, config.data, config.validation.frames)
            if not len(clips):
                log.warning("validation set %s is empty or missing", shards / name)
                continue
            found = _depth_figures(network, _images(clips, config, device), config)
            if found is not None:
                depth[name], pixels[name] = found
            if with_poses:
                whole = _clips(clips, config, device)
                figures = pose_figures(network, whole, config.validation.keyframe_interval)
                if figures is not None:
                    poses[name] = figures
    network.train(was_training)
    if not depth:
        return None
    calibration = calibrate(pooled(list(pixels.values())))
    return Report(
        mean=_mean(depth),
        depth=depth,
        sigma_unit=config.loss.normalise,
        calibration=calibration,
        calibration_by_set={name: calibrate(p, calibration.sigma_factor) for name, p in pixels.items()},
        poses=poses,
        covariance=pooled_covariance([p.covariance for p in poses.values() if p.covariance is not None]),
    )


def _mean(depth: Mapping[str, DepthFigures]) -> DepthFigures:
    values = {k: float(np.mean([getattr(d, k) for d in depth.values()])) for k in DepthFigures.model_fields}
    return DepthFigures(**{**values, "frames": sum(d.frames for d in depth.values())})


def _images(clips: FixedClips | ShardSet, config: TrainConfig, device: torch.device) -> Iterator[Truth]:
    """Every frame_step-th frame of clips spread over the set, as clips of one frame, a chunk at a time."""

    def chunk(some: list[Clips]) -> Truth:
        return to_device(stacked(0, some, np.zeros((len(some), 1), np.int64)), config, device)

    rng, waiting = np.random.default_rng(0), list[Clips]()
    from_each = -(-clips.clip(0).frames // config.validation.frame_step)
    for i in _spread(len(clips), max(config.validation.images // from_each, 1)):
        clip = augment(clips.clip(i), config.width, config.height, PLAIN, rng)
        waiting += [clip.cut(t, 1) for t in range(0, clip.frames, config.validation.frame_step)]
        while len(waiting) >= _CHUNK:
            yield chunk(waiting[:_CHUNK])
            waiting = waiting[_CHUNK:]
    if waiting:
        yield chunk(waiting)


def _spread(length: int, most: int) -> list[int]:
    """Choose at most so many indices, evenly."""
    return [int(i) for i in np.unique(np.linspace(0, length - 1, min(length, most)).astype(int))]


def _clips(clips: FixedClips | ShardSet, config: TrainConfig, device: torch.device) -> Iterator[Truth]:
    """Whole clips of more than one frame, with the first frame as their only keyframe."""
    rng = np.random.default_rng(0)
    for i in _spread(len(clips), config.validation.clips):
        clip = clips.clip(i)
        if clip.frames > 1 and np.isfinite(clip.T_world_cam).all():
            clip = augment(clip, config.width, config.height, PLAIN, rng)
            yield to_device(stacked(i, [clip], np.zeros((1, clip.frames), np.int64)), config, device)


def _depth_figures(
    network: Remov3rNetwork, images: Iterator[Truth], config: TrainConfig
) -> tuple[DepthFigures, Pixels] | None:
    rows, pixels = [], []
    for truth in images:
        output = network.forward_depth(truth.image.flatten(0, 1), truth.K.flatten(0, 1))
        depth, valid = truth.depth_m.flatten(0, 1), truth.valid.flatten(0, 1)
        valid &= depth <= config.validation.largest_depth_m
        for i in range(len(depth)):
            if int(valid[i].sum()) >= _FEWEST_PIXELS:
                rows.append(depth_errors(output.depth_m[i][valid[i]], depth[i][valid[i]]))
        pixels.append(_sampled(output, depth, valid, config.loss.normalise))
    if not rows:
        return None
    mean = np.mean(rows, 0)
    figures = DepthFigures(
        frames=len(rows),
        abs_rel=mean[0],
        delta_1_25=mean[1],
        median_abs_rel=mean[2],
        median_delta_1_25=mean[3],
    )
    return figures, pooled(pixels)


def depth_errors(
    depth_m: Float[Tensor, " p"], truth_m: Float[Tensor, " p"]
) -> tuple[float, float, float, float]:
    """Return AbsRel and δ < 1.25 of one image, raw and after scaling by the ratio of the medians.

    References: paper, section 4.4.
    """
    scaled = depth_m * (truth_m.median() / depth_m.median())
    return (*_abs_rel_delta(depth_m, truth_m), *_abs_rel_delta(scaled, truth_m))


def _abs_rel_delta(depth_m: Tensor, truth_m: Tensor) -> tuple[float, float]:
    ratio = torch.maximum(depth_m / truth_m, truth_m / depth_m)
    return float(((depth_m - truth_m).abs() / truth_m).mean()), float((ratio < 1.25).float().mean())


def _sampled(
    output: DepthOutput, depth_m: Float[Tensor, "n h w"], valid: Bool[Tensor, "n h w"], unit: SigmaUnit
) -> Pixels:
    every = valid.flatten().nonzero()[::_EVERY_PIXEL, 0]
    scale = output.depth_m
    if unit == "scene":  # as the loss with ground truth's scale, which inference does not have
        scale = safe_norm(output.points_cam).mean((1, 2), keepdim=True).expand_as(scale)
    error = ((output.depth_m - depth_m).abs() / scale).flatten()[every]
    return Pixels(error.cpu().numpy(), output.depth_confidence.flatten()[every].cpu().numpy())
