"""One optimisation of the whole map when a place is seen again and the path to it has drifted."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from remov3r.backends.adjustment import Adjustment, AdjustmentConfig, adjust_all
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.map_reuse import Reobservation
from remov3r.backends.map_state import MapState
from remov3r.config import Config
from remov3r.geometry import inverse, rotation_angle_rad
from remov3r.types import Pose


class LoopAdjustmentConfig(Config):
    """When the window cannot take up what map reuse corrects, and what the whole map may cost then.

    Attributes:
        least_share, least_deg: the correction that is too much for the window: of the position as a share of the
            scene's depth, or of the orientation.
        rest_keyframes: between two such optimisations.
        iterations, max_observations: of each; the best observed landmarks come first.
    """

    least_share: float = Field(0.04, gt=0)
    least_deg: float = Field(2.0, gt=0)
    rest_keyframes: int = Field(10, ge=1)
    iterations: int = Field(5, ge=1)
    max_observations: int = Field(30_000, ge=1000)


def is_loop_at(
    found: list[Reobservation], T_world_cam: Pose, depth_m: float, config: LoopAdjustmentConfig
) -> bool:
    """Whether two or more older keyframes all move a keyframe farther than the window can take up.

    Args:
        T_world_cam: of the keyframe as tracked.
        depth_m: typical depth of the scene.
    """
    if len(found) < 2:
        return False
    change = inverse(T_world_cam) @ np.stack([match.T_world_cam for match in found])
    moved = np.linalg.norm(change[:, :3, 3], axis=1) > config.least_share * depth_m
    turned = np.rad2deg(rotation_angle_rad(change)) > config.least_deg
    return bool((moved | turned).all())


def adjust_loop(
    landmark_map: LandmarkMap, adjustment: AdjustmentConfig, config: LoopAdjustmentConfig
) -> Adjustment:
    """Optimise the whole map once, at a bounded cost.

    A result that tears a keyframe off its neighbours, or none at all, is rejected: everything stays as it was.
    """
    before = MapState(landmark_map)
    bounded = adjustment.model_copy(
        update={"closing_iterations": config.iterations, "max_closing_observations": config.max_observations}
    )
    results = adjust_all(landmark_map, bounded, passes=1)
    if results and results[0].accepted and not results[0].put_back:
        return results[0]
    before.restore()
    return Adjustment(False, np.nan, np.nan)
