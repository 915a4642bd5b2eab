"""Writes a scene in the layouts of other projects, by their public code and with none of it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from remov3r.camera import Camera
from remov3r.geometry import inverse, quaternion_xyzw, transform, unproject
from tests.backends.room import CAMERA, room_depth
from tests.backends.textured_room import path as room_path
from tests.backends.textured_room import render

COUNT = 12
WORLD = inverse(room_path(3)[1])  # recordings have a world of their own


def poses(count: int = COUNT) -> np.ndarray:
    """Camera to world in the room; the same path as `frames`."""
    return room_path(40)[:count]


def recorded_poses(count: int = COUNT) -> np.ndarray:
    """The same in the recording's world."""
    return np.asarray(WORLD @ poses(count))


def centred(camera: Camera, width: int, height: int, edge: int = 0) -> Camera:
    """The camera of an image cut by an edge, resized evenly and cut out around its centre."""
    cut = camera.cropped(edge, edge, camera.width - 2 * edge, camera.height - 2 * edge)
    scale = max(width / cut.width, height / cut.height)
    resized = cut.resized(round(cut.width * scale), round(cut.height * scale))
    return resized.cropped((resized.width - width) // 2, (resized.height - height) // 2, width, height)


def depths(camera: Camera, count: int = COUNT) -> np.ndarray:
    """Exact z-depth of each frame."""
    return np.stack([room_depth(T, camera) for T in poses(count)]).astype(np.float32)


def confidences(camera: Camera, count: int = COUNT) -> np.ndarray:
    """Even, but for one pixel of half the confidence."""
    conf = np.full((count, camera.height, camera.width), 4.0, np.float32)
    conf[:, 1, 2] = 2.0
    return conf


def world_points(camera: Camera, count: int = COUNT) -> np.ndarray:
    """Pointmaps in the recording's world, double precision."""
    maps = [unproject(room_depth(T, camera), camera) for T in poses(count)]
    return np.stack([transform(T, points) for T, points in zip(recorded_poses(count), maps)])


def pose_lines(numbers: list[float], T_world_cam: np.ndarray) -> str:
    """Text of `number tx ty tz qx qy qz qw`."""
    table = np.column_stack([T_world_cam[:, :3, 3], quaternion_xyzw(T_world_cam)])
    return "".join(f"{n} {' '.join(f'{x:.10f}' for x in row)}\n" for n, row in zip(numbers, table))


def write_cut3r(path: Path) -> Camera:
    """demo.py: sizes that are multiples of 16, cut out around the centre; one focal length a frame."""
    camera = centred(CAMERA, 96, 64)
    for name in ("camera", "depth", "conf", "color"):
        (path / name).mkdir(parents=True)
    K = np.array([[camera.fx, 0, 48], [0, camera.fx, 32], [0, 0, 1]], np.float32)
    for i, (T, depth, conf) in enumerate(zip(recorded_poses(), depths(camera), confidences(camera))):
        np.save(path / "depth" / f"{i:06d}.npy", depth)
        np.save(path / "conf" / f"{i:06d}.npy", conf)
        np.savez(path / "camera" / f"{i:06d}.npz", pose=T.astype(np.float32), intrinsics=K)
        cv2.imwrite(str(path / "color" / f"{i:06d}.png"), np.zeros((64, 96, 3), np.uint8))
    return camera


def write_slam3r(path: Path) -> Camera:
    """recon.py --save_preds: square pointmaps in the world, float32."""
    camera = centred(CAMERA, 90, 90)
    (path / "preds").mkdir(parents=True)
    np.save(path / "preds/registered_pcds.npy", world_points(camera).astype(np.float32))
    np.save(path / "preds/registered_confs.npy", confidences(camera))
    np.save(path / "preds/local_pcds.npy", world_points(camera).astype(np.float32))
    np.save(path / "preds/local_confs.npy", confidences(camera))
    np.save(path / "preds/input_imgs.npy", np.zeros((COUNT, 90, 90, 3), np.float32))
    (path / "preds/metadata.json").write_text(
        json.dumps({"scene_id": "room", "init_winsize": 5, "kf_stride": 1, "init_ref_id": 0})
    )
    return camera


def write_mast3r_slam(path: Path) -> Camera:
    """main.py: keyframes every fourth frame, named by their timestamps; one binary PLY of all points."""
    numbers = [i / 30 for i in range(0, COUNT, 4)]
    (path / "keyframes/room").mkdir(parents=True)
    (path / "room.txt").write_text(pose_lines(numbers, recorded_poses()[::4]))
    points = world_points(CAMERA.resized(320, 240))[::4].reshape(-1, 3)
    kinds = [(a, "<f4") for a in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")]
    vertices = np.zeros(len(points), np.dtype(kinds))
    for axis, values in zip("xyz", points.T):
        vertices[axis] = values
    names = {"<f4": "float", "|u1": "uchar"}
    properties = [f"property {names[vertices.dtype[n].str]} {n}" for n in vertices.dtype.names or ()]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}", *properties]
    (path / "room.ply").write_bytes("\n".join([*header, "end_header\n"]).encode() + vertices.tobytes())
    for i, number in enumerate(numbers):
        cv2.imwrite(str(path / f"keyframes/room/{number}.png"), render(poses()[4 * i]))
    return CAMERA.resized(160, 120)


def write_vggt_slam(path: Path) -> Camera:
    """main.py --log_results: every second frame; submaps of four overlap by one frame, which is written twice."""
    camera = centred(CAMERA, 112, 84)
    (path / "room_logs").mkdir(parents=True)
    ids = [float(i) for i in range(0, COUNT, 2)]
    rows = [0, 1, 2, 3, 3, 4, 5]
    lines = pose_lines([ids[i] for i in rows], recorded_poses()[::2][rows])
    (path / "room.txt").write_text(lines)
    for i, points in zip(ids, world_points(camera)[::2]):
        np.savez(path / f"room_logs/{i}.npz", pointcloud=points, mask=np.ones(points.shape[:2], bool))
    return camera


def write_vista_slam(path: Path) -> Camera:
    """run.py: keyframes every third frame with a scale each; ten pixels are cut off all round, then squares."""
    camera = centred(CAMERA, 100, 100, edge=10)
    path.mkdir(parents=True)
    scales = np.linspace(0.5, 2, len(range(0, COUNT, 3)))[:, None]
    np.save(path / "trajectory.npy", recorded_poses()[::3].astype(np.float32))
    np.save(path / "scales.npy", scales.astype(np.float32))
    np.save(path / "depths.npy", (depths(camera)[::3] / scales[..., None]).astype(np.float32))
    np.savez(path / "confs.npz", confs=confidences(camera)[::3], thres=4.2)
    np.save(path / "intrinsics.npy", np.repeat(camera.K[None], len(scales), 0).astype(np.float32))
    np.save(path / "images.npy", np.zeros((len(scales), 100, 100, 3), np.float32))
    names = [f"frame-{i:06d}.color.png" for i in range(0, COUNT, 3)]
    graph = np.array({i: [] for i in range(len(names))}, dtype=object)
    np.savez(path / "view_graph.npz", view_graph=graph, loop_min_dist=40, view_names=names)
    return camera


def droid_arrays() -> tuple[Camera, dict[str, np.ndarray]]:
    """Keyframes every third of the images that it was given; poses are world to camera."""
    camera = CAMERA.resized(80, 56)
    T = inverse(recorded_poses()[::3])
    K = np.array([camera.fx, camera.fy, camera.cx, camera.cy]) / 8
    arrays: dict[str, np.ndarray] = {
        "tstamps": np.arange(0, COUNT, 3, dtype=np.float32),
        "images": np.zeros((len(T), 3, 56, 80), np.uint8),
        "disps": (1 / depths(camera)[::3]).astype(np.float32),
        "poses": np.column_stack([T[:, :3, 3], quaternion_xyzw(T)]).astype(np.float32),
        "intrinsics": np.repeat(K[None], len(T), 0).astype(np.float32),
    }
    return camera, arrays


def write_droid_slam(path: Path) -> Camera:
    """demo.py --reconstruction_path until 2025: a folder of arrays."""
    camera, arrays = droid_arrays()
    path.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    return camera


def write_droid_slam_torch(path: Path) -> Camera:
    """demo.py --reconstruction_path since: one file of tensors."""
    camera, arrays = droid_arrays()
    path.mkdir(parents=True)
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path / "room.pth")
    return camera


WRITERS = {
    "cut3r": write_cut3r,
    "slam3r": write_slam3r,
    "mast3r-slam": write_mast3r_slam,
    "vggt-slam": write_vggt_slam,
    "vista-slam": write_vista_slam,
    "droid-slam": write_droid_slam,
    "droid-slam torch": write_droid_slam_torch,
}
