"""Links: the tracked motion between neighbouring keyframes, which holds those that their landmarks do not."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from remov3r.backends.bundle_terms import Links, link_error
from remov3r.backends.landmark_map import KeyframeLink, LandmarkMap
from remov3r.config import Config
from remov3r.geometry import inverse
from remov3r.types import Covariance, Pose

LONGEST_NOISE = 0.2  # of a motion, as a share of it, where its length still tells the map's scale


class LinkConfig(Config):
    """How far the tracked motion between keyframes is trusted, and when a keyframe has left it.

    Attributes:
        inflation: of the measured sigmas: the bundle sees the same pixels, so a link must not count again.
        rotation_floor_rad, depth_share, motion_share: least sigmas; of the translation, as shares of the
            scene's depth and of the motion itself (landmarks not yet triangulated have a wrong scale).
        reject: how many of these sigmas a keyframe may be off.
        longest_run: keyframes in a row that may have left together; more of them are right and the link wrong.
    """

    inflation: float = Field(5.0, ge=1)
    rotation_floor_rad: float = Field(0.004, gt=0)
    depth_share: float = Field(0.005, gt=0)
    motion_share: float = Field(0.1, gt=0)
    reject: float = Field(6.0, gt=0)
    longest_run: int = Field(3, ge=1)


def measured_link(
    T_before_this: Pose, covariance: Covariance, depth_m: float, config: LinkConfig
) -> KeyframeLink:
    """Loosen a tracked motion so that it only counts where landmarks do not.

    Args:
        covariance: of the tracked pose, rotation first, in the camera's frame.
        depth_m: typical depth of the scene.
    """
    motion_m = float(np.linalg.norm(T_before_this[:3, 3]))
    floor_m = np.hypot(config.depth_share * depth_m, config.motion_share * motion_m)
    floor = np.repeat([config.rotation_floor_rad, floor_m], 3)
    return KeyframeLink(T_before_this, config.inflation**2 * covariance + np.diag(floor**2))


def links_between(landmark_map: LandmarkMap, places: Int[np.ndarray, " k"]) -> Links | None:
    """Return the links among some keyframes (in order); None where there are none."""
    keyframes = landmark_map.keyframes
    found = [
        (i, link)
        for i, (before, place) in enumerate(zip(places[:-1].tolist(), places[1:].tolist()))
        if place == before + 1 and (link := keyframes[place].link) is not None
    ]
    if not found:
        return None
    first = np.array([i for i, _ in found])
    return Links(
        first,
        first + 1,
        np.stack([link.T_before_this for _, link in found]),
        np.linalg.inv(np.stack([link.covariance for _, link in found])),
    )


def length_readings(landmark_map: LandmarkMap, covariance_factor: float) -> Float[np.ndarray, "n 2"]:
    """Return log(length in the map / length that the front end said) of the links that it said, and its weight.

    Args:
        covariance_factor: by which the links' covariances were lowered.
    """
    keyframes = landmark_map.keyframes
    there = [i for i, k in enumerate(keyframes) if k.link is not None and k.link.metric]
    if not there:
        return np.empty((0, 2))
    links = [link for i in there if (link := keyframes[i].link) is not None]
    said = np.stack([link.T_before_this[:3, 3] for link in links])
    covariance = covariance_factor * np.stack([link.covariance[3:, 3:] for link in links])
    length = np.maximum(np.linalg.norm(said, axis=1), 1e-9)
    variance = np.einsum("ni,nij,nj->n", said, covariance, said) / length**4
    centres = landmark_map.poses[:, :3, 3]
    now = np.linalg.norm(centres[there] - centres[np.array(there) - 1], axis=1)
    clear = (variance < LONGEST_NOISE**2) & (now > 1e-9)  # noise makes short ways longer
    return np.stack([np.log(now[clear] / length[clear]), 1 / variance[clear]], 1)


def link_sigmas(landmark_map: LandmarkMap, config: LinkConfig) -> Float[np.ndarray, " k"]:
    """Return how many sigmas each keyframe lies off its link, none below the least of tracking; 0 without a link."""
    out = np.zeros(len(landmark_map.keyframes))
    links = links_between(landmark_map, np.arange(len(out)))
    if links is not None:
        T = landmark_map.poses
        error = link_error(inverse(T[links.first]) @ T[links.second], links.T_first_second)
        covariance = np.linalg.inv(links.information)
        # Depth makes links far tighter than what tells a keyframe that has flown from one that was corrected.
        away = landmark_map.points - T[landmark_map.anchor, :3, 3]
        depth_m = float(np.median(np.linalg.norm(away, axis=1))) if len(away) else 0.0
        least = np.repeat([config.rotation_floor_rad, config.depth_share * depth_m], 3) ** 2
        diagonal = np.arange(6)
        short = np.maximum(least - covariance[:, diagonal, diagonal], 0)
        covariance[:, diagonal, diagonal] += short
        out[links.second] = np.sqrt(np.einsum("ni,nij,nj->n", error, np.linalg.inv(covariance), error))
    return out


def hold_flown(landmark_map: LandmarkMap, free: list[int], config: LinkConfig) -> list[int]:
    """Put back keyframes that an optimisation has moved away from both their neighbours.

    Args:
        free: places of the keyframes that were optimised, in order.
    Returns:
        places of those that were put back, where tracking had seen them.
    """
    flagged = np.flatnonzero(link_sigmas(landmark_map, config) > config.reject)
    put_back: list[int] = []
    count, near = len(landmark_map.keyframes), config.longest_run
    for before, start, end in zip(
        [-count, *flagged.tolist()], flagged.tolist(), [*flagged[1:].tolist(), count]
    ):
        run = range(start, end)
        from_run = start - 1 in put_back or (end == count and start - before <= near)
        if from_run:  # the link from a run that was put back, or might have been
            continue
        if len(run) > config.longest_run or not set(run) <= set(free):
            continue
        for place in run:
            keyframe = landmark_map.keyframes[place]
            if keyframe.link is None:
                break
            neighbour = landmark_map.keyframes[place - 1]
            keyframe.T_world_cam = neighbour.T_world_cam @ keyframe.link.T_before_this
            put_back.append(place)
    return put_back
