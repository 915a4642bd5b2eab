"""Do depth and poses agree? The depth of one frame is moved into another and compared with what is there.

The same is done with the poses inverted, with their axes turned, and with the depth scaled by the factors that
data sets confuse; where one of these agrees much better than the data as they are read, that is the fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from remov3r.camera import Camera
from remov3r.data.findings import Finding
from remov3r.geometry import inverse, pixel_rays
from remov3r.types import Frame, Pose

_WIDTH = 160
_GAPS = (1, 3, 8, 20)
_STARTS = 16
_SEEN = 0.15  # share of the pixels that must land in the other frame
_BETTER = 0.7  # a hypothesis is taken when its error is this much smaller ...
_NO_WORSE = 1.1  # ... and the other measure does not grow by more
_DEPTH_AGREES = 0.03
_PLAUSIBLE_M = (0.1, 100.0)
_AXES = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Sample:
    """One frame at a small size.

    Attributes:
        grey: 0..255.
        depth_m: 0 = missing.
    """

    grey: Float[np.ndarray, "h w"]
    depth_m: Float[np.ndarray, "h w"]
    T_world_cam: Pose
    camera: Camera


@dataclass(frozen=True)
class Agreement:
    """How well pairs of frames fit together.

    Attributes:
        depth: median relative difference of moved and present depth.
        picture: median correlation of the moved grey values with those present.
    """

    depth: float
    picture: float

    def better_than(self, other: Agreement) -> bool:
        """Whether this one is so much better that it is no accident."""
        mine, theirs = (self.depth, 1 - self.picture), (other.depth, 1 - other.picture)
        gains = [m < _BETTER * t for m, t in zip(mine, theirs)]
        keeps = [m <= _NO_WORSE * t for m, t in zip(mine, theirs)]
        return any(gains) and all(keeps)


@dataclass(frozen=True)
class Hypothesis:
    """What may be wrong, and how the data look when it is undone."""

    trap: str
    cause: str
    fix: str
    depth_factor: float = 1.0
    pose: Callable[[Pose], Pose] = lambda T: T


def _hypotheses() -> list[Hypothesis]:
    return [
        Hypothesis("inverted poses", "the poses map world to camera", "store their inverses (camera to world)",
                   pose=inverse),
        Hypothesis("camera axes", "the poses are of a camera with y up and z backward (OpenGL, Blender, ARKit)",
                   "multiply each pose from the right by diag(1, -1, -1, 1)", pose=lambda T: T @ _AXES),
        *(
            Hypothesis("depth scale", f"the depth is stored with {said}", f"multiply the depth read by {factor:.4g}, "
                       "or give the files the units of their layout", factor)
            for factor, said in (
                (1 / 5, "5 times the units a metre (5000, TUM's, for 1000)"),
                (5, "a fifth of the units a metre (1000 for 5000, TUM's)"),
                (1000 / 6553.5, "6.5535 times the units a metre (6553.5, Replica's, for 1000)"),
                (6.5535, "fewer units a metre (1000 for 6553.5, Replica's)"),
                (10, "a tenth of the units a metre (centimetres for millimetres)"),
                (1 / 10, "10 times the units a metre (millimetres for centimetres)"),
                (1000, "a thousandth of the units a metre (metres for millimetres)"),
                (1 / 1000, "1000 times the units a metre (millimetres for metres)"),
            )
        ),
    ]  # fmt: skip


def sample(frame: Frame) -> Sample | None:
    """Reduce a frame for the comparison; None without pose or depth."""
    if frame.T_world_cam is None or frame.depth_m is None:
        return None
    height, width = frame.depth_m.shape
    small = (min(_WIDTH, width), max(round(height * min(_WIDTH, width) / width), 1))
    grey = cv2.resize(cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY), small, interpolation=cv2.INTER_AREA)
    depth = cv2.resize(frame.depth_m, small, interpolation=cv2.INTER_NEAREST)
    camera = frame.camera.resized(*small)
    return Sample(np.asarray(grey, np.float32), np.asarray(depth), frame.T_world_cam, camera)


def pairs(count: int) -> list[tuple[int, int]]:
    """Choose frames to compare: neighbours at several distances, all over the sequence."""
    starts = np.unique(np.linspace(0, max(count - 2, 0), _STARTS).astype(int))
    return [(int(i), int(i) + gap) for i in starts for gap in _GAPS if i + gap < count]


def check_geometry(some_pairs: Sequence[tuple[Sample, Sample]]) -> list[Finding]:
    """Compare the frames of each pair as they are read and under each hypothesis."""
    as_read, *others = _agreements(some_pairs, [Hypothesis("", "", ""), *_hypotheses()])
    if as_read is None:
        return []
    figures = f"relative depth error {as_read.depth:.1%}, correlation of grey values {as_read.picture:.2f}"
    ranked = [(h, a) for h, a in zip(_hypotheses(), others) if a is not None and a.better_than(as_read)]
    if ranked:
        best, agreement = min(ranked, key=lambda r: (1 - r[1].picture) * r[1].depth)
        said = f"{figures}; undone: {agreement.depth:.1%} and {agreement.picture:.2f}"
        return [_as_finding(best, said, _median_depth(some_pairs))]
    if as_read.depth > _DEPTH_AGREES:
        cause = "depth of another camera or time, poses of another sequence, or a wrong calibration"
        return [Finding("error", "depth against poses", figures, cause, "check which files belong together")]
    return [Finding("note", "reprojection", figures)]


def check_depth_range(depths_m: Sequence[float]) -> list[Finding]:
    """Look at the frames' median depths, which are all that tells the scale where there are no poses."""
    median = float(np.median(depths_m)) if len(depths_m) else np.nan
    low, high = _PLAUSIBLE_M
    if not np.isfinite(median) or low <= median <= high:
        return []
    cause = "millimetres read as metres" if median > high else "metres or centimetres read as millimetres"
    fix = "store the units of the layout (docs/data.md)"
    return [Finding("error", "depth scale", f"the median depth is {median:.3g} m", cause, fix)]


def _as_finding(best: Hypothesis, said: str, median_m: float) -> Finding:
    low, high = _PLAUSIBLE_M
    if best.depth_factor != 1 and low <= median_m <= high and not low <= median_m * best.depth_factor <= high:
        unit = "millimetres" if best.depth_factor > 1 else "kilometres"
        fix = f"divide the translations by {best.depth_factor:.4g}"
        return Finding("error", "pose scale", said, f"the depth is plausible: the poses are in {unit}", fix)
    return Finding("error", best.trap, said, best.cause, best.fix)


def _median_depth(some_pairs: Sequence[tuple[Sample, Sample]]) -> float:
    depths = [float(np.median(a.depth_m[a.depth_m > 0])) for a, _ in some_pairs if (a.depth_m > 0).any()]
    return float(np.median(depths))


def _agreements(
    some_pairs: Sequence[tuple[Sample, Sample]], hypotheses: Sequence[Hypothesis]
) -> list[Agreement | None]:
    """Compare all pairs under all hypotheses; pairs that no hypothesis brings together say nothing."""
    table = np.array([[_compare(a, b, h) for h in hypotheses] for a, b in some_pairs]).reshape(
        -1, len(hypotheses), 2
    )
    table = table[np.isfinite(table[..., 0]).any(1)]
    if not len(table):
        return [None] * len(hypotheses)
    depth = np.median(np.where(np.isfinite(table[..., 0]), table[..., 0], 1.0), 0)
    picture = np.median(np.where(np.isfinite(table[..., 1]), table[..., 1], 0.0), 0)
    return [Agreement(float(d), float(p)) for d, p in zip(depth, picture)]


def _compare(a: Sample, b: Sample, hypothesis: Hypothesis) -> tuple[float, float]:
    """Move the depth of a into b: relative difference and correlation, NaN where too little of it lands there."""
    T_b_a = inverse(hypothesis.pose(b.T_world_cam)) @ hypothesis.pose(a.T_world_cam)
    valid = a.depth_m > 0
    lifted = pixel_rays(a.camera)[valid] * (a.depth_m[valid] * hypothesis.depth_factor)[:, None]
    points = lifted @ T_b_a[:3, :3].T + T_b_a[:3, 3]
    front = points[:, 2] > 1e-6
    z = np.where(front, points[:, 2], 1)
    u = np.where(front, b.camera.fx * points[:, 0] / z + b.camera.cx, -9).clip(-9, 9999).astype(np.float32)
    v = np.where(front, b.camera.fy * points[:, 1] / z + b.camera.cy, -9).clip(-9, 9999).astype(np.float32)
    # 1/z is linear in the image of a plane, so that grazing floors are met exactly; missing depth makes gaps
    known = b.depth_m > 0
    nearness = np.where(known, 1 / np.where(known, b.depth_m, 1), 0).astype(np.float32)
    present, whole, grey = (
        np.asarray(cv2.remap(image, u, v, cv2.INTER_LINEAR)).ravel()
        for image in (nearness, known.astype(np.float32), b.grey)
    )
    there = front & (whole > 0.999)
    if there.sum() < max(_SEEN * valid.sum(), 50):
        return np.nan, np.nan
    seen = hypothesis.depth_factor / present[there]
    x, y = a.grey[valid][there], grey[there]
    spread = float(x.std() * y.std())
    correlation = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 1e-6 else 0.0
    return float(np.median(np.abs(z[there] - seen) / seen)), correlation
