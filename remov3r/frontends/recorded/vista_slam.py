"""What ViSTA-SLAM's run.py writes: trajectory, scales, depths, intrinsics (.npy), confs and view_graph (.npz)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from remov3r.frontends.recorded.arrays import (
    intrinsic_matrix,
    load_archive,
    load_array,
    number_in,
    same_length,
    with_shape,
)
from remov3r.frontends.recorded.recording import (
    Framing,
    LoadDense,
    RecordedDense,
    RecordedFrame,
    Recording,
    match_of,
)
from remov3r.geometry import checked_pose

EDGE_PX = 10  # run.py cuts so much off all round before it resizes


def is_vista_slam(path: Path) -> bool:
    """Tell by the arrays."""
    return all((path / f"{name}.npy").exists() for name in ("trajectory", "depths", "scales"))


def read_vista_slam(path: Path) -> Recording:
    """Open the output of ViSTA-SLAM: keyframes with pose (camera to world), depth and its scale; unknown scale.

    Keyframes are named by the number in their image's name: an index, or a timestamp where it has decimals.

    Raises:
        DataError: a file is missing or damaged, or they hold different numbers of frames.
    References: zhangganlin/vista-slam, vista_slam/slam.py, save_data_all.
    """
    poses = load_array(path / "trajectory.npy", (None, 4, 4))
    depths = load_array(path / "depths.npy", (None, None, None))
    scales = load_array(path / "scales.npy", (len(poses), 1))
    K = load_array(path / "intrinsics.npy", (None, 3, 3))
    confs_file = path / "confs.npz"
    confs = with_shape(load_archive(confs_file, ["confs"])["confs"], depths.shape, f"{confs_file}: confs")
    names = load_archive(path / "view_graph.npz", ["view_names"])["view_names"]
    arrays = {"trajectory.npy": poses, "depths.npy": depths, "intrinsics.npy": K, "view_names": names}
    count = same_length(arrays, path)
    numbers = [number_in(str(name), path / "view_graph.npz") for name in names]
    frames = []
    for i in range(count):
        where = f"{path}/trajectory.npy, frame {i}"
        T = checked_pose(poses[i].astype(np.float64), where)
        own = intrinsic_matrix(K[i], f"{path}/intrinsics.npy, frame {i}")
        load = _loader(depths[i], float(scales[i, 0]), confs[i], own)
        frames.append(RecordedFrame(numbers[i], where, T, True, load))
    return Recording(
        "vista-slam", path, tuple(frames), match_of(numbers), Framing.CENTRE, EDGE_PX, scale="unknown"
    )


def _loader(depth: np.ndarray, scale: float, confidence: np.ndarray, K: np.ndarray) -> LoadDense:
    return lambda camera: RecordedDense(np.asarray(depth) * np.float32(scale), K, confidence)
