"""What SLAM3R's recon.py --save_preds writes: preds/registered_pcds.npy and registered_confs.npy, one map a frame.

There are no poses: each is found from its pointmap, with one focal length for all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from remov3r.errors import DataError
from remov3r.frontends.recorded.arrays import load_array, with_shape
from remov3r.frontends.recorded.recording import (
    Framing,
    LoadDense,
    Match,
    RecordedDense,
    RecordedFrame,
    Recording,
)
from remov3r.frontends.recorded.resection import camera_pose, centred_intrinsics, sampled, shared_focal
from remov3r.geometry import inverse, transform
from remov3r.types import Pose

_FOCAL_FRAMES = 5
_MOST_ERROR = 0.05  # median reprojection error, as a share of the width; beyond it the pose counts as lost


def preds_folder(path: Path) -> Path:
    """Return the folder of the arrays, whichever of the two folders is given."""
    return path if (path / "registered_pcds.npy").exists() else path / "preds"


def is_slam3r(path: Path) -> bool:
    """Tell by the pointmaps."""
    return (preds_folder(path) / "registered_pcds.npy").exists()


def read_slam3r(path: Path) -> Recording:
    """Open the output of SLAM3R: pointmaps in the world, one a frame, no keyframes, unknown scale.

    Raises:
        DataError: a file is missing or damaged, or no pose fits the first frames.
    References: PKU-VCL-3DV/SLAM3R, recon.py and slam3r/utils/recon_utils.py.
    """
    folder = preds_folder(path)
    points = load_array(folder / "registered_pcds.npy", (None, None, None, 3))
    confidence = load_array(folder / "registered_confs.npy", points.shape[:3])
    height, width = points.shape[1:3]
    chosen = np.unique(np.linspace(0, len(points) - 1, _FOCAL_FRAMES).astype(int))
    samples = [s for i in chosen if (s := sampled(points[i], confidence[i])) is not None]
    if not samples:
        raise DataError(f"{folder}/registered_pcds.npy: the frames looked at hold no finite points")
    K = centred_intrinsics(shared_focal(samples, height, width), height, width)
    where = f"{folder}/registered_pcds.npy"
    frames = tuple(_frame(i, f"{where}, frame {i}", points[i], confidence[i], K) for i in range(len(points)))
    return Recording("slam3r", path, frames, Match.INDEX, Framing.CENTRE, scale="unknown")


def _frame(
    index: int, where: str, points: np.ndarray, confidence: np.ndarray, K: np.ndarray
) -> RecordedFrame:
    chosen = sampled(points, confidence)
    found = None if chosen is None else camera_pose(*chosen, K)
    if found is None or found[1] > _MOST_ERROR * points.shape[1]:
        return RecordedFrame(float(index), where, None)
    return RecordedFrame(float(index), where, found[0], None, world_loader(found[0], points, confidence, K))


def world_loader(T_world_cam: Pose, points: np.ndarray, confidence: np.ndarray, K: np.ndarray) -> LoadDense:
    """Return a loader of the depth of a pointmap in the world, seen from its camera."""

    def load(camera: object) -> RecordedDense:
        there = np.isfinite(points).all(-1)
        local = transform(inverse(T_world_cam), np.where(there[..., None], points, 0).astype(np.float64))
        depth = np.where(there, local[..., 2], 0).astype(np.float32)
        conf = np.asarray(with_shape(confidence, depth.shape, "confidence"), np.float32)
        return RecordedDense(depth, K, conf)

    return load
