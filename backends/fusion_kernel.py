"""The loop of TSDF fusion: what a depth map adds to voxels."""

from __future__ import annotations

import numpy as np

from remov3r.backends.compiled import compiled


@compiled
def fused_sums(
    origins: np.ndarray,
    inner: np.ndarray,
    centre: tuple[np.float32, np.float32],
    depth: np.ndarray,
    weight: np.ndarray,
    tint: np.ndarray,
    truncation: np.float32,
) -> np.ndarray:
    """Return what one depth map adds to the voxels of some blocks, n 5 voxels (see `fusion`), as 32-bit integers.

    Args:
        origins: of the blocks, n 3, in the camera's frame with the focal lengths multiplied in; float32.
        inner: the same of a block's voxels from its origin, voxels 3.
        centre: principal point.
        depth: h w, -infinity where there is none; float32.
        weight: signed, h w, 32-bit integers.
        tint: weight · colour / 256, h w 3.
    """
    height, width = depth.shape
    out = np.zeros((len(origins), 5, len(inner)), np.int32)
    nearest, one = np.float32(1e-3), np.float32(1)
    for n in range(len(origins)):
        for v in range(len(inner)):
            z = origins[n, 2] + inner[v, 2]
            if not z > nearest:
                continue
            scale = one / z
            column = np.rint((origins[n, 0] + inner[v, 0]) * scale + centre[0])
            row = np.rint((origins[n, 1] + inner[v, 1]) * scale + centre[1])
            if not (0 <= column < width and 0 <= row < height):
                continue
            i, j = int(row), int(column)
            reach = depth[i, j] - z
            if not reach >= -truncation:
                continue
            w = weight[i, j]
            out[n, 0, v] = w
            out[n, 1, v] = np.int32(np.rint(np.float32(w) * min(reach / truncation, one)))
            for c in range(3):
                out[n, 2 + c, v] = tint[i, j, c]
    return out
