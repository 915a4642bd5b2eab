"""A map to relocalise in: landmarks of keyframes, whichever backend placed these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from remov3r.backends.landmark_map import LandmarkMap
from remov3r.camera import Camera
from remov3r.geometry import transform
from remov3r.types import Pose


@runtime_checkable
class MapKeeper(Protocol):
    """A backend that remembers what its keyframes saw."""

    def landmark_map(self) -> LandmarkMap | None:
        """Return the landmarks and keyframes in the world as optimised last; None where there are none."""
        ...


def map_of_views(
    camera: Camera,
    views: Mapping[str, Shaped[np.ndarray, "..."]],
    T_world_key: Mapping[int, Pose],
    scales: Mapping[int, float],
) -> LandmarkMap:
    """Make a map of what loop closure keeps of keyframes: each feature with depth is a landmark.

    Args:
        views: from `LoopCloser.state`.
        T_world_key: by frame index; keyframes without a pose are left out.
        scales: by frame index, what turns a keyframe's depth into metres.
    """
    out = LandmarkMap(camera)
    ends = np.cumsum(views["features"])
    focal, centre = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
    for n, index in enumerate(views["keyframe_index"].tolist()):
        rows = np.arange(ends[n] - views["features"][n], ends[n])
        rows = rows[np.isfinite(views["depth_m"][rows])]
        if index not in T_world_key or len(rows) == 0:
            continue
        pixels = views["pixels"][rows].astype(np.float64)
        depth_m, sigma_m = (views[k][rows] * np.float64(scales[index]) for k in ("depth_m", "sigma_m"))
        rays = np.concatenate([(pixels - centre) / focal, np.ones((len(rows), 1))], 1)
        points = transform(T_world_key[index], rays * depth_m[:, None])
        landmarks = out.add_landmarks(points, len(out.keyframes), sigma_m / depth_m)
        out.add_keyframe(
            index, T_world_key[index], landmarks, pixels, depth_m, sigma_m, views["descriptors"][rows],
            views["thumbnail"][n].astype(np.float64), float(views["scale_sigma"][n]), 0,
        )  # fmt: skip
    return out
