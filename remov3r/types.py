"""The types that cross each seam of the pipeline; nothing else does (no dicts, no loose tuples).

Poses are `T_a_b`: they map coordinates in frame b to frame a. Camera axes are x right, y down, z forward
(OpenCV); the centre of the top-left pixel is (0, 0); lengths are metres, times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from remov3r.camera import Camera

Pose = Float[np.ndarray, "4 4"]
Covariance = Float[np.ndarray, "6 6"]
Image = UInt8[np.ndarray, "h w 3"]
DepthMap = Float[np.ndarray, "h w"]


class PoseKind(StrEnum):
    """Where a relative pose comes from."""

    LOCAL = "local"
    GLOBAL = "global"
    REFINED = "refined"
    LOOP = "loop"


class TrackingState(StrEnum):
    """How far a pose can be trusted."""

    OK = "ok"  # measured from tracked features
    WEAK = "weak"  # only the front end's own transform or the motion model held it up
    LOST = "lost"  # nothing held; the pose repeats the last good one


@dataclass(frozen=True)
class Frame:
    """One image of a sequence.

    Attributes:
        index: position in the source's own numbering, 0-based, before --stride and --start.
        timestamp_s: the source's own clock.
        rgb: uint8, RGB order.
        depth_m: z-depth registered to `camera`, 0 = missing; None where there is no sensor.
        T_world_cam: ground-truth pose; None where there is none.
    """

    index: int
    timestamp_s: float
    rgb: Image
    camera: Camera
    depth_m: DepthMap | None = None
    T_world_cam: Pose | None = None


@dataclass(frozen=True)
class DensePrediction:
    """Dense geometry of one frame, at the prediction's own size (`camera` is the camera at that size).

    Attributes:
        depth_m: z-depth in metres; 0 = missing.
        depth_confidence: the loss's c (paper eq. 1); 0 where depth is missing.
        points_cam: points in the camera frame; NaN-free, (0, 0, 0) where missing.
        points_confidence: the same for the points.
        sigma_m: standard deviation of the depth in metres; infinite where missing.
    """

    camera: Camera
    depth_m: DepthMap
    depth_confidence: DepthMap
    points_cam: Float[np.ndarray, "h w 3"]
    points_confidence: DepthMap
    sigma_m: DepthMap


@dataclass(frozen=True)
class FrameEstimate:
    """What a front end says of one frame.

    Attributes:
        frame_index: index of the frame, as in `Frame.index`.
        keyframe_index: frame index of its keyframe; its own index when it is one.
        T_key_cam: the paper's local transform; identity on keyframes.
        T_world_key: the paper's global transform; on keyframes only.
        pose_embedding: the frame's pose token; None for front ends without one.
        covariance: of `T_key_cam`, rotation first then translation, in the camera's frame; None if unknown.
        dense: on keyframes only.
    """

    frame_index: int
    keyframe_index: int
    T_key_cam: Pose
    T_world_key: Pose | None = None
    pose_embedding: Float[np.ndarray, " d"] | None = None
    covariance: Covariance | None = None
    dense: DensePrediction | None = None

    @property
    def is_keyframe(self) -> bool:
        """Whether the front end started a keyframe here."""
        return self.keyframe_index == self.frame_index


@dataclass(frozen=True)
class RelativePose:
    """The measured transform between two frames.

    Attributes:
        covariance: 6×6, rotation first then translation, in the `to` frame; None if unknown.
        inliers: feature matches that agree with it; 0 where none were used.
    """

    from_index: int
    to_index: int
    T_from_to: Pose
    kind: PoseKind
    covariance: Covariance | None = None
    inliers: int = 0


@dataclass(frozen=True)
class TrackedPose:
    """What tracking returns for each frame as it arrives: the online pose and how good it is."""

    frame_index: int
    timestamp_s: float
    T_world_cam: Pose
    state: TrackingState
    is_keyframe: bool
    relative: RelativePose


@dataclass(frozen=True)
class Trajectory:
    """Poses over time.

    Attributes:
        frame_index: index of each frame in its source.
        covariances: one 6×6 per pose (rotation first, camera frame; NaN where not known) or None.
        scale: "metric" when translations are metres, "unknown" otherwise.
        is_keyframe: which of the poses are keyframes.
        state: one `TrackingState` per pose.
    """

    frame_index: Int[np.ndarray, " n"]
    timestamps_s: Float[np.ndarray, " n"]
    T_world_cam: Float[np.ndarray, "n 4 4"]
    is_keyframe: Bool[np.ndarray, " n"]
    state: tuple[TrackingState, ...]
    scale: str = "metric"
    covariances: Float[np.ndarray, "n 6 6"] | None = None

    def __len__(self) -> int:
        return len(self.timestamps_s)

    def keyframes(self) -> Trajectory:
        """Return the keyframes alone."""
        keep = self.is_keyframe
        return Trajectory(
            self.frame_index[keep],
            self.timestamps_s[keep],
            self.T_world_cam[keep],
            self.is_keyframe[keep],
            tuple(s for s, k in zip(self.state, keep) if k),
            self.scale,
            None if self.covariances is None else self.covariances[keep],
        )


@dataclass(frozen=True)
class Keyframe:
    """A keyframe after optimisation: its pose and its depth aligned to the landmarks.

    Attributes:
        rgb: at the size of `dense.camera`.
        dense: the depth as the front end gave it.
        aligned: the depth after alignment to the triangulated landmarks (`dense` where none were seen).
    """

    frame_index: int
    timestamp_s: float
    rgb: Image
    T_world_cam: Pose
    dense: DensePrediction
    aligned: DensePrediction


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in the world frame; colours are 0..1, triangles index vertices."""

    vertices_m: Float[np.ndarray, "v 3"]
    triangles: Int[np.ndarray, "t 3"]
    colors: Float[np.ndarray, "v 3"]
    normals: Float[np.ndarray, "v 3"]


@dataclass(frozen=True)
class PointCloud:
    """Coloured points in the world frame; colours are 0..1."""

    points_m: Float[np.ndarray, "p 3"]
    colors: Float[np.ndarray, "p 3"]
    normals: Float[np.ndarray, "p 3"]


@dataclass(frozen=True)
class StageTiming:
    """Time spent in one named stage."""

    median_ms: float
    p99_ms: float
    calls: int


@dataclass(frozen=True)
class Timings:
    """Speed of a run: end to end after the first frame, reading included, and by stage."""

    frames_per_s: float
    stages: dict[str, StageTiming]
    peak_rss_mb: float


@dataclass(frozen=True)
class Reconstruction:
    """Everything a run produces.

    Attributes:
        trajectory: final poses, every frame re-anchored to its optimised keyframe.
        online: the poses as they were when first given out.
        notes: what was degraded, in words (tracking lost, optimisation rejected, no mesh ...).
    """

    trajectory: Trajectory
    online: Trajectory
    keyframes: tuple[Keyframe, ...]
    timings: Timings
    mesh: Mesh | None = None
    cloud: PointCloud | None = None
    notes: tuple[str, ...] = field(default=())
