"""What a run remembers of its frames, and the trajectories and notes that come of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import cv2
import numpy as np

from remov3r.backends.keyframe_store import KeyframeStore
from remov3r.camera import Camera
from remov3r.errors import ShapeError, TrackingError
from remov3r.geometry import project_to_se3
from remov3r.pipelines.thinning import at_most_wide
from remov3r.types import (
    Covariance,
    Frame,
    FrameEstimate,
    Keyframe,
    Pose,
    TrackedPose,
    TrackingState,
    Trajectory,
)


class Recording:
    """Every frame's online pose and every keyframe's image and depth, in the order of arrival.

    Only the latest keyframes are in memory; the others wait in a temporary folder, which `close` removes.
    """

    def __init__(self, keyframe_width: int) -> None:
        self._keyframe_width = keyframe_width
        self._tracked: list[TrackedPose] = []
        self._keyframes = KeyframeStore()
        self._lost: set[int] = set()
        self._camera: Camera | None = None

    def __len__(self) -> int:
        return len(self._tracked)

    def add(self, tracked: TrackedPose) -> None:
        """Remember the online pose of a frame."""
        self._tracked.append(tracked)
        if tracked.state is TrackingState.LOST:
            self._lost.add(tracked.frame_index)

    def add_keyframe(self, frame: Frame, estimate: FrameEstimate) -> None:
        """Remember a keyframe, not larger than allowed; its image is kept at the size of its depth only.

        Raises:
            ShapeError: the estimate has no dense prediction.
        """
        if estimate.dense is None:
            raise ShapeError(f"frame {frame.index}: the front end gave a keyframe without depth")
        self._camera = frame.camera
        dense = at_most_wide(estimate.dense, self._keyframe_width)
        size = (dense.camera.width, dense.camera.height)
        rgb = np.asarray(cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        pose = np.eye(4)  # until the end, when `keyframes` gives the optimised one
        self._keyframes.put(Keyframe(frame.index, frame.timestamp_s, rgb, pose, dense, dense))

    @property
    def keyframe_count(self) -> int:
        """How many keyframes there are so far."""
        return len(self._keyframes)

    @property
    def camera(self) -> Camera:
        """The camera of the full-size frames."""
        self.check_not_empty()
        assert self._camera is not None  # the first frame is a keyframe
        return self._camera

    def check_not_empty(self) -> None:
        """Raise TrackingError unless at least one frame was tracked."""
        if not self._tracked:
            raise TrackingError("no frame was tracked, so there is nothing to finish")

    def keyframes(self, poses: Mapping[int, Pose]) -> Iterator[Keyframe]:
        """Yield the keyframes at their optimised poses, not yet aligned."""
        for k in self._keyframes:
            yield replace(k, T_world_cam=poses[k.frame_index])

    def online(self) -> Trajectory:
        """Return the poses as they were when first given out."""
        return self._trajectory([t.T_world_cam for t in self._tracked])

    def trajectory(
        self, poses: Mapping[int, Pose], covariances: Mapping[int, Covariance] | None = None
    ) -> Trajectory:
        """Return the final poses; a frame whose covariance is not known has NaN there, None when no frame's is."""
        final = self._trajectory([poses[t.frame_index] for t in self._tracked])
        if not covariances:
            return final
        unknown = np.full((6, 6), np.nan)
        known = np.stack([covariances.get(t.frame_index, unknown) for t in self._tracked])
        return replace(final, covariances=known)

    def _trajectory(self, poses: list[Pose]) -> Trajectory:
        return Trajectory(
            frame_index=np.array([t.frame_index for t in self._tracked], np.int64),
            timestamps_s=np.array([t.timestamp_s for t in self._tracked], np.float64),
            # Products of many matrices drift from SO(3), which evo and others refuse.
            T_world_cam=project_to_se3(np.stack(poses)),
            is_keyframe=np.array([t.is_keyframe for t in self._tracked], bool),
            state=tuple(t.state for t in self._tracked),
        )

    def was_lost(self, frame_index: int) -> bool:
        """Whether tracking was lost at this frame; its depth would then be fused in the wrong place."""
        return frame_index in self._lost

    def notes(self, meshed: bool, wanted: bool) -> tuple[str, ...]:
        """Say in words what is worse than it should be.

        Args:
            meshed: whether there is a mesh.
            wanted: whether the configuration asks for one.
        """
        notes = list(lost_stretches(self.online()))
        if len(self) == 1:
            notes.append("only one frame: no motion, so the scale and the map rest on its depth alone")
        if not wanted:
            notes.append("no mesh and no cloud: switched off (mesh = false)")
        elif not meshed:
            notes.append("no mesh: no surface was seen in any keyframe's depth")
        return (*notes, *self._keyframes.notes)

    def close(self) -> None:
        """Forget the keyframes and remove the folder that they were in."""
        self._keyframes.close()


def lost_stretches(trajectory: Trajectory) -> Iterator[str]:
    """Name each run of frames without a measured pose, and whether tracking came back."""
    lost = np.array([state is TrackingState.LOST for state in trajectory.state])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lost, [False]]).astype(int)))
    for first, end in zip(edges[::2], edges[1::2]):
        frames = f"frames {trajectory.frame_index[first]} to {trajectory.frame_index[end - 1]}"
        times = f"{trajectory.timestamps_s[first]:.2f} s to {trajectory.timestamps_s[end - 1]:.2f} s"
        after = "and not regained" if end == len(lost) else "then regained"
        yield f"tracking lost in {frames} ({times}), {after}"


def grouped(notes: Iterable[str]) -> tuple[str, ...]:
    """Put notes that say the same of several frames into one, with their number, the first and the last frame."""
    said: dict[str, list[str]] = {}  # frames by what is said of them; no frame: the note is about none
    counted: dict[str, int] = {}  # frames in all of "5 frames ... (first 23) ..."
    for note in notes:
        of_frame = re.fullmatch(r"frame (\d+): (.*)", note, re.DOTALL)
        of_some = re.fullmatch(r"(\d+) frames (.*) \(first (\d+)\)(.*)", note, re.DOTALL)
        if of_some:
            count, what, frame, more = of_some.groups()
            text = f"{what}{more}"
            counted[text] = counted.get(text, 0) + int(count)
        else:
            frame, text = of_frame.groups() if of_frame else ("", note)
        said.setdefault(text, []).append(frame)
    return tuple(
        f"{counted[text]} frames {text} (first {frames[0]})" if text in counted else _as_one(text, frames)
        for text, frames in said.items()
    )


def _as_one(text: str, frames: list[str]) -> str:
    if len(frames) == 1:
        return f"frame {frames[0]}: {text}" if frames[0] else text
    if not all(frames):
        return f"{text} ({len(frames)} times)"
    return f"frames {frames[0]} to {frames[-1]}, {len(frames)} times: {text}"
