"""Multi-view check of keyframe depth: what other keyframes see through is masked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from remov3r.config import Config
from remov3r.errors import ShapeError
from remov3r.geometry import inverse, pixel_rays
from remov3r.types import DensePrediction, Pose


class ConsistencyConfig(Config):
    """When two depth maps contradict each other.

    Attributes:
        neighbours: keyframes that each one is compared with.
        sigmas: difference allowed in units of the combined sigma ...
        min_relative, max_relative: ... but at least and at most these fractions of the depth.
        max_angle_rad: keyframes that look apart by more are no neighbours.
        max_distance_m: keyframes that are farther apart are no neighbours.
        masked_from: contradictions from which a pixel is masked; fewer only raise its sigma.
    """

    neighbours: NonNegativeInt = 6
    sigmas: PositiveFloat = 2.0
    min_relative: PositiveFloat = 0.05
    max_relative: PositiveFloat = 0.15
    max_angle_rad: PositiveFloat = 0.9
    max_distance_m: PositiveFloat = 1.5
    masked_from: PositiveInt = 2


@dataclass(frozen=True)
class Agreement:
    """What one keyframe says of another's pixels; false everywhere it cannot tell."""

    supported: Bool[np.ndarray, "h w"]
    seen_through: Bool[np.ndarray, "h w"]
    hidden: Bool[np.ndarray, "h w"]


def consistent(
    predictions: Sequence[DensePrediction],
    T_world_cam: Float[np.ndarray, "n 4 4"],
    config: ConsistencyConfig | None = None,
) -> tuple[DensePrediction, ...]:
    """Mask pixels that neighbouring keyframes contradict, and double the sigma of doubtful ones.

    A pixel is contradicted by a keyframe that sees through it (measures a surface clearly behind it). Being
    hidden behind a surface is usually honest; it counts only when no keyframe supports the pixel, and then
    one contradiction more is asked for.

    Args:
        T_world_cam: one pose for each prediction.
    Returns:
        the predictions, in order; masked pixels have depth 0, confidence 0 and infinite sigma.
    Raises:
        ShapeError: there are not as many poses as predictions.
    """
    config = config or ConsistencyConfig()
    if len(predictions) != len(T_world_cam):
        raise ShapeError(f"{len(predictions)} predictions with {len(T_world_cam)} poses")
    out = []
    for i, dense in enumerate(predictions):
        others = [
            compare(dense, T_world_cam[i], predictions[j], T_world_cam[j], config)
            for j in neighbours(i, T_world_cam, config)
        ]
        supported = _count([a.supported for a in others], dense)
        through = _count([a.seen_through for a in others], dense)
        hidden = _count([a.hidden for a in others], dense)
        masked = (through >= config.masked_from) & (through > supported)
        masked |= (supported == 0) & (through + hidden > config.masked_from)
        out.append(_without(dense, masked, doubtful=~masked & (through > 0) & (through >= supported)))
    return tuple(out)


def neighbours(
    index: int, T_world_cam: Float[np.ndarray, "n 4 4"], config: ConsistencyConfig
) -> Int[np.ndarray, " k"]:
    """Pick the keyframes nearest to one among those that look in about the same direction."""
    distance = np.linalg.norm(T_world_cam[:, :3, 3] - T_world_cam[index, :3, 3], axis=1)
    cosine = T_world_cam[:, :3, 2] @ T_world_cam[index, :3, 2]
    allowed = (cosine > np.cos(config.max_angle_rad)) & (distance < config.max_distance_m)
    allowed[index] = False
    order = np.argsort(distance, kind="stable")
    return order[allowed[order]][: config.neighbours]


def compare(
    dense: DensePrediction,
    T_world_cam: Pose,
    other: DensePrediction,
    T_world_other: Pose,
    config: ConsistencyConfig,
) -> Agreement:
    """Reproject one keyframe's depth into another and compare it with what that one measured."""
    T_other_cam = inverse(T_world_other) @ T_world_cam
    points = (pixel_rays(dense.camera) * dense.depth_m[..., None]) @ T_other_cam[:3, :3].T + T_other_cam[
        :3, 3
    ]
    z = points[..., 2]
    camera = other.camera
    front = (dense.depth_m > 0) & (z > 0.05)
    safe = np.where(front, z, 1.0)
    u = np.rint(camera.fx * points[..., 0] / safe + camera.cx)
    v = np.rint(camera.fy * points[..., 1] / safe + camera.cy)
    known = front & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    row, column = np.where(known, v, 0).astype(np.int64), np.where(known, u, 0).astype(np.int64)
    measured = other.depth_m[row, column]
    known &= measured > 0
    sigma = np.hypot(dense.sigma_m, other.sigma_m[row, column])
    allowed = np.clip(config.sigmas * sigma, config.min_relative * safe, config.max_relative * safe)
    difference = z - measured
    return Agreement(
        known & (np.abs(difference) <= allowed),
        known & (difference < -allowed),
        known & (difference > allowed),
    )


def _count(masks: list[Bool[np.ndarray, "h w"]], dense: DensePrediction) -> Int[np.ndarray, "h w"]:
    return np.sum(masks, axis=0) if masks else np.zeros(dense.depth_m.shape, dtype=np.int64)


def _without(
    dense: DensePrediction, masked: Bool[np.ndarray, "h w"], doubtful: Bool[np.ndarray, "h w"]
) -> DensePrediction:
    zero = np.zeros((), dtype=dense.depth_m.dtype)
    sigma = np.where(doubtful, 2 * dense.sigma_m, dense.sigma_m)
    return replace(
        dense,
        depth_m=np.where(masked, zero, dense.depth_m),
        depth_confidence=np.where(masked, zero, dense.depth_confidence),
        points_cam=np.where(masked[..., None], zero, dense.points_cam),
        points_confidence=np.where(masked, zero, dense.points_confidence),
        sigma_m=np.where(masked, np.inf, sigma).astype(dense.sigma_m.dtype),
    )
