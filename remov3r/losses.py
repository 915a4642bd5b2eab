"""Training losses: the paper's equations 1 and 2, log-depth terms, and what the paper's section 6 asks for.

Suffixes: B images or clips, T frames of a clip, h w pixels, 7 = x y z qx qy qz qw (unit quaternion).

Every loss is a mean over the images (or clips) of each one's mean over what is valid in it; one with nothing
valid counts as 0. So the loss of a batch is the mean of the losses of its equal parts, and gradients over
several processes or accumulated steps are those of one. All are finite, with finite gradients, for empty
masks, perfect predictions, vanishing confidence and rotations by 180°.

Poses that the network reads out are handled as plain tensors: pypose gives gradients in the tangent space,
which are not those of the seven numbers.
"""

from __future__ import annotations

import math
from typing import Literal

import pypose as pp
import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from remov3r.config import Config

_SMALLEST_CONFIDENCE = 1e-6
_SMALLEST_DEPTH_M = 1e-3

Rotation = Literal["quaternion", "geodesic"]


class LossConfig(Config):
    """Weights of the loss terms, and their variants. A term of weight 0 is not computed.

    The paper's own objective is `normalise = "scene"`, `masked = false`, `rotation = "quaternion"`, the two
    pose weights 1 and every log, gradient, smoothness and covariance weight 0.

    Attributes:
        normalise: scale s of equations 1 and 2. "scene" is the paper's: the mean distance of the frame's valid
            ground-truth points. "pixel" divides by the pixel's predicted depth and leaves translations in
            metres; σ is then a share of the depth, which is what a depth error looks like.
        metric: ground truth is metric, so ŝ := s; otherwise ŝ is the mean distance of the predicted points.
        masked: leave out missing ground truth; false is what the paper did: it counts as the value stored.
        alpha: the paper's α (eq. 1). With the optimum c = α / E[error] it only sets how much the term counts.
        depth_confidence: weight of eq. 1 on the refined depth.
        points_confidence: weight of eq. 1 on the pointmap.
        prior_log: weight of the log-depth L1 on the depth prior.
        refined_log: the same on the refined depth.
        gradient: weight of the multi-scale log-depth gradient term on both.
        gradient_scales: number of halvings of the image at which gradients are compared.
        rotation: "quaternion" is the paper's ‖q̂ − q‖; "geodesic" is the angle in rad, for which q and −q are one.
        local_pose: weight of eq. 2 on T_key_cam.
        global_pose: weight of eq. 2 on T_world_key.
        smoothness: weight of the motion between consecutive predicted poses.
        covariance: weight of the Gaussian likelihood of the error of T_key_cam.
    """

    normalise: Literal["scene", "pixel"] = "pixel"
    metric: bool = True
    masked: bool = True
    alpha: float = Field(0.2, gt=0)
    depth_confidence: float = Field(1.0, ge=0)
    points_confidence: float = Field(0.5, ge=0)
    prior_log: float = Field(0.5, ge=0)
    refined_log: float = Field(1.0, ge=0)
    gradient: float = Field(0.5, ge=0)
    gradient_scales: int = Field(4, ge=1)
    rotation: Rotation = "quaternion"
    local_pose: float = Field(1.0, ge=0)
    global_pose: float = Field(0.3, ge=0)
    smoothness: float = Field(0.0, ge=0)
    covariance: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _scale_is_defined(self) -> LossConfig:
        if not self.metric and self.normalise == "pixel":
            raise ValueError('metric = false needs normalise = "scene": a scale for each frame')
        return self


def masked_mean(values: Float[Tensor, "b n *s"], mask: Bool[Tensor, "b n *s"]) -> Float[Tensor, ""]:
    """Average each row where its mask holds (0 for an empty one), then the rows.

    Values outside the mask may be NaN.
    """
    kept = torch.where(mask, values, torch.zeros_like(values)).flatten(1)
    return (kept.sum(1) / mask.flatten(1).sum(1).clamp_min(1)).mean()


def safe_norm(vectors: Float[Tensor, "*s d"]) -> Float[Tensor, "*s"]:
    """Length of vectors, with gradient 0 in place of NaN at length 0."""
    squared = vectors.square().sum(-1)
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, torch.ones_like(squared)).sqrt(), 0 * squared)


def scene_scale(points: Float[Tensor, "b h w 3"], mask: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Return the paper's scale factor: the mean distance of each image's valid points from its camera.

    It is 1 where no point is valid, or all lie at the camera: nothing there sets a scale.

    References: paper, section 3.2; the norm is that of CUT3R and DUSt3R (Wang et al. 2024).
    """
    distance = torch.where(mask, safe_norm(points), points.new_zeros(())).flatten(1)
    mean = distance.sum(1) / mask.flatten(1).sum(1).clamp_min(1)
    return torch.where(mean > _SMALLEST_DEPTH_M, mean, torch.ones_like(mean))


def confidence_loss(
    error: Float[Tensor, "b *s"], confidence: Float[Tensor, "b *s"], mask: Bool[Tensor, "b *s"], alpha: float
) -> Float[Tensor, ""]:
    """Weigh errors by the predicted confidence: mean of c·e − α·log c.

    For errors of expectation E the optimum is c = α / E, whence σ = factor · α / c in the unit of the error.

    Args:
        error: ‖x̂/ŝ − x/s‖.
        confidence: the network's c > 0.
    References: paper, section 3.2, equation 1 (means in place of the sum).
    """
    c = confidence.clamp_min(_SMALLEST_CONFIDENCE)
    kept = torch.where(mask, error, torch.zeros_like(error))  # a masked NaN would spoil the gradient of c
    return masked_mean(c * kept - alpha * c.log(), mask)


def depth_error(
    depth_m: Float[Tensor, "b h w"],
    truth_m: Float[Tensor, "b h w"],
    scales: tuple[Float[Tensor, " b"], Float[Tensor, " b"]] | None = None,
) -> Float[Tensor, "b h w"]:
    """Return |x̂/ŝ − x/s| of equation 1 for depth.

    Args:
        scales: ŝ and s of each image. None: ŝ = s is the pixel's predicted depth, without gradient. Then α/c is
            the expected relative error of the prediction, which is what σ multiplies at inference, and the
            best depth stays the median of what the image allows (the true depth as s favours small ones).
    References: paper, section 3.2, equation 1.
    """
    if scales is None:
        return (depth_m - truth_m).abs() / depth_m.detach().clamp_min(_SMALLEST_DEPTH_M)
    s_predicted, s = (x[:, None, None] for x in scales)
    return (depth_m / s_predicted - truth_m / s).abs()


def points_error(
    points: Float[Tensor, "b h w 3"],
    truth: Float[Tensor, "b h w 3"],
    scales: tuple[Float[Tensor, " b"], Float[Tensor, " b"]] | None = None,
) -> Float[Tensor, "b h w"]:
    """Return ‖x̂/ŝ − x/s‖ of equation 1 for pointmaps; without scales, ŝ = s is the predicted point's distance.

    References: paper, section 3.2, equation 1.
    """
    if scales is None:
        return safe_norm(points - truth) / safe_norm(points.detach()).clamp_min(_SMALLEST_DEPTH_M)
    s_predicted, s = (x[:, None, None, None] for x in scales)
    return safe_norm(points / s_predicted - truth / s)


def log_ratio(depth_m: Float[Tensor, "*s"], truth_m: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Return log(prediction / truth), 0 error where they agree; depths under a millimetre count as one."""
    return depth_m.clamp_min(_SMALLEST_DEPTH_M).log() - truth_m.clamp_min(_SMALLEST_DEPTH_M).log()


def gradient_loss(
    ratio: Float[Tensor, "b h w"], mask: Bool[Tensor, "b h w"], scales: int
) -> Float[Tensor, ""]:
    """Penalise differences of the log-depth error between neighbours, at several subsamplings.

    A difference counts where both neighbours are valid. Mean over an image's differences, the two directions,
    the scales and the images.

    References: Li & Snavely 2018 (MegaDepth), section 4.2; Ranftl et al. 2020 (MiDaS), equation 11.
    """
    total = ratio.new_zeros(())
    for scale in range(scales):
        r, m = ratio[:, :: 2**scale, :: 2**scale], mask[:, :: 2**scale, :: 2**scale]
        right = masked_mean((r[:, :, 1:] - r[:, :, :-1]).abs(), m[:, :, 1:] & m[:, :, :-1])
        down = masked_mean((r[:, 1:] - r[:, :-1]).abs(), m[:, 1:] & m[:, :-1])
        total = total + (right + down) / 2
    return total / scales


def rotation_angle(q: Float[Tensor, "*s 4"], q_truth: Float[Tensor, "*s 4"]) -> Float[Tensor, "*s"]:
    """Angle in rad, 0 to π, between the rotations of unit quaternions; the sign of either is free.

    The gradient is 0 at both ends, where the direction of steepest descent is not defined.
    """
    cosine = (q * q_truth).sum(-1)  # of half the angle
    sine = safe_norm(q - cosine[..., None] * q_truth)
    return 2 * torch.atan2(sine, cosine.abs())


def pose_loss(
    T: Float[Tensor, "b t 7"],
    T_truth: Float[Tensor, "b t 7"],
    mask: Bool[Tensor, "b t"],
    rotation: Rotation = "quaternion",
    scales: tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Compare the poses of clips: ‖q̂ − q‖ (or the angle between them) and ‖τ̂/ŝ − τ/s‖.

    Args:
        T_truth: with qw ≥ 0, as from `relative_poses`; NaN allowed outside the mask.
        scales: ŝ and s of each frame; None for 1, translations in metres.
    Returns:
        the rotation and the translation term; the paper adds them.
    References: paper, section 3.2, equation 2 (means in place of the sum).
    """
    truth = torch.where(mask[..., None], T_truth, torch.zeros_like(T_truth))
    q, q_truth, t, t_truth = T[..., 3:], truth[..., 3:], T[..., :3], truth[..., :3]
    if scales is not None:
        t, t_truth = t / scales[0][..., None], t_truth / scales[1][..., None]
    turned = rotation_angle(q, q_truth) if rotation == "geodesic" else safe_norm(q - q_truth)
    return masked_mean(turned, mask), masked_mean(safe_norm(t - t_truth), mask)


def compose(T_a_b: Float[Tensor, "*s 7"], T_b_c: Float[Tensor, "*s 7"]) -> Float[Tensor, "*s 7"]:
    """Return T_a_c, differentiable in the seven numbers of each."""
    u, w = T_a_b[..., 3:6], T_a_b[..., 6:]
    v, x = T_b_c[..., 3:6], T_b_c[..., 6:]
    q = torch.cat([w * v + x * u + torch.linalg.cross(u, v), w * x - (u * v).sum(-1, keepdim=True)], -1)
    t = T_b_c[..., :3]
    twice = 2 * torch.linalg.cross(u, t)
    return torch.cat([T_a_b[..., :3] + t + w * twice + torch.linalg.cross(u, twice), q], -1)


def smoothness_loss(T_world_cam: Float[Tensor, "b t 7"]) -> Float[Tensor, ""]:
    """Penalise motion between consecutive poses: mean of ‖R − 1‖_F + ‖τ‖ (metres) of the relative pose.

    References: Zhang et al. 2024 (MonST3R), camera trajectory smoothness; paper, section 6.
    """
    before, after = T_world_cam[:, :-1], T_world_cam[:, 1:]
    cosine = (before[..., 3:] * after[..., 3:]).sum(-1, keepdim=True)
    sine = safe_norm(
        after[..., 3:] - cosine * before[..., 3:]
    )  # ‖R − 1‖_F is 2√2 times the sine of half the angle
    motion = 2 * math.sqrt(2) * sine + safe_norm(after[..., :3] - before[..., :3])
    return masked_mean(motion, torch.ones_like(motion, dtype=torch.bool))


@torch.no_grad()
def tangent_error(T: Float[Tensor, "*s 7"], T_truth: Float[Tensor, "*s 7"]) -> Float[Tensor, "*s 6"]:
    """Return e = Log(T⁻¹ T_truth), rotation (rad) then translation (m), in the camera's frame; no gradient."""
    e = (pp.SE3(T).Inv() @ pp.SE3(T_truth)).Log().tensor()
    return torch.cat([e[..., 3:], e[..., :3]], -1)


def normalised_error(e: Float[Tensor, "*s 6"], cholesky: Float[Tensor, "*s 6 6"]) -> Float[Tensor, "*s 6"]:
    """Return L⁻¹ e, which has unit covariance where Σ = L Lᵀ is that of e."""
    return torch.linalg.solve_triangular(cholesky, e[..., None], upper=False)[..., 0]


def covariance_loss(
    e: Float[Tensor, "b t 6"], cholesky: Float[Tensor, "b t 6 6"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    """Negative log-likelihood of errors under N(0, L Lᵀ), less the constant 3 log 2π.

    Args:
        e: from `tangent_error`; NaN allowed outside the mask.
        cholesky: lower triangular with a positive diagonal.
    """
    eye = torch.eye(6, dtype=cholesky.dtype, device=cholesky.device)
    L = torch.where(mask[..., None, None], cholesky, eye)
    z = normalised_error(torch.where(mask[..., None], e, torch.zeros_like(e)), L)
    log_determinant = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return masked_mean(0.5 * z.square().sum(-1) + log_determinant, mask)


def relative_poses(
    T_world_a: Float[Tensor, "*s 4 4"], T_world_b: Float[Tensor, "*s 4 4"]
) -> Float[Tensor, "*s 7"]:
    """Return T_a_b as x y z qx qy qz qw with qw ≥ 0; identity where either pose holds NaN."""
    known = (T_world_a.isfinite() & T_world_b.isfinite()).flatten(-2).all(-1)[..., None, None]
    eye = torch.eye(4, dtype=T_world_a.dtype, device=T_world_a.device).expand_as(T_world_a)
    a, b = torch.where(known, T_world_a, eye), torch.where(known, T_world_b, eye)
    R_a_world = a[..., :3, :3].mT
    R_a_b = R_a_world @ b[..., :3, :3]
    t_a_b = (R_a_world @ (b[..., :3, 3] - a[..., :3, 3])[..., None])[..., 0]
    q = pp.mat2SO3(R_a_b, check=False).tensor()
    q = torch.where(q[..., 3:] < 0, -q, q)
    return torch.cat([t_a_b, q / q.norm(dim=-1, keepdim=True)], -1)
