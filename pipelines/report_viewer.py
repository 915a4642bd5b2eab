"""A point cloud and camera paths that can be turned, in a canvas, without any library."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib import resources

import numpy as np
from jaxtyping import Float

MAX_POINTS = 40_000


def viewer_html(
    points_m: Float[np.ndarray, "n 3"],
    colors: Float[np.ndarray, "n 3"],
    paths: Mapping[str, Float[np.ndarray, "m 3"]],
) -> str:
    """Return a canvas with its data and script.

    Args:
        points_m: in the world frame; of more than 40,000 an even choice is shown.
        colors: 0..1.
        paths: "estimate" and, where it is known, "reference": camera centres in the world frame.
    """
    step = max(1, -(-len(points_m) // MAX_POINTS))
    points, shown = points_m[::step], np.rint(np.clip(colors[::step], 0, 1) * 255).astype(np.uint8)
    seen = np.concatenate([points, *paths.values()])
    low, high = np.percentile(seen, [1, 99], axis=0)  # a few stray points must not shrink the scene
    center, scale = (low + high) / 2, max(float((high - low).max()) * 0.75, 0.1)
    inside = (np.abs(points - center) <= scale).all(1)
    packed = np.rint((points[inside] - center) / scale * 32767).astype("<i2")
    looks = {"estimate": ("#7ba7ff", False), "reference": ("#f0985a", True)}
    scene = {
        "points": base64.b64encode(packed.tobytes()).decode(),
        "colors": base64.b64encode(shown[inside].tobytes()).decode(),
        "scale": scale,
        "center": center.tolist(),
        "paths": [
            {"xyz": np.round(xyz, 4).tolist(), "color": looks[name][0], "dashed": looks[name][1]}
            for name, xyz in paths.items()
        ],
    }
    script = resources.files("remov3r.pipelines").joinpath("report_viewer.js").read_text()
    return (
        '<canvas id="viewer" aria-label="point cloud and camera path; drag to turn, scroll to zoom"></canvas>'
        f'<script type="application/json" id="scene">{json.dumps(scene)}</script><script>{script}</script>'
    )
