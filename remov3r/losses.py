"""Training losses: confidence-aware regression and pose (the paper's equations 1 and 2), log-depth terms.

Suffixes: B batch (clips × frames), h w pixels, N poses. All are finite, with finite gradients, for empty
masks, perfect predictions and vanishing confidence. Missing ground truth is masked out everywhere, which the
paper's section 5 names as its own omission.
"""

from __future__ import annotations

import pypose as pp
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remov3r.config import Config

_SMALLEST_CONFIDENCE = 1e-6
_SMALLEST_DEPTH_M = 1e-3


class LossConfig(Config):
    """Weights of the loss terms.

    Attributes:
        alpha: the paper's α (eq. 1). With the optimum c = α / E[error] it only sets how much the term counts.
        depth_confidence: weight of eq. 1 on the refined depth.
        points_confidence: weight of eq. 1 on the pointmap.
        prior_log: weight of the log-depth L1 on the depth prior.
        refined_log: the same on the refined depth.
        gradient: weight of the multi-scale log-depth gradient term on both.
        gradient_scales: number of halvings of the image at which gradients are compared.
        local_pose: weight of eq. 2 on T_key_cam.
        global_pose: weight of eq. 2 on T_world_key.
    """

    alpha: float = 0.2
    depth_confidence: float = 1.0
    points_confidence: float = 0.5
    prior_log: float = 0.5
    refined_log: float = 1.0
    gradient: float = 0.5
    gradient_scales: int = 4
    local_pose: float = 1.0
    global_pose: float = 0.3


def masked_mean(values: Float[Tensor, "*s"], mask: Bool[Tensor, "*s"]) -> Float[Tensor, ""]:
    """Average where the mask holds; 0 for an empty mask. Values outside it may be NaN."""
    kept = torch.where(mask, values, torch.zeros_like(values))
    return kept.sum() / mask.sum().clamp_min(1)


def safe_norm(vectors: Float[Tensor, "*s d"]) -> Float[Tensor, "*s"]:
    """Length of vectors, with gradient 0 in place of NaN at length 0."""
    squared = vectors.square().sum(-1)
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, torch.ones_like(squared)).sqrt(), 0 * squared)


def confidence_loss(
    error: Float[Tensor, "*s"], confidence: Float[Tensor, "*s"], mask: Bool[Tensor, "*s"], alpha: float
) -> Float[Tensor, ""]:
    """Weigh errors by the predicted confidence: mean of c·e − α·log c.

    For errors of expectation E the optimum is c = α / E, whence σ = factor · α / c in the unit of the error.

    Args:
        error: non-negative, already divided by its scale s.
        confidence: the network's c > 0.
    References: paper, section 3.2, equation 1 (the mean over valid pixels in place of the sum).
    """
    c = confidence.clamp_min(_SMALLEST_CONFIDENCE)
    kept = torch.where(mask, error, torch.zeros_like(error))  # a masked NaN would spoil the gradient of c
    return masked_mean(c * kept - alpha * c.log(), mask)


def relative_depth_error(depth_m: Float[Tensor, "*s"], truth_m: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Depth error as a fraction of the predicted depth: the ‖x̂/ŝ − x/s‖ of equation 1 for depth.

    Ground truth is metric, so ŝ = s as in the paper; s is the predicted depth of the pixel, without gradient.
    Then α/c is the expected relative error of the prediction, which is what σ multiplies at inference, and
    the best depth stays the median of what the image allows (dividing by the true depth favours small ones).

    References: paper, section 3.2, equation 1.
    """
    return (depth_m - truth_m).abs() / depth_m.detach().clamp_min(_SMALLEST_DEPTH_M)


def relative_points_error(points: Float[Tensor, "*s 3"], truth: Float[Tensor, "*s 3"]) -> Float[Tensor, "*s"]:
    """Distance between predicted and true points as a fraction of the predicted point's distance.

    References: paper, section 3.2, equation 1; the scale as in `relative_depth_error`.
    """
    return safe_norm(points - truth) / safe_norm(points.detach()).clamp_min(_SMALLEST_DEPTH_M)


def log_ratio(depth_m: Float[Tensor, "*s"], truth_m: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Return log(prediction / truth), 0 error where they agree; depths under a millimetre count as one."""
    return depth_m.clamp_min(_SMALLEST_DEPTH_M).log() - truth_m.clamp_min(_SMALLEST_DEPTH_M).log()


def gradient_loss(
    ratio: Float[Tensor, "B h w"], mask: Bool[Tensor, "B h w"], scales: int
) -> Float[Tensor, ""]:
    """Penalise differences of the log-depth error between neighbours, at several subsamplings.

    A difference counts where both neighbours are valid. Mean over the differences, then over the scales.

    References: Li & Snavely 2018 (MegaDepth), section 4.2; Ranftl et al. 2020 (MiDaS), equation 11.
    """
    total = ratio.new_zeros(())
    for scale in range(scales):
        r, m = ratio[:, :: 2**scale, :: 2**scale], mask[:, :: 2**scale, :: 2**scale]
        right = masked_mean((r[:, :, 1:] - r[:, :, :-1]).abs(), m[:, :, 1:] & m[:, :, :-1])
        down = masked_mean((r[:, 1:] - r[:, :-1]).abs(), m[:, 1:] & m[:, :-1])
        total = total + (right + down) / 2
    return total / max(scales, 1)


def pose_loss(
    T: Float[Tensor, "N 7"], T_truth: Float[Tensor, "N 7"], mask: Bool[Tensor, " N"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Compare poses: mean ‖q̂ − q‖ (the sign of q is free) and mean ‖τ̂ − τ‖ in metres.

    Ground truth is metric, so ŝ = s = 1.

    Args:
        T: x y z qx qy qz qw, the quaternion of unit length.
    Returns:
        the rotation and the translation term; the paper adds them.
    References: paper, section 3.2, equation 2.
    """
    truth = torch.where(mask[:, None], T_truth, torch.zeros_like(T_truth))
    q, q_truth = T[:, 3:], truth[:, 3:]
    flipped = (q.detach() * q_truth).sum(-1, keepdim=True) < 0
    rotation = safe_norm(q - torch.where(flipped, -q_truth, q_truth))
    return masked_mean(rotation, mask), masked_mean(safe_norm(T[:, :3] - truth[:, :3]), mask)


def relative_poses(
    T_world_a: Float[Tensor, "N 4 4"], T_world_b: Float[Tensor, "N 4 4"]
) -> Float[Tensor, "N 7"]:
    """Return T_a_b as x y z qx qy qz qw; identity where either pose holds NaN."""
    known = (T_world_a.isfinite() & T_world_b.isfinite()).flatten(1).all(1)[:, None, None]
    eye = torch.eye(4, dtype=T_world_a.dtype, device=T_world_a.device).expand_as(T_world_a)
    a, b = torch.where(known, T_world_a, eye), torch.where(known, T_world_b, eye)
    R_a_world = a[:, :3, :3].transpose(1, 2)
    R_a_b = R_a_world @ b[:, :3, :3]
    t_a_b = (R_a_world @ (b[:, :3, 3] - a[:, :3, 3])[..., None])[..., 0]
    q = pp.mat2SO3(R_a_b, check=False).tensor()
    return torch.cat([t_a_b, q / q.norm(dim=-1, keepdim=True)], -1)
