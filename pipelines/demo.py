"""The demo: a video of a synthetic room, reconstructed from RGB alone and scored against the exact truth."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.data.pose_files import known_trajectory
from remov3r.data.sources import open_source
from remov3r.data.synthetic.source import SyntheticSource
from remov3r.data.tum_trajectory import write_tum
from remov3r.errors import ConfigError, DataError
from remov3r.pipelines.build import build_front_end, use_threads
from remov3r.pipelines.config import load_config
from remov3r.pipelines.evaluate import GroundTruth
from remov3r.pipelines.output_folder import OutputFolder
from remov3r.pipelines.run import reconstruct_and_save
from remov3r.pipelines.terminal import ProgressBar, say
from remov3r.pipelines.toml_writer import dump_toml
from remov3r.protocols import FrameSource

FPS = 30.0
SEED = 10  # of the room and the path
CAMERA = Camera(480, 360, 410.0, 410.0, 239.5, 179.5)


@dataclass(frozen=True)
class DemoFiles:
    """What is rendered.

    Attributes:
        video: the mp4; its calibration (.toml) and ground truth (.tum) lie beside it.
        frames: the same frames as a folder with depth and poses (`--dataset posed`).
    """

    video: Path
    frames: Path


def demo_command(arguments: argparse.Namespace) -> int:
    """Render, reconstruct, score, report."""
    config = load_config(arguments.config, arguments.set)
    folder = OutputFolder(Path(arguments.out))
    build_front_end(config)  # missing weights must not be found out after the rendering
    use_threads(config.threads)
    say(f"rendering {arguments.seconds:g} s of a synthetic room into {folder.path / 'input'}")
    files = write_sequence(room_scene(arguments.seconds), folder.path / "input")
    source = open_source(files.video)
    say(f"reconstructing {files.video} from its RGB alone")
    truth = GroundTruth(source.reference(), open_source(files.frames, "posed", sensor=True))
    return reconstruct_and_save(source, config, folder, truth)


def room_scene(seconds: float, room: int | None = None) -> SyntheticSource:
    """Return the walk through a room; the demo's unless another one is named.

    Raises:
        ConfigError: the length is less than one frame.
    """
    count = round(seconds * FPS)
    if count < 1:
        raise ConfigError(f"--seconds {seconds}: at least {1 / FPS:.2f}")
    return SyntheticSource(SEED if room is None else room, count, CAMERA, FPS)


def write_sequence(source: FrameSource, folder: Path) -> DemoFiles:
    """Write a source with depth and poses as a video with its ground truth, and as a posed folder.

    Raises:
        DataError: OpenCV cannot write mp4 here.
    """
    files = DemoFiles(folder / "room.mp4", folder / "room")
    for part in ("rgb", "depth"):
        (files.frames / part).mkdir(parents=True, exist_ok=True)
        for stale in (files.frames / part).iterdir():
            stale.unlink()
    poses = _write_frames(files, source)
    _write_calibration_and_poses(files, source.camera, poses)
    return files


def _write_frames(files: DemoFiles, source: FrameSource) -> Float[np.ndarray, "n 4 4"]:
    size = (source.camera.width, source.camera.height)
    writer = cv2.VideoWriter(str(files.video), cv2.VideoWriter.fourcc(*"mp4v"), FPS, size)
    if not writer.isOpened():
        raise DataError(f"{files.video}: OpenCV cannot write mp4 video here; is FFmpeg support missing?")
    poses = []
    with ProgressBar(len(source), "rendering") as bar:
        for frame in source:
            bgr = np.ascontiguousarray(frame.rgb[..., ::-1])
            writer.write(bgr)
            name = f"{frame.index:06d}"
            cv2.imwrite(str(files.frames / f"rgb/{name}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
            if frame.depth_m is not None:
                millimetres = np.where(frame.depth_m < 65.5, np.rint(frame.depth_m * 1000), 0)
                cv2.imwrite(str(files.frames / f"depth/{name}.png"), millimetres.astype(np.uint16))
            poses.append(np.eye(4) if frame.T_world_cam is None else frame.T_world_cam)
            bar.advance()
    writer.release()
    return np.stack(poses)


def _write_calibration_and_poses(
    files: DemoFiles, camera: Camera, T_world_cam: Float[np.ndarray, "n 4 4"]
) -> None:
    c = camera
    intrinsics = {"width": c.width, "height": c.height, "fx": c.fx, "fy": c.fy, "cx": c.cx, "cy": c.cy}
    files.video.with_suffix(".toml").write_text(dump_toml(intrinsics))
    times_s = [index / FPS for index in range(len(T_world_cam))]
    trajectory = known_trajectory(range(len(T_world_cam)), times_s, list(T_world_cam))
    write_tum(files.video.with_suffix(".tum"), trajectory)
    numbers = (c.fx, c.fy, c.cx, c.cy, c.width, c.height)
    (files.frames / "intrinsics.txt").write_text(" ".join(f"{number:g}" for number in numbers) + "\n")
    rows = [" ".join(f"{value:.9f}" for value in pose.reshape(-1)) for pose in T_world_cam]
    (files.frames / "poses.txt").write_text("\n".join(rows) + "\n")
