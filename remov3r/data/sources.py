"""Open any supported input as a stream of frames, and read reference trajectories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from remov3r.data.bonn import BonnSequence
from remov3r.data.euroc import EurocSequence, mav_folder
from remov3r.data.folder import ImageFolder
from remov3r.data.icl_nuim import IclNuimSequence, own_color_files
from remov3r.data.images import image_files
from remov3r.data.kitti_odometry import KittiOdometrySequence
from remov3r.data.kitti_raw import KittiRawSequence
from remov3r.data.kitti_selection import KittiSelection
from remov3r.data.posed_folder import PosedFolder
from remov3r.data.replica import ReplicaSequence
from remov3r.data.replica import color_files as replica_files
from remov3r.data.robotcar import RobotCarSequence
from remov3r.data.scannet import ScanNetSequence
from remov3r.data.sequence import SourceOptions, StoredSequence
from remov3r.data.seven_scenes import SevenScenesSequence, sequence_folders
from remov3r.data.stream import StreamedSource
from remov3r.data.tum import TumSequence
from remov3r.data.tum_trajectory import read_tum
from remov3r.data.video import VIDEO_SUFFIXES, VideoFile
from remov3r.data.vkitti2 import VirtualKitti2Sequence
from remov3r.data.waymo import WaymoSequence, refuse_raw
from remov3r.errors import ConfigError, DataError
from remov3r.types import Trajectory

SOURCES: dict[str, Callable[[Path, SourceOptions], StoredSequence]] = {
    "video": VideoFile,
    "folder": ImageFolder,
    "7scenes": SevenScenesSequence,
    "tum": TumSequence,
    "posed": PosedFolder,
    "scannet": ScanNetSequence,
    "replica": ReplicaSequence,
    "vkitti2": VirtualKitti2Sequence,
    "bonn": BonnSequence,
    "icl-nuim": IclNuimSequence,
    "kitti": KittiRawSequence,
    "kitti-selection": KittiSelection,
    "kitti-odometry": KittiOdometrySequence,
    "euroc": EurocSequence,
    "waymo": WaymoSequence,
    "robotcar": RobotCarSequence,
}
POSE_SETS = ("kitti-odometry", "euroc", "waymo", "robotcar")  # data sets with poses but without depth
DEPTH_SETS = tuple(kind for kind in SOURCES if kind not in ("video", "folder", *POSE_SETS))
_WITHOUT_CAMERA = ("video", "folder", "tum")  # may need --camera; all others bring their own


def open_source(
    path: str | Path,
    dataset: str = "auto",
    camera: str | None = None,
    start: int = 0,
    stride: int = 1,
    max_frames: int | None = None,
    sensor: bool = False,
    fps: float = 30.0,
) -> StreamedSource:
    """Open a video, an image folder or a data set.

    Args:
        dataset: one of `SOURCES`, or "auto" to tell by what lies at the path.
        camera: "fx,fy,cx,cy" in pixels or the path of a TOML calibration; None for what the data set says.
        start: index of the first frame; stride: take every n-th from there; max_frames: at most so many.
        sensor: deliver depth registered to the colour camera.
        fps: frames per second where the input holds no timestamps.
    Raises:
        DataError: nothing there, not readable, no camera known, or no frame left.
        ConfigError: an unknown data set, or start, stride, max_frames or fps out of range.
    """
    _check_range("--start", start, 0)
    _check_range("--stride", stride, 1)
    _check_range("--max-frames", 1 if max_frames is None else max_frames, 1)
    if not fps > 0:
        raise ConfigError(f"fps {fps}: must be positive")
    sequence = _open_sequence(Path(path), dataset, SourceOptions(camera, sensor, fps))
    indices = range(start, len(sequence), stride)[:max_frames]
    if not indices:
        raise DataError(f"{path}: holds {len(sequence)} frames, so --start {start} leaves none")
    return StreamedSource(sequence, indices)


def read_reference(path: str | Path, dataset: str = "auto", sensor: bool = False) -> Trajectory:
    """Read a reference trajectory: a TUM file (.tum, .txt), or the ground truth that comes with an input.

    Args:
        dataset: as in `open_source`; not used for a TUM file.
        sensor: the poses of the camera that `open_source(..., sensor=True)` delivers (7-Scenes: colour).
    Raises:
        DataError: no file, no ground truth, or bad poses.
    """
    path = Path(path)
    if path.suffix in (".tum", ".txt"):
        return read_tum(path)
    # A camera is not needed for poses, so any will do where the input does not bring one.
    kind = detect_dataset(path) if dataset == "auto" else dataset
    options = SourceOptions("1,1,0,0" if kind in _WITHOUT_CAMERA else None, sensor)
    reference = _open_sequence(path, dataset, options).reference()
    if reference is None:
        raise DataError(
            f"{path}: has no ground-truth trajectory; give a TUM file (timestamp tx ty tz qx qy qz qw)"
        )
    return reference


def detect_dataset(path: Path) -> str:
    """Tell the kind of input by what lies at the path.

    Raises:
        DataError: nothing there, or nothing known.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    refuse_raw(path)
    if path.is_file():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            return "video"
        raise DataError(
            f"{path}: not a video by its name ({', '.join(sorted(VIDEO_SUFFIXES))}); see --dataset"
        )
    found = next((kind for kind, there in _SIGNS.items() if there(path)), None)
    if found is None:
        raise DataError(
            f"{path}: nothing known here (neither images nor one of the layouts of docs/data.md, such as "
            f"rgb.txt, color/ with pose/, rgb/ with intrinsics.txt, image_2/ with calib.txt, mav0/)"
        )
    return found


_SIGNS: dict[str, Callable[[Path], bool]] = {
    "7scenes": lambda path: bool(sequence_folders(path)),
    "bonn": lambda path: path.resolve().name.startswith("rgbd_bonn_") and (path / "rgb.txt").exists(),
    "tum": lambda path: (path / "rgb.txt").exists(),
    "icl-nuim": lambda path: any(path.glob("*.gt.freiburg")) or bool(own_color_files(path)),
    "posed": lambda path: (path / "rgb").is_dir() and (path / "intrinsics.txt").exists(),
    "scannet": lambda path: (path / "color").is_dir() and (path / "pose").is_dir(),
    "replica": lambda path: (path / "traj.txt").exists() and bool(replica_files(path)),
    "vkitti2": lambda path: (path / "frames" / "rgb" / "Camera_0").is_dir(),
    "kitti": lambda path: (path / "image_02" / "data").is_dir(),
    "kitti-selection": lambda path: (path / "groundtruth_depth").is_dir() and (path / "intrinsics").is_dir(),
    "kitti-odometry": lambda path: (path / "calib.txt").exists() and (path / "times.txt").exists(),
    "euroc": lambda path: (mav_folder(path) / "cam0" / "data.csv").exists(),
    "waymo": lambda path: (path / "ego_pose").is_dir() and (path / "images").is_dir(),
    "robotcar": lambda path: (path / "stereo" / "centre").is_dir(),
    "folder": lambda path: bool(image_files(path)),
}


def _open_sequence(path: Path, dataset: str, options: SourceOptions) -> StoredSequence:
    kind = detect_dataset(path) if dataset == "auto" else dataset
    if kind not in SOURCES:
        raise ConfigError(f"--dataset {dataset!r}: not one of auto, {', '.join(SOURCES)}")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    return SOURCES[kind](path, options)


def _check_range(what: str, value: int, smallest: int) -> None:
    if value < smallest:
        raise ConfigError(f"{what} {value}: must be at least {smallest}")
