"""What a step minimises: a batch's ground truth against the network's output, by named parts.

Shapes: B clips, T frames, h w depth size, N = B·T.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from remov3r.errors import ConfigError
from remov3r.losses import (
    LossConfig,
    compose,
    confidence_loss,
    covariance_loss,
    depth_error,
    gradient_loss,
    log_ratio,
    masked_mean,
    points_error,
    pose_loss,
    relative_poses,
    scene_scale,
    smoothness_loss,
    tangent_error,
)
from remov3r.models.network import ClipOutput, DepthOutput
from remov3r.training.batches import Batch
from remov3r.training.config import TrainConfig


@dataclass(frozen=True)
class LossParts:
    """Weighted terms; their sum is minimised. None: not computed (weight 0, or poses in the depth stage)."""

    prior_log: Tensor | None = None
    refined_log: Tensor | None = None
    gradient: Tensor | None = None
    depth_confidence: Tensor | None = None
    points_confidence: Tensor | None = None
    local_rotation: Tensor | None = None
    local_translation: Tensor | None = None
    global_rotation: Tensor | None = None
    global_translation: Tensor | None = None
    smoothness: Tensor | None = None
    covariance: Tensor | None = None

    def _computed(self) -> dict[str, Tensor]:
        terms = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: term for name, term in terms.items() if term is not None}

    def total(self) -> Tensor:
        """Add the terms.

        Raises:
            ConfigError: there is none.
        """
        terms = self._computed()
        if not terms:
            raise ConfigError(
                "loss: every weight of this stage is 0; set one of them, such as loss.refined_log"
            )
        return torch.stack(list(terms.values())).sum()

    def figures(self) -> dict[str, float]:
        """Return every term as a number, 0 where it is not computed, for logs."""
        terms = self._computed()
        return {f.name: float(terms[f.name].detach()) if f.name in terms else 0.0 for f in fields(self)}


@dataclass(frozen=True)
class Truth:
    """A batch's tensors on the training device."""

    rgb: UInt8[Tensor, "b t H W 3"]
    depth_m: Float[Tensor, "b t h w"]
    valid: Bool[Tensor, "b t h w"]
    K: Float[Tensor, "b t 3 3"]
    T_world_cam: Float[Tensor, "b t 4 4"]
    keyframe_index: Int[Tensor, "b t"]

    @property
    def image(self) -> Float[Tensor, "b t 3 H W"]:
        """Images as the network takes them: 0..1, colour first, stored with colour last (faster on CPUs)."""
        return self.rgb.movedim(-1, 2).float() / 255


def to_device(batch: Batch, config: TrainConfig, device: torch.device) -> Truth:
    """Move a batch to the device and mark valid depth."""

    def moved(array: object) -> Tensor:
        return torch.as_tensor(array).to(device, non_blocking=True)

    depth_m = moved(batch.depth_mm.astype("float32")) / 1000
    valid = (depth_m >= config.smallest_depth_m) & (depth_m <= config.largest_depth_m)
    return Truth(
        moved(batch.rgb),
        depth_m,
        valid,
        moved(batch.K),
        moved(batch.T_world_cam),
        moved(batch.keyframe_index),
    )


def unprojected(depth_m: Float[Tensor, "n h w"], K: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n h w 3"]:
    """Lift depth at half the image's size to points, by the image's K (pixel areas kept)."""
    h, w = depth_m.shape[1:]
    u = 2 * torch.arange(w, device=depth_m.device) + 0.5
    v = 2 * torch.arange(h, device=depth_m.device) + 0.5
    x = (u - K[:, 0, 2, None]) / K[:, 0, 0, None]
    y = (v - K[:, 1, 2, None]) / K[:, 1, 1, None]
    return torch.stack([x[:, None] * depth_m, y[:, :, None] * depth_m, depth_m], -1)


@dataclass(frozen=True)
class _Dense:
    """Ground truth of a batch's n images; 1 metre stands where it is not valid.

    Attributes:
        scales: the paper's ŝ and s of each image; None where each pixel is its own.
    """

    depth_m: Float[Tensor, "n h w"]
    points: Float[Tensor, "n h w 3"]
    valid: Bool[Tensor, "n h w"]
    scales: tuple[Float[Tensor, " n"], Float[Tensor, " n"]] | None


def _dense_truth(output: DepthOutput | ClipOutput, truth: Truth, config: LossConfig) -> _Dense:
    valid = (truth.valid if config.masked else torch.ones_like(truth.valid)).flatten(0, 1)
    depth = truth.depth_m.flatten(0, 1)
    depth = torch.where(valid, depth, torch.ones_like(depth))
    points = unprojected(depth, truth.K.flatten(0, 1))
    if config.normalise == "pixel":
        return _Dense(depth, points, valid, None)
    s = scene_scale(points, valid)
    return _Dense(
        depth,
        points,
        valid,
        (s if config.metric else scene_scale(output.points_cam.reshape(points.shape), valid), s),
    )


def _depth_terms(output: DepthOutput | ClipOutput, dense: _Dense, config: LossConfig) -> dict[str, Tensor]:
    """Compare dense geometry: log L1 of prior and refined depth, gradients, and equation 1 twice."""
    c, size, valid = config, dense.depth_m.shape, dense.valid
    refined = output.depth_m.reshape(size)
    terms = {}
    if c.prior_log or c.refined_log or c.gradient:
        ratios = [log_ratio(d, dense.depth_m) for d in (output.prior_depth_m.reshape(size), refined)]
    if c.prior_log:
        terms["prior_log"] = c.prior_log * masked_mean(ratios[0].abs(), valid)
    if c.refined_log:
        terms["refined_log"] = c.refined_log * masked_mean(ratios[1].abs(), valid)
    if c.gradient:
        gradients = [gradient_loss(ratio, valid, c.gradient_scales) for ratio in ratios]
        terms["gradient"] = c.gradient * (gradients[0] + gradients[1])
    if c.depth_confidence:
        error = depth_error(refined, dense.depth_m, dense.scales)
        found = confidence_loss(error, output.depth_confidence.reshape(size), valid, c.alpha)
        terms["depth_confidence"] = c.depth_confidence * found
    if c.points_confidence:
        error = points_error(output.points_cam.reshape(*size, 3), dense.points, dense.scales)
        found = confidence_loss(error, output.points_confidence.reshape(size), valid, c.alpha)
        terms["points_confidence"] = c.points_confidence * found
    return terms


def true_relative_poses(truth: Truth) -> tuple[Tensor, Tensor, Tensor]:
    """Return T_key_cam, T_world_key (B T 7; the world is the clip's first frame) and where both are known."""
    T = truth.T_world_cam
    key = T.gather(1, truth.keyframe_index[:, :, None, None].expand_as(T))
    first = T[:, :1].expand_as(T)
    known = (T.isfinite() & key.isfinite() & first.isfinite()).flatten(2).all(2)
    return relative_poses(key, T), relative_poses(first, key), known


def _pose_terms(output: ClipOutput, truth: Truth, dense: _Dense, config: LossConfig) -> dict[str, Tensor]:
    """Equation 2 on the local and the global transforms, smoothness, and the likelihood of local errors."""
    c = config
    local, world, known = true_relative_poses(truth)
    # a keyframe's own local transform is the identity by construction, the first keyframe's global one too
    index = truth.keyframe_index
    local_known = known & (index != torch.arange(index.shape[1], device=index.device))
    scales = None
    if dense.scales is not None:
        scales = (dense.scales[0].reshape(index.shape), dense.scales[1].reshape(index.shape))
    terms: dict[str, Tensor] = {}
    if c.local_pose:
        turned, moved = pose_loss(output.T_key_cam, local, local_known, c.rotation, scales)
        terms |= {"local_rotation": c.local_pose * turned, "local_translation": c.local_pose * moved}
    if c.global_pose:
        turned, moved = pose_loss(output.T_world_key, world, known & (index > 0), c.rotation, scales)
        terms |= {"global_rotation": c.global_pose * turned, "global_translation": c.global_pose * moved}
    if c.smoothness:
        terms["smoothness"] = c.smoothness * smoothness_loss(compose(output.T_world_key, output.T_key_cam))
    if c.covariance:
        if output.local_cholesky is None:
            raise ConfigError(
                "loss.covariance is above 0, but the network has no covariance head: switch it on"
            )
        e = tangent_error(output.T_key_cam, local)
        terms["covariance"] = c.covariance * covariance_loss(e, output.local_cholesky, local_known)
    return terms


def depth_objective(output: DepthOutput, truth: Truth, config: LossConfig) -> LossParts:
    """Terms of the depth stage."""
    return LossParts(**_depth_terms(output, _dense_truth(output, truth, config), config))


def clip_objective(output: ClipOutput, truth: Truth, config: LossConfig) -> LossParts:
    """Terms of the clip stage: dense geometry and poses.

    Raises:
        ConfigError: the likelihood of pose errors is wanted of a network without a covariance head.
    """
    dense = _dense_truth(output, truth, config)
    return LossParts(**_depth_terms(output, dense, config), **_pose_terms(output, truth, dense, config))
