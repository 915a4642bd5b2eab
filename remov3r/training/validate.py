"""Validation: depth figures, what a confidence means in metres, pose errors, and a keyframe threshold.

Nothing here touches the weights. Shapes: B clips, T frames, N images, h w depth size.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remov3r.config import Config
from remov3r.losses import safe_norm
from remov3r.models.keyframes import divergence
from remov3r.models.network import DepthOutput, Remov3rNetwork
from remov3r.training.augment import PLAIN, augment
from remov3r.training.batches import stacked
from remov3r.training.config import TrainConfig
from remov3r.training.objective import Truth, to_device, true_relative_poses
from remov3r.training.shards import Clips, ShardSet

log = logging.getLogger(__name__)

_FEWEST_PIXELS = 100  # images with less ground truth say nothing
_CHUNK = 8  # images per forward pass
_GAUSSIAN_MEDIAN = 0.6745  # median |x| of a normal distribution of σ = 1


class DepthFigures(Config):
    """Depth against ground truth, mean over images: raw metric, and with each image scaled by its median."""

    frames: int
    abs_rel: float
    delta_1_25: float
    median_abs_rel: float
    median_delta_1_25: float


class Calibration(Config):
    """What confidence means: σ_m = sigma_factor · depth_m / confidence.

    Attributes:
        sigma_factor: makes half of the errors smaller than 0.6745 σ, as for a normal distribution.
        within_1_sigma, within_2_sigma: share of the pixels (0.683 and 0.954 for a normal distribution).
        abs_rel_by_confidence: of the four quarters of the pixels, the least confident first.
    """

    sigma_factor: float
    within_1_sigma: float
    within_2_sigma: float
    abs_rel_by_confidence: tuple[float, float, float, float]


class PoseFigures(Config):
    """Errors of T_key_cam over frames that are no keyframes, and of the identity in its place; medians.

    Attributes:
        keyframe_threshold: at which the rule would fire after the wanted number of frames, in the median.
        divergence: median 1 − cos between pose embeddings, 1, 2, ... frames apart.
    """

    clips: int
    translation_m: float
    rotation_deg: float
    identity_translation_m: float
    identity_rotation_deg: float
    keyframe_threshold: float
    divergence: tuple[float, ...]


class Report(Config):
    """One validation; `mean` weighs each set the same."""

    mean: DepthFigures
    depth: dict[str, DepthFigures]
    calibration: Calibration
    poses: dict[str, PoseFigures]


@dataclass(frozen=True)
class _Pixels:
    """Sampled valid pixels: |error| / predicted depth, confidence."""

    error: Float[np.ndarray, " p"]
    confidence: Float[np.ndarray, " p"]


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
    pixels: list[_Pixels] = []
    with torch.no_grad():
        for name in config.validation.sets:
            clips = ShardSet(shards / name)
            if not len(clips):
                log.warning("validation set %s is empty or missing", shards / name)
                continue
            figures = _depth_figures(network, _images(clips, config, device), config, pixels)
            if figures is not None:
                depth[name] = figures
            if with_poses:
                found = _pose_figures(network, _clips(clips, config, device), config)
                if found is not None:
                    poses[name] = found
    network.train(was_training)
    if not depth:
        return None
    return Report(mean=_mean(depth), depth=depth, calibration=calibrate(pixels), poses=poses)


def _mean(depth: Mapping[str, DepthFigures]) -> DepthFigures:
    values = {k: float(np.mean([getattr(d, k) for d in depth.values()])) for k in DepthFigures.model_fields}
    return DepthFigures(**{**values, "frames": sum(d.frames for d in depth.values())})


def _images(clips: ShardSet, config: TrainConfig, device: torch.device) -> Iterator[Truth]:
    """Every frame_step-th frame, as clips of one frame, a chunk at a time."""
    rng = np.random.default_rng(0)
    frames: list[Clips] = []
    for i in range(len(clips)):
        clip = augment(clips.clip(i), config.width, config.height, PLAIN, rng)
        for t in range(0, clip.frames, config.validation.frame_step):
            frames.append(clip.cut(t, 1))
    for start in range(0, len(frames), _CHUNK):
        some = frames[start : start + _CHUNK]
        yield to_device(stacked(start, some, np.zeros((len(some), 1), np.int64)), config, device)


def _clips(clips: ShardSet, config: TrainConfig, device: torch.device) -> Iterator[Truth]:
    """Whole clips of more than one frame, with the first frame as their only keyframe."""
    rng = np.random.default_rng(0)
    for i in np.unique(np.linspace(0, len(clips) - 1, config.validation.clips).astype(int)):
        clip = clips.clip(int(i))
        if clip.frames > 1 and np.isfinite(clip.T_world_cam).all():
            clip = augment(clip, config.width, config.height, PLAIN, rng)
            yield to_device(stacked(int(i), [clip], np.zeros((1, clip.frames), np.int64)), config, device)


def _depth_figures(
    network: Remov3rNetwork, images: Iterator[Truth], config: TrainConfig, pixels: list[_Pixels]
) -> DepthFigures | None:
    rows = []
    for truth in images:
        output = network.forward_depth(truth.image.flatten(0, 1), truth.K.flatten(0, 1))
        depth, valid = truth.depth_m.flatten(0, 1), truth.valid.flatten(0, 1)
        valid &= depth <= config.validation.largest_depth_m
        for i in range(len(depth)):
            if int(valid[i].sum()) >= _FEWEST_PIXELS:
                rows.append(depth_errors(output.depth_m[i][valid[i]], depth[i][valid[i]]))
        pixels.append(_sampled(output, depth, valid))
    if not rows:
        return None
    mean = np.mean(rows, 0)
    return DepthFigures(
        frames=len(rows),
        abs_rel=mean[0],
        delta_1_25=mean[1],
        median_abs_rel=mean[2],
        median_delta_1_25=mean[3],
    )


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


def _sampled(output: DepthOutput, depth_m: Float[Tensor, "n h w"], valid: Bool[Tensor, "n h w"]) -> _Pixels:
    every = valid.flatten().nonzero()[::37, 0]
    predicted = output.depth_m.flatten()[every]
    error = (predicted - depth_m.flatten()[every]).abs() / predicted
    return _Pixels(error.cpu().numpy(), output.depth_confidence.flatten()[every].cpu().numpy())


def calibrate(pixels: list[_Pixels]) -> Calibration:
    """Fit the factor between 1 / confidence and the relative standard deviation of depth."""
    error = np.concatenate([p.error for p in pixels])
    confidence = np.concatenate([p.confidence for p in pixels])
    factor = float(np.median(error * confidence) / _GAUSSIAN_MEDIAN)
    in_sigmas = error * confidence / max(factor, 1e-9)
    quarters = np.array_split(np.argsort(confidence, kind="stable"), 4)
    by_confidence = [float(error[q].mean()) for q in quarters]
    return Calibration(
        sigma_factor=factor,
        within_1_sigma=float((in_sigmas < 1).mean()),
        within_2_sigma=float((in_sigmas < 2).mean()),
        abs_rel_by_confidence=(by_confidence[0], by_confidence[1], by_confidence[2], by_confidence[3]),
    )


def _pose_figures(network: Remov3rNetwork, clips: Iterator[Truth], config: TrainConfig) -> PoseFigures | None:
    errors: list[list[Float[np.ndarray, " t"]]] = [[], [], [], []]
    apart = []
    for truth in clips:
        index = _windows(truth.keyframe_index, network.config.keyframes.max_window)
        output = network(truth.image, truth.K, index)
        local, _, _ = true_relative_poses(Truth(**{**truth.__dict__, "keyframe_index": index}))
        free = (index != torch.arange(index.shape[1], device=index.device))[0]
        t, r = pose_errors(output.T_key_cam[0][free], local[free])
        identity = torch.zeros_like(local[free])
        identity[:, 6] = 1
        t0, r0 = pose_errors(identity, local[free])
        for values, new in zip(errors, (t, r, t0, r0)):
            values.append(new.cpu().numpy())
        later = output.pose_embedding[0, 1:]
        apart.append(divergence(later, output.pose_embedding[0, :1].expand_as(later)).cpu().numpy())
    if not apart:
        return None
    shortest = min(len(a) for a in apart)
    by_lag = np.median([a[:shortest] for a in apart], 0)
    medians = [float(np.median(np.concatenate(v))) for v in errors]
    return PoseFigures(
        clips=len(apart),
        translation_m=medians[0],
        rotation_deg=medians[1],
        identity_translation_m=medians[2],
        identity_rotation_deg=medians[3],
        keyframe_threshold=float(by_lag[min(config.validation.keyframe_interval, shortest) - 1]),
        divergence=tuple(float(v) for v in by_lag),
    )


def _windows(key: Tensor, longest: int) -> Tensor:
    """Keep the first frame as keyframe as long as the window allows."""
    frame = torch.arange(key.shape[1], device=key.device)
    return (frame // longest * longest).expand_as(key)


def pose_errors(
    T: Float[Tensor, "n 7"], T_truth: Float[Tensor, "n 7"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return translation errors in metres and rotation errors in degrees."""
    dot = (T[:, 3:] * T_truth[:, 3:]).sum(-1).abs()
    sine = safe_norm(T[:, 3:] - T_truth[:, 3:] * (T[:, 3:] * T_truth[:, 3:]).sum(-1, keepdim=True))
    return safe_norm(T[:, :3] - T_truth[:, :3]), torch.rad2deg(2 * torch.atan2(sine, dot))
