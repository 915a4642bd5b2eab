"""What a step minimises: a batch's ground truth against the network's output, by named parts.

Shapes: B clips, T frames, h w depth size, N = B·T.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from remov3r.losses import (
    LossConfig,
    confidence_loss,
    gradient_loss,
    log_ratio,
    masked_mean,
    pose_loss,
    relative_depth_error,
    relative_points_error,
    relative_poses,
)
from remov3r.models.network import ClipOutput, DepthOutput
from remov3r.training.batches import Batch
from remov3r.training.config import TrainConfig


@dataclass(frozen=True)
class LossParts:
    """Weighted terms; their sum is minimised. Poses are 0 in the depth stage."""

    prior_log: Tensor
    refined_log: Tensor
    gradient: Tensor
    depth_confidence: Tensor
    points_confidence: Tensor
    local_rotation: Tensor
    local_translation: Tensor
    global_rotation: Tensor
    global_translation: Tensor

    def total(self) -> Tensor:
        """Add the terms."""
        return torch.stack([getattr(self, f.name) for f in fields(self)]).sum()

    def figures(self) -> dict[str, float]:
        """Return the terms as numbers, for logs."""
        return {f.name: float(getattr(self, f.name).detach()) for f in fields(self)}


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


def depth_losses(
    output: DepthOutput | ClipOutput, truth: Truth, config: LossConfig
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compare dense geometry: log L1 of prior and refined depth, gradients, and equation 1 twice."""
    h, w = truth.depth_m.shape[-2:]
    depth, valid = truth.depth_m.reshape(-1, h, w), truth.valid.reshape(-1, h, w)
    prior, refined = output.prior_depth_m.reshape(-1, h, w), output.depth_m.reshape(-1, h, w)
    points = unprojected(depth, truth.K.reshape(-1, 3, 3))
    prior_ratio, refined_ratio = log_ratio(prior, depth), log_ratio(refined, depth)
    gradient = sum(
        (gradient_loss(r, valid, config.gradient_scales) for r in (prior_ratio, refined_ratio)),
        depth.new_zeros(()),
    )
    depth_error = relative_depth_error(refined, depth)
    points_error = relative_points_error(output.points_cam.reshape(-1, h, w, 3), points)
    c_depth, c_points = output.depth_confidence.reshape(-1, h, w), output.points_confidence.reshape(-1, h, w)
    return (
        config.prior_log * masked_mean(prior_ratio.abs(), valid),
        config.refined_log * masked_mean(refined_ratio.abs(), valid),
        config.gradient * gradient,
        config.depth_confidence * confidence_loss(depth_error, c_depth, valid, config.alpha),
        config.points_confidence * confidence_loss(points_error, c_points, valid, config.alpha),
    )


def true_relative_poses(truth: Truth) -> tuple[Tensor, Tensor, Tensor]:
    """Return T_key_cam, T_world_key (N 7; the world is the clip's first frame) and where both are known."""
    T = truth.T_world_cam
    key = T.gather(1, truth.keyframe_index[:, :, None, None].expand_as(T))
    first = T[:, :1].expand_as(T)
    known = (T.isfinite() & key.isfinite() & first.isfinite()).flatten(2).all(2).flatten()
    T, key, first = (x.flatten(0, 1) for x in (T, key, first))
    return relative_poses(key, T), relative_poses(first, key), known


def depth_objective(output: DepthOutput, truth: Truth, config: LossConfig) -> LossParts:
    """Terms of the depth stage."""
    zero = truth.depth_m.new_zeros(())
    return LossParts(*depth_losses(output, truth, config), zero, zero, zero, zero)


def clip_objective(output: ClipOutput, truth: Truth, config: LossConfig) -> LossParts:
    """Terms of the clip stage: dense geometry and equation 2 on the local and the global transforms."""
    local, world, known = true_relative_poses(truth)
    # a keyframe's own local transform is the identity by construction, the first keyframe's global one too
    index = truth.keyframe_index
    frame = torch.arange(index.shape[1], device=index.device)
    local_known, world_known = known & (index != frame).flatten(), known & (index > 0).flatten()
    local_r, local_t = pose_loss(output.T_key_cam.flatten(0, 1), local, local_known)
    world_r, world_t = pose_loss(output.T_world_key.flatten(0, 1), world, world_known)
    return LossParts(
        *depth_losses(output, truth, config),
        config.local_pose * local_r,
        config.local_pose * local_t,
        config.global_pose * world_r,
        config.global_pose * world_t,
    )
