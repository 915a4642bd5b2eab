"""Make a dense prediction smaller, so that many keyframes fit into memory and onto disk."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.types import DensePrediction


def at_most_wide(dense: DensePrediction, width: int) -> DensePrediction:
    """Return every n-th pixel of a prediction that is wider than `width`; nothing is averaged across edges.

    The camera is that of the pixels kept, so points and depth still belong together exactly.
    """
    step = -(-dense.camera.width // width)
    if step == 1:
        return dense
    first = (step - 1) // 2

    def thin(values: Float[np.ndarray, "h w *c"]) -> Float[np.ndarray, "h2 w2 *c"]:
        return values[first::step, first::step].copy()

    c = dense.camera
    depth_m = thin(dense.depth_m)
    height, kept_width = depth_m.shape
    camera = Camera(
        kept_width, height, c.fx / step, c.fy / step, (c.cx - first) / step, (c.cy - first) / step
    )
    return DensePrediction(
        camera,
        depth_m,
        thin(dense.depth_confidence),
        thin(dense.points_cam),
        thin(dense.points_confidence),
        thin(dense.sigma_m),
    )
