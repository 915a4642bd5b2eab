"""What CUT3R's demo writes: depth/N.npy, conf/N.npy, color/N.png and camera/N.npz (pose, intrinsics)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from remov3r.errors import DataError
from remov3r.frontends.recorded.arrays import intrinsic_matrix, load_archive, load_array
from remov3r.frontends.recorded.recording import (
    Framing,
    LoadDense,
    Match,
    RecordedDense,
    RecordedFrame,
    Recording,
)
from remov3r.geometry import checked_pose


def is_cut3r(path: Path) -> bool:
    """Tell by the folders."""
    return all((path / name).is_dir() for name in ("camera", "depth"))


def read_cut3r(path: Path) -> Recording:
    """Open the output of CUT3R (demo.py, demo_ga.py): poses camera to world, metric, one a frame, no keyframes.

    Raises:
        DataError: a file is missing or damaged.
    References: CUT3R/CUT3R, demo.py, prepare_output.
    """
    cameras = sorted((path / "camera").glob("*.npz"))
    counts = {name: len(list((path / name).glob("*.npy"))) for name in ("depth", "conf")}
    if counts["depth"] != len(cameras) or counts["conf"] not in (0, len(cameras)):
        raise DataError(
            f"{path}: {len(cameras)} files in camera/, {counts['depth']} in depth/, {counts['conf']} in conf/; "
            f"need one each a frame"
        )
    frames = tuple(_frame(path, file, counts["conf"] > 0) for file in cameras)
    return Recording("cut3r", path, frames, Match.INDEX, Framing.CENTRE, scale="metric")


def _frame(path: Path, file: Path, confident: bool) -> RecordedFrame:
    values = load_archive(file, ("pose", "intrinsics"))
    if not file.stem.isdigit():
        raise DataError(f"{file}: the name is not the number of a frame")
    T = checked_pose(values["pose"].astype(np.float64), str(file))
    K = intrinsic_matrix(values["intrinsics"], str(file))
    return RecordedFrame(float(file.stem), str(file), T, None, _loader(path, file.stem, K, confident))


def _loader(path: Path, name: str, K: np.ndarray, confident: bool) -> LoadDense:
    def load(camera: object) -> RecordedDense:
        depth = load_array(path / "depth" / f"{name}.npy", (None, None))
        conf = load_array(path / "conf" / f"{name}.npy", depth.shape) if confident else None
        return RecordedDense(np.asarray(depth), K, None if conf is None else np.asarray(conf))

    return load
