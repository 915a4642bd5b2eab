"""What `remov3r bench backends` scores besides trajectories: covariances, and loops against ground truth."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from remov3r.backends.bundle import BundleBackend
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.pose_graph import PoseGraphBackend
from remov3r.eval.loops import LoopMetrics, TrueView, evaluate_loops
from remov3r.geometry import inverse
from remov3r.protocols import Backend, FrameSource
from remov3r.types import PoseKind, RelativePose, Trajectory

RECENT = 10  # keyframes before a new one that are no loops
SHARED_LANDMARKS = 20  # of two keyframes of the bundle, to be counted as a loop


def mean_nees(estimate: Trajectory, reference: Trajectory) -> float | None:
    """Return the mean normalised error squared of the poses that have a covariance; about six where it is honest.

    Both trajectories are taken from their first pose; poses are matched by their frames.
    """
    if estimate.covariances is None:
        return None
    known = np.isfinite(estimate.covariances).all((1, 2)) & (np.arange(len(estimate)) > 0)
    rows = np.searchsorted(reference.frame_index, estimate.frame_index)
    T_est = inverse(estimate.T_world_cam[0]) @ estimate.T_world_cam[known]
    T_true = inverse(reference.T_world_cam[rows[0]]) @ reference.T_world_cam[rows[known]]
    if not known.any():
        return None
    gap = inverse(T_est) @ T_true
    error = np.concatenate([Rotation.from_matrix(gap[:, :3, :3]).as_rotvec(), gap[:, :3, 3]], 1)
    solved = np.linalg.solve(estimate.covariances[known], error[:, :, None])[:, :, 0]
    return float((error * solved).sum(1).mean())


def loop_metrics(
    backend: Backend, estimate: Trajectory, reference: Trajectory, source: FrameSource, scale: float
) -> LoopMetrics:
    """Measure the loops that a backend used.

    Args:
        source: the sequence with its true depth.
        scale: factor by which the front end's lengths are known to be off.
    Raises:
        DataError: the sequence cannot be read.
    """
    keyframes = set(estimate.frame_index[estimate.is_keyframe].tolist())
    T_true = dict(zip(reference.frame_index.tolist(), reference.T_world_cam))
    views = [
        TrueView(frame.index, T_true[frame.index], frame.depth_m, frame.camera)
        for frame in source
        if frame.index in keyframes and frame.depth_m is not None and frame.index in T_true
    ]
    known = {view.frame_index for view in views}
    loops = [_rescaled(k, scale) for k in loops_of(backend) if {k.from_index, k.to_index} <= known]
    return evaluate_loops(loops, views, RECENT)


def loops_of(backend: Backend) -> tuple[RelativePose, ...]:
    """Return the loops that a backend used, at the end of a run."""
    if isinstance(backend, PoseGraphBackend):
        return backend.loops()
    if isinstance(backend, BundleBackend) and (landmark_map := backend.landmark_map()) is not None:
        return shared_views(landmark_map)
    return ()


def shared_views(landmark_map: LandmarkMap) -> tuple[RelativePose, ...]:
    """Return the pairs of keyframes far apart in time that share landmarks, with the transform between them.

    Each keyframe is paired with the two older ones that it shares most with.
    """
    good = landmark_map.obs_good
    keyframe, landmark = landmark_map.obs_keyframe[good], landmark_map.obs_landmark[good]
    count = len(landmark_map.keyframes)
    seen = np.zeros((count, len(landmark_map.points)), np.float32)
    seen[keyframe, landmark] = 1
    shared = np.tril(seen @ seen.T, -RECENT - 1)
    out = []
    for new in range(count):
        for old in np.argsort(-shared[new], kind="stable")[:2].tolist():
            if shared[new, old] >= SHARED_LANDMARKS:
                a, b = landmark_map.keyframes[old], landmark_map.keyframes[new]
                T = inverse(a.T_world_cam) @ b.T_world_cam
                inliers = int(shared[new, old])
                out.append(RelativePose(a.frame_index, b.frame_index, T, PoseKind.LOOP, None, inliers))
    return tuple(out)


def _rescaled(loop: RelativePose, scale: float) -> RelativePose:
    T = loop.T_from_to.copy()
    T[:3, 3] /= scale
    return RelativePose(loop.from_index, loop.to_index, T, loop.kind, loop.covariance, loop.inliers)
