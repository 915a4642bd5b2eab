"""Writes frames in the layouts of public data sets, and a textured room to fill them with."""

import json
from pathlib import Path

import cv2
import numpy as np

from remov3r.camera import Camera
from remov3r.geometry import inverse, pixel_rays, transform
from remov3r.types import Frame
from tests.data.helpers import write_rgb

CAMERA = Camera(80, 60, 70.0, 71.0, 39.5, 29.5)


def room_frames(count: int, camera: Camera = CAMERA, speed: float = 1.0) -> list[Frame]:
    """A walk through a box of 4 x 3 x 5 m with patterned walls: exact depth in whole millimetres and poses."""
    return [room_frame(i, room_pose(i * speed), camera) for i in range(count)]


def room_pose(i: float) -> np.ndarray:
    """Forward and sideways 3 cm a frame, turning half a degree about y and nodding."""
    yaw, pitch = 0.009 * i, 0.1 * np.sin(i / 9)
    turn, nod = cv2.Rodrigues(np.array([0, yaw, 0]))[0], cv2.Rodrigues(np.array([pitch, 0, 0]))[0]
    T_world_cam = np.eye(4)
    T_world_cam[:3, :3] = turn @ nod
    T_world_cam[:3, 3] = [-1 + 0.025 * i, 0.2 * np.sin(i / 7), -1.5 + 0.015 * i]
    return T_world_cam


def room_frame(index: int, T_world_cam: np.ndarray, camera: Camera) -> Frame:
    """See the walls x = ±2, y = ±1.5, z = ±2.5 m from inside, through the camera's lens if it has one."""
    rays, centre = lens_rays(camera) @ T_world_cam[:3, :3].T, T_world_cam[:3, 3]
    walls = np.where(rays > 0, 1, -1) * np.array([2.0, 1.5, 2.5])
    with np.errstate(divide="ignore"):
        depth = ((walls - centre) / rays).min(-1)
    depth_m = (np.round(depth * 1000) / 1000).astype(np.float32)
    p = centre + rays * depth[..., None]
    waves = [np.sin(p @ np.array(k) + c) for c, k in enumerate([(9, 4, 3), (-3, 8, 5), (4, -5, 7)])]
    rgb = (128 + 70 * np.stack(waves, -1) * np.sin(3 * p.sum(-1, keepdims=True))).astype(np.uint8)
    return Frame(index, index / 30, rgb, camera, depth_m, T_world_cam)


def lens_rays(camera: Camera) -> np.ndarray:
    """Where each pixel looks, with z = 1."""
    if camera.distortion == "none":
        return pixel_rays(camera)
    x, y = np.meshgrid(np.arange(float(camera.width)), np.arange(float(camera.height)))
    pixels, D = np.stack([x, y], -1).reshape(-1, 1, 2), np.array(camera.coefficients)
    xy = cv2.undistortPoints(pixels, camera.K, D)
    return np.concatenate([xy.reshape(*x.shape, 2), np.ones((*x.shape, 1))], -1)


def write_posed(folder: Path, frames: list[Frame]) -> Path:
    camera = frames[0].camera
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    for f in frames:
        write_rgb(folder / "rgb" / f"{f.index:06d}.png", f.rgb)
        write_depth(folder / "depth" / f"{f.index:06d}.png", f, 1000)
    (folder / "intrinsics.txt").write_text(f"{camera.fx} {camera.fy} {camera.cx} {camera.cy}\n")
    np.savetxt(folder / "poses.txt", [pose_of(f).ravel() for f in frames])
    return folder


def write_scannet(folder: Path, frames: list[Frame], lost: tuple[int, ...] = ()) -> Path:
    """Colour at twice the size of the depth, files without padding, -inf where tracking was lost."""
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True)
    camera = frames[0].camera
    big = camera.resized(2 * camera.width, 2 * camera.height)
    for f in frames:
        bgr = np.repeat(np.repeat(f.rgb[..., ::-1], 2, 0), 2, 1)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 98]
        assert cv2.imwrite(str(folder / "color" / f"{f.index}.jpg"), np.ascontiguousarray(bgr), quality)
        write_depth(folder / "depth" / f"{f.index}.png", f, 1000)
        T = np.full((4, 4), -np.inf) if f.index in lost else pose_of(f)
        np.savetxt(folder / "pose" / f"{f.index}.txt", T, fmt="%f")
    for name, c in (("color", big), ("depth", camera)):
        K = np.eye(4)
        K[:3, :3] = c.K
        np.savetxt(folder / "intrinsic" / f"intrinsic_{name}.txt", K, fmt="%f")
        np.savetxt(folder / "intrinsic" / f"extrinsic_{name}.txt", np.eye(4), fmt="%f")
    return folder


def write_replica(folder: Path, frames: list[Frame], units_per_m: float = 6553.5) -> Path:
    """Images in results/, the calibration in the folder above, as in the release."""
    c = frames[0].camera
    (folder / "results").mkdir(parents=True)
    for f in frames:
        write_rgb(folder / "results" / f"frame{f.index:06d}.jpg", f.rgb)
        write_depth(folder / "results" / f"depth{f.index:06d}.png", f, units_per_m)
    np.savetxt(folder / "traj.txt", [pose_of(f).ravel() for f in frames])
    numbers = {
        "w": c.width,
        "h": c.height,
        "fx": c.fx,
        "fy": c.fy,
        "cx": c.cx,
        "cy": c.cy,
        "scale": units_per_m,
    }
    (folder.parent / "cam_params.json").write_text(json.dumps({"camera": numbers}))
    return folder


def write_vkitti2(folder: Path, frames: list[Frame]) -> Path:
    """Two cameras in the tables, world to camera, depth in centimetres."""
    c = frames[0].camera
    for name in ("rgb", "depth"):
        (folder / "frames" / name / "Camera_0").mkdir(parents=True)
    names = [f"{r},{k}" for r in "123" for k in "123t"]
    extrinsic, intrinsic = [f"frame cameraID {' '.join(names)} 0 0 0 1"], ["frame cameraID fx fy cx cy"]
    for f in frames:
        write_rgb(folder / "frames" / "rgb" / "Camera_0" / f"rgb_{f.index:05d}.jpg", f.rgb)
        write_depth(folder / "frames" / "depth" / "Camera_0" / f"depth_{f.index:05d}.png", f, 100)
        for camera, right_m in ((0, 0.0), (1, 0.53)):
            T = inverse(pose_of(f))
            T[0, 3] -= right_m
            extrinsic.append(f"{f.index} {camera} " + " ".join(f"{x:.9f}" for x in T.ravel()))
            intrinsic.append(f"{f.index} {camera} {c.fx} {c.fy} {c.cx} {c.cy}")
    (folder / "extrinsic.txt").write_text("\n".join(extrinsic) + "\n")
    (folder / "intrinsic.txt").write_text("\n".join(intrinsic) + "\n")
    return folder


def write_depth(path: Path, frame: Frame, units_per_m: float) -> None:
    depth_m = frame.depth_m
    assert depth_m is not None
    assert cv2.imwrite(str(path), np.round(depth_m * units_per_m).clip(0, 65535).astype(np.uint16))


def pose_of(frame: Frame) -> np.ndarray:
    assert frame.T_world_cam is not None
    return frame.T_world_cam


def world_points(frame: Frame) -> np.ndarray:
    """All pixels in the world, metres."""
    depth_m = frame.depth_m
    assert depth_m is not None
    return transform(pose_of(frame), pixel_rays(frame.camera) * depth_m[..., None])
