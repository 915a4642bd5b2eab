"""Find landmarks of older keyframes again: to bound drift in a revisited room, and to recover lost tracking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8
from pydantic import Field

from remov3r.backends.features import Descriptors, Gray, match_descriptors
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.pose_solver import (
    PoseSolverConfig,
    ransac_pose,
    refine_pose,
    reproject,
    reprojection_error,
)
from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.geometry import inverse, rotation_angle_rad
from remov3r.types import Pose

Ids = Int[np.ndarray, " n"]
Pixels = Float[np.ndarray, "n 2"]


class MapReuseConfig(Config):
    """Matching to older keyframes; distances in metres are multiplied by the scene's depth over 2 m."""

    enabled: bool = True
    candidates: int = Field(4, ge=1)
    max_distance_m: float = Field(1.2, gt=0)
    max_angle_deg: float = Field(40.0, gt=0)
    search_px: float = Field(60.0, gt=0)
    descriptor_distance: float = Field(300.0, gt=0)
    min_inliers: int = Field(20, ge=6)
    max_correction_m: float = Field(0.6, gt=0)
    max_correction_deg: float = Field(15.0, gt=0)
    inlier_px: float = Field(4.0, gt=0)
    relocalisation_candidates: int = Field(6, ge=1)
    relocalisation_inliers: int = Field(25, ge=6)


@dataclass(frozen=True)
class Reobservation:
    """Old landmarks found again.

    Attributes:
        rows: which of the features that were searched.
        landmarks: the landmark that each of these is.
        T_world_cam: the pose that they agree on.
        place: the keyframe they were found through.
    """

    rows: Ids
    landmarks: Ids
    T_world_cam: Pose
    place: int


def thumbnail(gray: Gray) -> Float[np.ndarray, " t"]:
    """Return a tiny image of zero mean and unit length (zeros for a blank one)."""
    small = cv2.GaussianBlur(cv2.resize(gray, (32, 24), interpolation=cv2.INTER_AREA), (5, 5), 0)
    values = small.astype(np.float64).ravel() - small.mean()
    norm = float(np.linalg.norm(values))
    return values / norm if norm > 1e-6 else values * 0


def covisible_keyframes(
    landmark_map: LandmarkMap,
    T_world_cam: Pose,
    skip: set[int],
    submap: int,
    depth_m: float,
    config: MapReuseConfig,
) -> list[int]:
    """Return the older keyframes that look at the same place, best first."""
    places = [i for i, k in enumerate(landmark_map.keyframes) if i not in skip and k.submap == submap]
    if not places:
        return []
    T = landmark_map.poses[places]
    distance = np.linalg.norm(T[:, :3, 3] - T_world_cam[:3, 3], axis=1) / max(depth_m / 2, 0.1)
    cosine = T[:, :3, 2] @ T_world_cam[:3, 2]
    near = (distance < config.max_distance_m) & (cosine > np.cos(np.deg2rad(config.max_angle_deg)))
    cost = distance / config.max_distance_m + np.arccos(np.clip(cosine, -1, 1)) / np.deg2rad(
        config.max_angle_deg
    )
    order = np.argsort(cost, kind="stable")
    return [places[i] for i in order if near[i]][: config.candidates]


def reobserve(
    landmark_map: LandmarkMap,
    place: int,
    T_world_cam: Pose,
    pixels: Pixels,
    descriptors: Descriptors,
    depth_m: float,
    config: MapReuseConfig,
    pose_config: PoseSolverConfig,
) -> Reobservation | None:
    """Match the features of a new keyframe to the landmarks of an older one, near where they should be.

    Args:
        T_world_cam: of the new keyframe, as tracked; may have drifted.
        depth_m: typical depth of the scene.
    """
    rows, landmarks = _features_of(landmark_map, place)
    expected, P = reproject(T_world_cam, landmark_map.points[landmarks], landmark_map.camera)
    radius = config.search_px * landmark_map.camera.width / 640
    off = [np.subtract.outer(pixels[:, i], expected[:, i]) for i in (0, 1)]
    stored = landmark_map.keyframes[place].descriptors[rows]
    allowed = (off[0] ** 2 + off[1] ** 2 < radius**2) & (P[:, 2] > 0)
    a, b = match_descriptors(descriptors, stored, allowed, config.descriptor_distance)
    found = _verified(
        landmark_map, landmarks[b], pixels[a], [T_world_cam], config.min_inliers, config, pose_config
    )
    if found is None:
        return None
    T, inliers = found
    change = inverse(T_world_cam) @ T
    moved = float(np.linalg.norm(change[:3, 3])) / max(depth_m / 2, 0.1)
    turned = float(np.rad2deg(rotation_angle_rad(change)))
    if moved > config.max_correction_m or turned > config.max_correction_deg:
        return None
    return Reobservation(a[inliers], landmarks[b][inliers], T, place)


def relocalise(
    landmark_map: LandmarkMap,
    places: list[int],
    small: UInt8[np.ndarray, " t"] | Float[np.ndarray, " t"],
    pixels: Pixels,
    descriptors: Descriptors,
    config: MapReuseConfig,
    pose_config: PoseSolverConfig,
) -> Reobservation | None:
    """Find the pose of a frame from nothing but its looks.

    Args:
        places: keyframes that may be considered; those that look most alike, and the latest two, are tried.
        small: the frame's thumbnail.
    """
    if not places or len(pixels) < config.relocalisation_inliers:
        return None
    alike = np.array([landmark_map.keyframes[p].thumbnail @ small for p in places])
    order = [places[i] for i in np.argsort(-alike, kind="stable")[: config.relocalisation_candidates]]
    best: Reobservation | None = None
    for place in dict.fromkeys([*places[:-3:-1], *order]):
        rows, landmarks = _features_of(landmark_map, place)
        stored = landmark_map.keyframes[place].descriptors[rows]
        a, b = match_descriptors(descriptors, stored, None, config.descriptor_distance)
        found = _verified(
            landmark_map, landmarks[b], pixels[a], [], config.relocalisation_inliers, config, pose_config
        )
        if found is not None and (best is None or found[1].sum() > len(best.rows)):
            best = Reobservation(a[found[1]], landmarks[b][found[1]], found[0], place)
    return best


def _features_of(landmark_map: LandmarkMap, place: int) -> tuple[Ids, Ids]:
    """Return the good features of a keyframe: rows in its descriptors, and their landmarks."""
    span = landmark_map.keyframes[place].observations
    good = np.flatnonzero(landmark_map.obs_good[span])
    return good, landmark_map.obs_landmark[span][good]


def _verified(
    landmark_map: LandmarkMap,
    landmarks: Ids,
    pixels: Pixels,
    guesses: list[Pose],
    min_inliers: int,
    config: MapReuseConfig,
    pose_config: PoseSolverConfig,
) -> tuple[Pose, np.ndarray] | None:
    """Return a pose that enough matches agree with, and which, or None."""
    if len(landmarks) < min_inliers:
        return None
    points, camera = landmark_map.points[landmarks], landmark_map.camera
    limit = config.inlier_px * max(camera.width / 640, 0.5)
    best: tuple[Pose, np.ndarray] | None = None
    for guess in chain(guesses, _by_ransac(points, pixels, camera, 1.5 * limit, pose_config)):
        inliers = reprojection_error(guess, points, pixels, camera) < 3 * limit
        if inliers.sum() < min_inliers:
            continue
        spread = landmark_map.spread(landmarks[inliers])
        refined, _ = refine_pose(guess, points[inliers], spread, pixels[inliers], camera, pose_config, 1e-3)
        inliers = reprojection_error(refined, points, pixels, camera) < limit
        wide = np.ptp(pixels[inliers], axis=0).min() if inliers.any() else 0.0
        if inliers.sum() < min_inliers or wide < 0.1 * camera.width:
            continue
        if best is None or inliers.sum() > best[1].sum():
            best = (refined, inliers)
            if inliers.mean() >= pose_config.trusted_inlier_ratio:
                break
    return best


def _by_ransac(
    points: Float[np.ndarray, "n 3"],
    pixels: Pixels,
    camera: Camera,
    limit_px: float,
    config: PoseSolverConfig,
) -> Iterator[Pose]:
    """The pose that RANSAC finds, if any; looked for only when it is asked for."""
    T = ransac_pose(points, pixels, camera, limit_px, config.ransac_iterations)
    if T is not None:
        yield T
