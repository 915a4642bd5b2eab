"""Validation of poses: local transforms, whole clips, and whether predicted covariances fit the errors.

Shapes: n frames, t frames of a clip, 7 = x y z qx qy qz qw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from remov3r.config import Config
from remov3r.geometry import from_quaternion_xyzw, inverse, rotation_angle_rad
from remov3r.losses import compose, normalised_error, rotation_angle, safe_norm, tangent_error
from remov3r.models.keyframes import divergence
from remov3r.models.network import ClipOutput, Remov3rNetwork
from remov3r.training.objective import Truth, true_relative_poses

DEGREES_OF_FREEDOM = 6  # mean of eᵀΣ⁻¹e for honest covariances


class ClipErrors(Config):
    """Errors of the poses of one clip, or their means over clips.

    Attributes:
        ate_rmse_m: RMSE of the positions after rigid alignment.
        rte_rmse_m, rre_rmse_deg: RMSE of the relative translation and rotation between consecutive frames.
    """

    ate_rmse_m: float
    rte_rmse_m: float
    rre_rmse_deg: float


class CovarianceFigures(Config):
    """Whether the covariances of T_key_cam fit its errors, over the frames that are no keyframes.

    NEES is the mean normalised estimation error squared eᵀΣ⁻¹e, e = Log(T_pred⁻¹ T_true); 6 is honest, more is
    overconfident. References: Bar-Shalom, Li & Kirubarajan 2001, section 5.4.

    Attributes:
        half_frames, half_nees: of two halves of the clips, every second one each.
    """

    half_frames: tuple[int, int]
    half_nees: tuple[float, float]

    @property
    def frames(self) -> int:
        """Frames of both halves."""
        return sum(self.half_frames)

    @property
    def nees(self) -> float:
        """NEES over both halves."""
        return float(np.average(self.half_nees, weights=self.half_frames))

    @property
    def factor(self) -> float:
        """By which Σ would have to be multiplied for 6; the likelihood's best."""
        return self.nees / DEGREES_OF_FREEDOM

    @property
    def held_out_nees(self) -> float:
        """NEES of each half with Σ times the factor fitted on the other half; NaN where one has no frames."""
        if not min(self.half_frames):
            return float("nan")
        a, b = self.half_nees
        return float(np.average([a / b, b / a], weights=self.half_frames) * DEGREES_OF_FREEDOM)


class PoseFigures(Config):
    """Errors of T_key_cam over frames that are no keyframes, and of the identity in its place; medians.

    Attributes:
        clip: mean errors of the world poses T_world_key · T_key_cam, clip by clip.
        keyframe_threshold: at which the rule would fire after the wanted number of frames, in the median.
        divergence: median 1 − cos between pose embeddings, 1, 2, ... frames apart.
        covariance: None without a covariance head.
    """

    clips: int
    translation_m: float
    rotation_deg: float
    identity_translation_m: float
    identity_rotation_deg: float
    clip: ClipErrors
    keyframe_threshold: float
    divergence: tuple[float, ...]
    covariance: CovarianceFigures | None = None


@dataclass(frozen=True)
class _Clip:
    """What one clip says."""

    errors: tuple[Float[np.ndarray, " n"], ...]  # local translation, rotation; the identity's
    clip: ClipErrors
    nees: Float[np.ndarray, " n"] | None
    apart: Float[np.ndarray, " lags"]


def pose_figures(
    network: Remov3rNetwork, clips: Iterator[Truth], keyframe_interval: int
) -> PoseFigures | None:
    """Run whole clips, each window as long as the network allows; None when there is no clip.

    Args:
        clips: one each, with all poses known.
        keyframe_interval: frames after which the suggested keyframe threshold should fire.
    """
    found = [_one_clip(network, truth) for truth in clips]
    if not found:
        return None
    shortest = min(len(c.apart) for c in found)
    by_lag = np.median([c.apart[:shortest] for c in found], 0)
    medians = [float(np.median(np.concatenate(v))) for v in zip(*(c.errors for c in found))]
    return PoseFigures(
        clips=len(found),
        translation_m=medians[0],
        rotation_deg=medians[1],
        identity_translation_m=medians[2],
        identity_rotation_deg=medians[3],
        clip=_mean([c.clip for c in found]),
        keyframe_threshold=float(by_lag[min(keyframe_interval, shortest) - 1]),
        divergence=tuple(float(v) for v in by_lag),
        covariance=covariance_figures([c.nees for c in found if c.nees is not None]),
    )


def covariance_figures(nees: list[np.ndarray]) -> CovarianceFigures | None:
    """Judge covariances by the normalised errors squared of clips' frames; None when there are none."""
    halves = [np.concatenate([*nees[first::2], np.empty(0)]) for first in (0, 1)]
    if not sum(map(len, halves)):
        return None
    first, second = (float(half.mean()) if len(half) else 0.0 for half in halves)
    return CovarianceFigures(half_frames=(len(halves[0]), len(halves[1])), half_nees=(first, second))


def pooled_covariance(figures: list[CovarianceFigures]) -> CovarianceFigures | None:
    """Put the figures of several sets together, each frame weighing the same; None when there are none."""
    if not figures:
        return None
    frames = np.array([f.half_frames for f in figures])
    sums = (frames * [f.half_nees for f in figures]).sum(0)
    first, second = (int(n) for n in frames.sum(0))
    return CovarianceFigures(
        half_frames=(first, second),
        half_nees=(float(sums[0]) / max(first, 1), float(sums[1]) / max(second, 1)),
    )


def _one_clip(network: Remov3rNetwork, truth: Truth) -> _Clip:
    frame = torch.arange(truth.keyframe_index.shape[1], device=truth.keyframe_index.device)
    longest = network.config.keyframes.max_window
    truth = replace(truth, keyframe_index=(frame // longest * longest)[None])
    output: ClipOutput = network(truth.image, truth.K, truth.keyframe_index)
    local, _, _ = true_relative_poses(truth)
    free = frame != truth.keyframe_index[0]
    T, T_truth = output.T_key_cam[0][free], local[0][free]
    identity = torch.zeros_like(T)
    identity[:, 6] = 1
    errors = (*pose_errors(T, T_truth), *pose_errors(identity, T_truth))
    nees = None
    if output.local_cholesky is not None:
        e = normalised_error(tangent_error(T, T_truth), output.local_cholesky[0][free])
        nees = e.square().sum(-1).cpu().numpy()
    T_world_cam = compose(output.T_world_key, output.T_key_cam)[0].double().cpu().numpy()
    later = output.pose_embedding[0, 1:]
    return _Clip(
        tuple(e.cpu().numpy() for e in errors),
        clip_errors(
            from_quaternion_xyzw(T_world_cam[:, :3], T_world_cam[:, 3:]),
            truth.T_world_cam[0].double().cpu().numpy(),
        ),
        nees,
        divergence(later, output.pose_embedding[0, :1].expand_as(later)).cpu().numpy(),
    )


def _mean(clips: list[ClipErrors]) -> ClipErrors:
    return ClipErrors(
        **{name: float(np.mean([getattr(c, name) for c in clips])) for name in ClipErrors.model_fields}
    )


def pose_errors(
    T: Float[Tensor, "n 7"], T_truth: Float[Tensor, "n 7"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return translation errors in metres and rotation errors in degrees."""
    return safe_norm(T[:, :3] - T_truth[:, :3]), torch.rad2deg(rotation_angle(T[:, 3:], T_truth[:, 3:]))


def clip_errors(T: Float[np.ndarray, "t 4 4"], T_truth: Float[np.ndarray, "t 4 4"]) -> ClipErrors:
    """Compare the poses of a clip of at least two frames with the truth, each in a world of its own.

    The same as evo's errors where the positions fix the alignment; on a straight line, where evo refuses, every
    best alignment leaves the same error.

    References: Sturm et al. 2012; Umeyama 1991.
    """
    a, b = T[:, :3, 3] - T[:, :3, 3].mean(0), T_truth[:, :3, 3] - T_truth[:, :3, 3].mean(0)
    U, _, Vt = np.linalg.svd(b.T @ a)
    R = (U * [1, 1, np.sign(np.linalg.det(U @ Vt))]) @ Vt
    relative = inverse(inverse(T_truth[:-1]) @ T_truth[1:]) @ (inverse(T[:-1]) @ T[1:])
    return ClipErrors(
        ate_rmse_m=_rms(np.linalg.norm(a @ R.T - b, axis=1)),
        rte_rmse_m=_rms(np.linalg.norm(relative[:, :3, 3], axis=1)),
        rre_rmse_deg=_rms(np.degrees(rotation_angle_rad(relative))),
    )


def _rms(values: Float[np.ndarray, " n"]) -> float:
    return float(np.sqrt(np.square(values).mean()))
