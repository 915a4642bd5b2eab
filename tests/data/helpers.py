"""Writes miniatures of every input layout, with images and depth whose values are known."""

from pathlib import Path

import cv2
import numpy as np

from remov3r.camera import Camera
from remov3r.types import Frame

WIDTH, HEIGHT = 64, 48
SHARED_DATA = Path(__file__).parents[2].parent / "shared" / "data"


def image(index: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """RGB whose red channel is 10 × index, green a ramp over x, blue a ramp over y."""
    x, y = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    return np.stack([np.full_like(x, 10 * index), x, y], -1).astype(np.uint8)


def depth_mm(index: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """1 m plus 10 mm for each frame, with one missing pixel of each kind."""
    depth = np.full((height, width), 1000 + 10 * index, np.uint16)
    depth[0, 0], depth[0, 1] = 0, 65535
    return depth


def pose(index: int) -> np.ndarray:
    """A camera that turns 0.02 rad and moves 5 cm a frame."""
    a = 0.02 * index
    T_world_cam = np.eye(4)
    T_world_cam[:3, :3] = [[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]
    T_world_cam[:3, 3] = [0.05 * index, 0.01 * index**2, 0]
    return T_world_cam


def true_pose(frame: Frame) -> np.ndarray:
    """The frame's pose, which must be there."""
    assert frame.T_world_cam is not None
    return frame.T_world_cam


def write_rgb(path: Path, rgb: np.ndarray) -> None:
    assert cv2.imwrite(str(path), rgb[..., ::-1])


def write_seven_scenes(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        write_rgb(folder / f"frame-{i:06d}.color.png", image(i))
        cv2.imwrite(str(folder / f"frame-{i:06d}.depth.png"), depth_mm(i))
        np.savetxt(folder / f"frame-{i:06d}.pose.txt", pose(i), delimiter="\t ")
    return folder


def write_posed(folder: Path, count: int) -> Path:
    (folder / "rgb").mkdir(parents=True)
    (folder / "depth").mkdir()
    for i in range(count):
        write_rgb(folder / "rgb" / f"{i:06d}.png", image(i))
        cv2.imwrite(str(folder / "depth" / f"{i:06d}.png"), depth_mm(i))
    (folder / "intrinsics.txt").write_text(f"# fx fy cx cy width height\n60 61 31.5 23.5 {WIDTH} {HEIGHT}\n")
    (folder / "frames.txt").write_text(
        "# source frame number\n" + "".join(f"{3 * i}\n" for i in range(count))
    )
    np.savetxt(folder / "poses.txt", [pose(i).ravel() for i in range(count)])
    return folder


def write_tum_sequence(folder: Path, count: int) -> Path:
    """Colour at 30 Hz from t = 100 s, depth 10 ms later but missing for frame 1, ground truth at 100 Hz."""
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    colors, depths = ["# timestamp filename"], ["# timestamp filename"]
    for i in range(count):
        time = 100 + i / 30
        write_rgb(folder / "rgb" / f"{time:.6f}.png", image(i))
        colors.append(f"{time:.6f} rgb/{time:.6f}.png")
        if i != 1:
            cv2.imwrite(str(folder / "depth" / f"{time + 0.01:.6f}.png"), 5 * depth_mm(i).clip(0, 13000))
            depths.append(f"{time + 0.01:.6f} depth/{time + 0.01:.6f}.png")
    truth = [f"{100 + i / 100:.4f} {0.01 * i} 0 0 0 0 0 1" for i in range(100)]
    for name, lines in (("rgb", colors), ("depth", depths), ("groundtruth", truth)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_folder(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        write_rgb(folder / name, image(i))
    return folder


def write_video(path: Path, count: int, codec: str = "MJPG", fps: float = 25.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for i in range(count):
        writer.write(np.ascontiguousarray(image(i)[..., ::-1]))
    writer.release()
    return path


def plane_frames(count: int, depth_m: float = 2.0) -> list[Frame]:
    """A camera that slides sideways before the plane z = depth_m of the world."""
    camera = Camera(WIDTH, HEIGHT, 60.0, 60.0, 31.5, 23.5)
    frames = []
    for i in range(count):
        T_world_cam = np.eye(4)
        T_world_cam[0, 3] = 0.02 * i
        depth = np.full((HEIGHT, WIDTH), depth_m, np.float32)
        frames.append(Frame(i, i / 30, image(i % 25), camera, depth, T_world_cam))
    return frames
