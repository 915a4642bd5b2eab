"""Drift of scale: where pixels hardly hold two parts of the map at one scale, the front end's depth is asked.

In a fast turn few landmarks are seen twice from places far enough apart, so the parts before and after it may end
up at different scales. Each way from a keyframe to the next gets a log factor g. Neighbouring ways should grow
alike, as much as landmarks seen along both tie their scales together at the keyframe between; and factors should
make the front end's depth right: reading + mean of the ways before and after = 0 for each keyframe, by Huber's
loss. That is a chain, solved as a banded system.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.linalg import solveh_banded

from remov3r.backends.keyframe_links import length_readings
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.map_scale import ScaleConfig, depth_readings, time_shares
from remov3r.backends.pose_solver import projection_jacobian
from remov3r.backends.robust_means import STEPS, huber_shares, spread_of
from remov3r.config import Config

Ways = Float[np.ndarray, " ways"]  # one fewer than keyframes


class ScaleDriftConfig(Config):
    """When and how far the map is bent.

    Attributes:
        sure_sigma: a landmark whose log depth the pixels of one side know no better hardly ties the two together.
        largest_step_sigma: how far scale may jump where nothing ties; depth of neighbouring keyframes errs alike.
        readings_alike: so many neighbouring keyframes' depths count as one.
        least_drift: largest minus smallest log factor; below, the map stays as it is.
    """

    enabled: bool = True
    sure_sigma: float = Field(0.1, gt=0)
    largest_step_sigma: float = Field(0.3, gt=0)
    readings_alike: float = Field(3.0, ge=1)
    least_drift: float = Field(0.01, ge=0)


def scale_drift(
    landmark_map: LandmarkMap, scale: ScaleConfig, sigma_px: float, config: ScaleDriftConfig
) -> Ways | None:
    """Return the log factors that the ways between keyframes should grow by; None where there is no drift to tell.

    There is none where the front end is sure of such ways itself: these hold the scale.

    Args:
        sigma_px: of a landmark's pixel, at a width of 640.
    """
    if not config.enabled:
        return None
    readings = depth_readings(landmark_map)
    if (readings[:, 1] > 0).sum() < 3 or len(length_readings(landmark_map, scale.covariance_factor)):
        return None
    weight = readings[:, 1] * time_shares(landmark_map) / config.readings_alike
    ties = joint_information(landmark_map, sigma_px, config.sure_sigma) / scale.covariance_factor
    factors = _solve(readings[:, 0], weight, ties + 1 / config.largest_step_sigma**2)
    return factors if np.ptp(factors) >= config.least_drift else None


def joint_information(
    landmark_map: LandmarkMap, sigma_px: float, sure_sigma: float
) -> Float[np.ndarray, " joints"]:
    """Return how well landmarks tell the relative log scale of the ways before and after each inner keyframe.

    A landmark's observations up to a keyframe and from it on tell its log depth, as seen from there, with
    informations a and b: the pixels it would move by. Together they tell the relative scale with i = ab / (a + b),
    of which i / (i + 1/sure_sigma²) counts: poses come from the same pixels, so small parallax is no parallax.
    """
    count = len(landmark_map.keyframes)
    rows = np.flatnonzero(landmark_map.obs_good)
    rows = rows[np.lexsort((landmark_map.obs_keyframe[rows], landmark_map.obs_landmark[rows]))]
    place, landmark = landmark_map.obs_keyframe[rows], landmark_map.obs_landmark[rows]
    first, end = (np.searchsorted(landmark, landmark, side=s) for s in ("left", "right"))
    T = landmark_map.poses[place]
    ray = landmark_map.points[landmark] - T[:, :3, 3]
    J = projection_jacobian(np.einsum("nji,nj->ni", T[:, :3, :3], ray), landmark_map.camera)
    J = J @ T[:, :3, :3].transpose(0, 2, 1) / (sigma_px * max(landmark_map.camera.width / 640, 0.4))
    so_far = np.concatenate([np.zeros((1, 3, 3)), np.cumsum(J.transpose(0, 2, 1) @ J, axis=0)])
    before = _along(so_far[1:] - so_far[first], ray)
    after = _along(so_far[end] - so_far[:-1], ray)
    gap = np.flatnonzero(landmark[1:] == landmark[:-1])  # from an observation to the landmark's next
    unseen = _tie(before[gap], after[gap + 1], sure_sigma)
    change = np.bincount(place[gap] + 1, unseen, count) - np.bincount(place[gap + 1], unseen, count)
    seen = np.bincount(place, _tie(before, after, sure_sigma), count)
    return np.maximum(seen + np.cumsum(change), 0)[1:-1]


def stretch(landmark_map: LandmarkMap, log_factors: Ways) -> None:
    """Multiply the ways between keyframes, each with what is first seen at its start."""
    centre, factors = landmark_map.poses[:, :3, 3].copy(), np.exp(log_factors)
    ways = np.diff(centre, axis=0) * factors[:, None]
    moved = np.concatenate([centre[:1], centre[0] + np.cumsum(ways, axis=0)])
    anchor, of_anchor = landmark_map.anchor, np.append(factors, factors[-1])
    landmark_map.points[:] = moved[anchor] + of_anchor[anchor, None] * (landmark_map.points - centre[anchor])
    for place, (keyframe, added) in enumerate(
        zip(landmark_map.keyframes, _at_keyframes(log_factors).tolist())
    ):
        T = keyframe.T_world_cam.copy()
        T[:3, 3] = moved[place]
        keyframe.T_world_cam = T
        keyframe.log_scale += added
        if keyframe.scale_reading is not None:
            keyframe.scale_reading = keyframe.scale_reading[0] + added, keyframe.scale_reading[1]
        if keyframe.link is not None:
            keyframe.link = keyframe.link.rescaled(float(factors[place - 1]))


def _at_keyframes(ways: Ways) -> Float[np.ndarray, " k"]:
    """Mean of the ways before and after each keyframe."""
    return (np.append(ways[0], ways) + np.append(ways, ways[-1])) / 2


def _along(information: Float[np.ndarray, "n 3 3"], ray: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    return np.maximum(np.einsum("ni,nij,nj->n", ray, information, ray), 0)


def _tie(
    a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], sure_sigma: float
) -> Float[np.ndarray, " n"]:
    both = a * b / np.maximum(a + b, 1e-12)
    return np.asarray(both**2 / (both + 1 / sure_sigma**2))


def _solve(
    reading: Float[np.ndarray, " k"], weight: Float[np.ndarray, " k"], ties: Float[np.ndarray, " joints"]
) -> Ways:
    """Minimise Huber's loss of the readings plus factors, and the ties' squares, by reweighting."""
    count, there = len(reading) - 1, weight > 0
    start, end = np.full(count, 0.5), np.full(count, 0.5)  # a way's share in the keyframes at its ends
    start[0] = end[-1] = 1.0
    bands, factors, shares = np.zeros((2, count)), np.zeros(count), np.ones(count + 1)
    for _ in range(STEPS):
        w = weight * shares
        bands[1] = w[:-1] * start**2 + w[1:] * end**2
        bands[1, :-1] += ties
        bands[1, 1:] += ties
        bands[0, 1:] = w[1:-1] / 4 - ties
        factors = solveh_banded(bands, -(w * reading)[:-1] * start - (w * reading)[1:] * end)
        off = np.abs(reading + _at_keyframes(factors))
        spread = spread_of(off[there], weight[there])
        if spread <= 0:
            break
        shares = huber_shares(off, spread)
    return np.asarray(factors)
