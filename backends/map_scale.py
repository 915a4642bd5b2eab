"""The map's unit of length: what each keyframe's depth says of it, and the one that they agree on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from remov3r.backends.keyframe_links import length_readings
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.robust_means import huber_mean, weighted_median
from remov3r.config import Config

Ids = Int[np.ndarray, " n"]
LEAST_LANDMARKS = 8  # for a reading


class ScaleConfig(Config):
    """How far the front end's depth is trusted.

    Attributes:
        depth_sigma_factor, depth_sigma_floor: from the front end's relative sigma of a pixel to the one assumed.
        covariance_factor: pixels of one track, and of neighbours, err alike, so that what the bundle makes of them
            is this many times too sure of itself (in variance).
    """

    depth_sigma_factor: float = Field(3.0, gt=0)
    depth_sigma_floor: float = Field(0.01, gt=0)
    covariance_factor: float = Field(12.0, ge=1)


def update_log_scale(landmark_map: LandmarkMap, place: int, config: ScaleConfig) -> None:
    """Solve a keyframe's log-scale from the landmarks it sees: weighted median, shrunk towards 0 by its prior."""
    keyframe = landmark_map.keyframes[place]
    ratio, weight = _log_ratios(landmark_map, place, config)
    if len(ratio) < LEAST_LANDMARKS:
        return
    information, middle = float(weight.sum()), weighted_median(ratio, weight)
    keyframe.scale_reading = middle, 1 / (keyframe.scale_sigma**2 + 1 / information)
    keyframe.log_scale = middle * information / (information + 1 / keyframe.scale_sigma**2)


def settle_scale(landmark_map: LandmarkMap, config: ScaleConfig, last: int | None = None) -> float:
    """Rescale the whole map so that the front end's depths, and the ways that it is sure of, are right on average.

    On the way that is their median, which few new readings hardly move; at the end Huber's mean, which is sharper,
    with each keyframe's depth counting for the time that it stands for: a fast turn has many keyframes that see
    little.

    Args:
        last: so many keyframes are read again, the others count as they were read last; None for all, at the end.

    Returns:
        the factor that was applied.
    """
    count = len(landmark_map.keyframes)
    for place in range(0 if last is None else max(count - last, 0), count):
        update_log_scale(landmark_map, place, config)
    of_depths = depth_readings(landmark_map)
    if last is None:
        of_depths[:, 1] *= time_shares(landmark_map)
    readings = np.concatenate([of_depths, length_readings(landmark_map, config.covariance_factor)])
    readings = readings[readings[:, 1] > 0]
    if len(readings) == 0:
        return 1.0
    middle = huber_mean if last is None else weighted_median
    factor = float(np.exp(-middle(readings[:, 0], readings[:, 1])))
    landmark_map.rescale(factor)
    return factor


def depth_readings(landmark_map: LandmarkMap) -> Float[np.ndarray, "k 2"]:
    """Return each keyframe's log(landmark depth / front-end depth) as read last, and its weight; 0, 0 = none."""
    readings = [k.scale_reading or (0.0, 0.0) for k in landmark_map.keyframes]
    return np.reshape(np.array(readings, float), (-1, 2))


def time_shares(landmark_map: LandmarkMap) -> Float[np.ndarray, " k"]:
    """Return how long a time each keyframe stands for: half way to its neighbours, over the mean of all."""
    frames = np.array([k.frame_index for k in landmark_map.keyframes], float)
    if len(frames) < 2:
        return np.ones(len(frames))
    gaps = np.diff(frames)
    shares = (np.append(gaps[0], gaps) + np.append(gaps, gaps[-1])) / 2
    return np.asarray(shares / shares.mean())


def relative_sigma(landmark_map: LandmarkMap, rows: Ids, config: ScaleConfig) -> Float[np.ndarray, " n"]:
    """Return the relative standard deviation that is assumed of the front end's depth in some observations."""
    with np.errstate(invalid="ignore"):
        relative = landmark_map.obs_depth_sigma_m[rows] / landmark_map.obs_depth_m[rows]
    return np.hypot(relative * config.depth_sigma_factor, config.depth_sigma_floor)


def _log_ratios(
    landmark_map: LandmarkMap, place: int, config: ScaleConfig
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return log(landmark depth / front-end depth) over what a keyframe sees, and the weights of these."""
    rows = landmark_map.rows_of_keyframes([place])
    rows = rows[np.isfinite(landmark_map.obs_depth_m[rows])]
    landmarks = landmark_map.obs_landmark[rows]
    T = landmark_map.keyframes[place].T_world_cam
    z = (landmark_map.points[landmarks] - T[:3, 3]) @ T[:3, 2]
    own = relative_sigma(landmark_map, rows, config)
    # A landmark that still rests on this very depth says nothing about its scale.
    triangulated = landmark_map.sigma_log[landmarks] < 0.5 * np.maximum(own, 0.02)
    keep = (z > 1e-3) & triangulated
    ratio = np.log(z[keep] / landmark_map.obs_depth_m[rows][keep])
    return ratio, 1 / (own[keep] ** 2 + landmark_map.sigma_log[landmarks][keep] ** 2)
