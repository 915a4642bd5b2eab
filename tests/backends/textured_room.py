"""The box room of `room.py` with textured walls: images with exact depth and pose, and front ends that see it."""

from functools import cache

import cv2
import numpy as np

from remov3r.camera import Camera
from remov3r.geometry import inverse, pixel_rays, unproject
from remov3r.protocols import Backend, FrontEnd
from remov3r.types import DensePrediction, Frame, FrameEstimate, TrackedPose
from tests.backends.room import CAMERA, HIGH, LOW, pose, room_depth

_TEXTURES = [
    cv2.GaussianBlur(np.random.default_rng(i).integers(0, 256, (256, 256, 3)).astype(np.float32), (0, 0), 1.6)
    for i in range(6)
]


def render(T_world_cam: np.ndarray, camera: Camera = CAMERA) -> np.ndarray:
    """The room's image; each wall carries blurred noise, 2 cm a texel."""
    depth = room_depth(T_world_cam, camera)
    points = (pixel_rays(camera) * depth[..., None]) @ T_world_cam[:3, :3].T + T_world_cam[:3, 3]
    gaps = np.concatenate([np.abs(points - LOW), np.abs(points - HIGH)], -1)
    wall = gaps.argmin(-1)
    rgb = np.zeros((camera.height, camera.width, 3), np.float32)
    for i in range(6):
        u, v = (points[..., [1, 0, 0][i % 3]], points[..., [2, 2, 1][i % 3]])
        there = cv2.remap(
            _TEXTURES[i], ((u + 2) / 0.02).astype(np.float32), ((v + 2) / 0.02).astype(np.float32),
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP,
        )  # fmt: skip
        rgb[wall == i] = there[wall == i]
    return np.clip((rgb - 128) * 4 + 128, 0, 255).astype(np.uint8)


def path(count: int) -> np.ndarray:
    """A gentle hand-held path before a corner of the room that comes back to where it starts."""
    t = np.linspace(0, 2 * np.pi, count)
    return np.stack(
        [
            pose(0.25 * np.sin(a), 0.1 * np.sin(2 * a), 0.2 * (1 - np.cos(a)), 0.6 + 0.1 * np.sin(a), -0.15)
            for a in t
        ]
    )


def frames(poses: np.ndarray, blank: range = range(0)) -> list[Frame]:
    """Frames with exact depth and pose (the world is the first camera); those in `blank` are black."""
    truth = relative(poses)
    black = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    seen = [_rendered(T.tobytes()) for T in poses]
    return [
        Frame(i, i / 30, black if i in blank else rgb, CAMERA, depth_m, truth[i])
        for i, (rgb, depth_m) in enumerate(seen)
    ]


@cache
def _rendered(T_world_cam: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Image and depth; tests share paths, and a still camera sees one image."""
    T = np.frombuffer(T_world_cam).reshape(4, 4)
    return render(T), room_depth(T).astype(np.float32)


def relative(poses: np.ndarray) -> np.ndarray:
    """The poses in the frame of the first one."""
    return np.asarray(inverse(poses[0]) @ poses)


class DepthOnlyFrontEnd:
    """Gives the exact depth times a factor of each keyframe, with a network's doubt; measures no motion."""

    def __init__(self, factors: tuple[float, ...] = (1.0,), relative_sigma: float = 0.15) -> None:
        self._factors, self._relative_sigma = factors, relative_sigma
        self._keyframes: list[int] = []

    def process(self, frame: Frame) -> FrameEstimate:
        """Pass on; the first frame is a keyframe."""
        self._frame = frame
        if not self._keyframes:
            return self.promote()
        return FrameEstimate(frame.index, self._keyframes[-1], np.eye(4), covariance=np.eye(6) * 100)

    def prepare(self, frame: Frame) -> None:
        """Work ahead on nothing."""

    def promote(self) -> FrameEstimate:
        """Make the last frame a keyframe."""
        frame = self._frame
        assert frame.depth_m is not None
        depth = frame.depth_m * np.float32(self._factors[len(self._keyframes) % len(self._factors)])
        self._keyframes.append(frame.index)
        ones = np.ones_like(depth)
        dense = DensePrediction(
            frame.camera,
            depth,
            ones,
            unproject(depth, frame.camera),
            ones,
            depth * np.float32(self._relative_sigma),
        )
        return FrameEstimate(frame.index, frame.index, np.eye(4), covariance=np.eye(6) * 100, dense=dense)


class ExactFrontEnd(DepthOnlyFrontEnd):
    """Knows its motion as well; makes a keyframe every ten frames."""

    def process(self, frame: Frame) -> FrameEstimate:
        """Give the exact transform to the keyframe."""
        self._frame = frame
        assert frame.T_world_cam is not None
        if not self._keyframes or frame.index - self._keyframes[-1] >= 10:
            return self.promote()
        T_key_cam = inverse(self._T_world_key) @ frame.T_world_cam
        return FrameEstimate(frame.index, self._keyframes[-1], T_key_cam, covariance=np.eye(6) * 1e-4)

    def promote(self) -> FrameEstimate:
        """Make the last frame a keyframe, with its place in the world."""
        made = super().promote()
        assert self._frame.T_world_cam is not None
        self._T_world_key = self._frame.T_world_cam
        return FrameEstimate(
            made.frame_index, made.keyframe_index, np.eye(4), self._T_world_key,
            covariance=np.eye(6) * 1e-4, dense=made.dense,
        )  # fmt: skip


def drive(sequence: list[Frame], front_end: FrontEnd, backend: Backend) -> list[TrackedPose]:
    """The pipeline's loop."""
    answers = []
    for frame in sequence:
        estimate = front_end.process(frame)
        tracked = backend.track(frame, estimate)
        if estimate.is_keyframe or backend.wants_keyframe():
            if not estimate.is_keyframe:
                estimate = front_end.promote()
            tracked = backend.add_keyframe(frame, estimate)
        answers.append(tracked)
    return answers


def position_errors(backend: Backend, poses: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Distance of every pose from the truth, both from the first camera; estimates are multiplied by scale."""
    estimated = backend.poses()
    return np.array(
        [np.linalg.norm(scale * estimated[i][:3, 3] - T[:3, 3]) for i, T in enumerate(relative(poses))]
    )
