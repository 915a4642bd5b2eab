"""One keyframe as two files: its image (.jpg) and its geometry (.npz)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np

from remov3r import geometry
from remov3r.camera import Camera
from remov3r.errors import DataError
from remov3r.pipelines.output_folder import OutputFolder
from remov3r.types import DensePrediction, Keyframe

FOLDER = "keyframes"
# Half precision: 2 mm at 3 m. Depth itself is kept exactly.
HALF_MAX = float(np.finfo(np.float16).max)


def write_keyframe(folder: OutputFolder, keyframe: Keyframe) -> None:
    """Put `keyframes/INDEX.jpg` and `keyframes/INDEX.npz` into an output folder."""
    camera, dense, aligned = keyframe.dense.camera, keyframe.dense, keyframe.aligned
    stem = f"{FOLDER}/{keyframe.frame_index:06d}"
    _, jpeg = cv2.imencode(".jpg", keyframe.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    folder.put(f"{stem}.jpg", lambda path: path.write_bytes(jpeg.tobytes()))
    arrays = {
        "frame_index": np.int64(keyframe.frame_index),
        "timestamp_s": np.float64(keyframe.timestamp_s),
        "T_world_cam": keyframe.T_world_cam,
        "camera": np.array([camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy]),
        "depth_m": dense.depth_m.astype(np.float32),
        "sigma_m": _half(dense.sigma_m),
        "depth_confidence": _half(dense.depth_confidence),
        "points_cam": _half(dense.points_cam),
        "points_confidence": _half(dense.points_confidence),
        "aligned_depth_m": aligned.depth_m.astype(np.float32),
        "aligned_sigma_m": _half(aligned.sigma_m),
    }
    folder.put(f"{stem}.npz", lambda path: _save(path, arrays))


def _half(values: np.ndarray) -> np.ndarray:
    finite = np.clip(values, -HALF_MAX, HALF_MAX)
    return np.where(np.isinf(values), values, finite).astype(np.float16)


def _save(path: Path, arrays: dict[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


def read_keyframe(path: Path) -> Keyframe:
    """Read `INDEX.npz` and the image beside it.

    Raises:
        DataError: a file is missing or damaged.
    """
    try:
        with np.load(path) as archive:
            a = {name: archive[name] for name in archive.files}
        width, height, fx, fy, cx, cy = map(float, a["camera"])
        camera = Camera(int(width), int(height), fx, fy, cx, cy)
        single = {k: a[k].astype(np.float32) for k in ("depth_confidence", "points_cam", "points_confidence")}
        dense = DensePrediction(
            camera=camera, depth_m=a["depth_m"], sigma_m=a["sigma_m"].astype(np.float32), **single
        )
        aligned = replace(
            dense,
            depth_m=a["aligned_depth_m"],
            sigma_m=a["aligned_sigma_m"].astype(np.float32),
            points_cam=geometry.unproject(a["aligned_depth_m"], camera),
        )
        index, time_s, pose = int(a["frame_index"]), float(a["timestamp_s"]), a["T_world_cam"]
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise DataError(f"{path}: not a keyframe file: {error}") from error
    bgr = cv2.imread(str(path.with_suffix(".jpg")))
    if bgr is None or bgr.shape[:2] != dense.depth_m.shape:
        raise DataError(f"{path.with_suffix('.jpg')}: missing, damaged or of another size than its depth")
    return Keyframe(index, time_s, np.ascontiguousarray(bgr[..., ::-1]), pose, dense, aligned)
