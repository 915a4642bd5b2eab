"""A descriptor of a whole image, made from its local features alone: no network, no learnt vocabulary."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from remov3r.backends.features import Descriptors, Gray

GRID = (2, 2)


def image_descriptor(
    gray: Gray, pixels: Float[np.ndarray, "n 2"], descriptors: Descriptors
) -> Float[np.ndarray, " d"]:
    """Pool the root-SIFT descriptors of an image by mean and spread, over the whole and over its quarters.

    References: Arandjelovic & Zisserman 2012 (root-SIFT).
    """
    root = np.sqrt(descriptors.astype(np.float32) / 512)
    h, w = gray.shape
    column = np.clip((pixels[:, 0] * 2 / w).astype(int), 0, 1)
    row = np.clip((pixels[:, 1] * 2 / h).astype(int), 0, 1)
    parts = [root, *(root[(row == r) & (column == c)] for r in (0, 1) for c in (0, 1))]
    zero = np.zeros(128, np.float32)
    means = [p.mean(0) if len(p) else zero for p in parts]
    return np.concatenate([*means, parts[0].std(0) if len(root) else zero])
