"""EuRoC MAV in the ASL layout: cam0 at 20 frames/s, grey, 752×480; no depth.

    mav0/cam0/data.csv                               timestamp [ns], file below data/
    mav0/cam0/sensor.yaml                            resolution, intrinsics, radial-tangential distortion, T_BS
    mav0/state_groundtruth_estimate0/data.csv        timestamp [ns], position, quaternion w x y z of the body, ...

T_BS maps the camera to the body, so that T_world_cam = T_world_body · T_BS; both the frames' poses and the
reference are the camera's. Poses between two of the 200 Hz ground truth are interpolated.

References: https://projects.asl.ethz.ch/datasets/doku.php?id=kmavvisualinertialdatasets
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from remov3r.camera import Camera
from remov3r.data.association import check_increasing, interpolated_poses
from remov3r.data.calibration import camera_for
from remov3r.data.images import read_rgb
from remov3r.data.listed import ListedSequence, refuse_sensor
from remov3r.data.pose_files import known_trajectory, read_lines, rigid_poses
from remov3r.data.sequence import SourceOptions
from remov3r.data.tables import numbers, read_rows
from remov3r.errors import DataError
from remov3r.geometry import from_quaternion_xyzw
from remov3r.types import Pose, Trajectory

_GAP_S = 0.05


class EurocSequence(ListedSequence):
    """One sequence as seen by cam0; frames before and after the ground truth have no pose.

    Raises:
        DataError: no images, a damaged table or calibration, or depth asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        refuse_sensor(path, options)
        folder = mav_folder(path)
        self.name = folder.resolve().parent.name if folder.name == "mav0" else folder.resolve().name
        rows = read_rows(folder / "cam0" / "data.csv")
        times, self._files = [], []
        for where, words in rows:
            if len(words) != 2:
                raise DataError(f"{where}: need `timestamp [ns],file`, got {' '.join(words)!r}")
            times.append(float(numbers(where, words, 1)[0]) * 1e-9)
            self._files.append(folder / "cam0" / "data" / words[1])
        check_increasing(times, [where for where, _ in rows])
        self._timestamps_s = times
        height, width = read_rgb(self._files[0]).shape[:2]
        default, T_body_cam = _calibration(folder / "cam0" / "sensor.yaml")
        self.camera = camera_for(options.camera, default, width, height, str(path))
        self._T_world_cam: list[Pose | None] = [None] * len(times)
        file = folder / "state_groundtruth_estimate0" / "data.csv"
        if file.exists():
            self._truth = _ground_truth(file, T_body_cam)
            self._T_world_cam = interpolated_poses(self._truth, np.array(times), _GAP_S)


def mav_folder(path: Path) -> Path:
    """Return the folder that holds cam0: the one given, or mav0 in it."""
    return path / "mav0" if (path / "mav0").is_dir() else path


def _ground_truth(file: Path, T_body_cam: Pose) -> Trajectory:
    rows = read_rows(file)
    table = np.stack([numbers(where, words, 8) for where, words in rows])
    times = (table[:, 0] * 1e-9).tolist()
    check_increasing(times, [where for where, _ in rows])
    try:
        T_world_body = from_quaternion_xyzw(table[:, 1:4], table[:, [5, 6, 7, 4]])
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    return known_trajectory(range(len(times)), times, list(T_world_body @ T_body_cam))


def _calibration(file: Path) -> tuple[Camera, Pose]:
    """Read the five lists of a camera's sensor.yaml; the file's lists may run over several lines."""
    text = "\n".join(line.split("#")[0] for _, line in read_lines(file))
    model = re.search(r"^distortion_model:\s*(\S+)", text, re.MULTILINE)
    if model is None or model[1] != "radial-tangential":
        raise DataError(f"{file}: distortion_model must be radial-tangential, got {model and model[1]}")
    width, height = _list(file, text, "resolution", 2)
    fx, fy, cx, cy = _list(file, text, "intrinsics", 4).tolist()
    coefficients = tuple(_list(file, text, "distortion_coefficients", 4).tolist())
    matrix = _list(file, text, "data", 16).reshape(4, 4)
    camera = Camera(int(width), int(height), fx, fy, cx, cy, "radtan", coefficients)
    return camera, rigid_poses([(f"{file}, T_BS", matrix)])[0]


def _list(file: Path, text: str, key: str, count: int) -> np.ndarray:
    found = re.search(rf"^\s*{key}:\s*\[([^\]]*)\]", text, re.MULTILINE)
    if found is None:
        raise DataError(f"{file}: lacks {key}: [...]")
    return numbers(f"{file}, {key}", found[1].replace(",", " ").split(), count)
