"""What may be wrong with two trajectories that are compared, in one line each: what was seen, likely cause, fix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from remov3r.geometry import inverse, project_to_se3, rotation_angle_rad
from remov3r.types import Trajectory

Poses = Float[np.ndarray, "n 4 4"]
Times = Float[np.ndarray, " n"]
OtherTimes = Float[np.ndarray, " m"]

_INVERSE = "world-to-camera poses; invert each of its poses"
_OPENGL = (
    "camera axes with y up and z backward (OpenGL); multiply each of its poses from the right by "
    "diag(1, -1, -1, 1)"
)
_AXES = np.diag([1.0, -1.0, -1.0, 1.0])
_FEW = 0.5  # of the shorter trajectory
_BAD_SHARE, _BAD_DEG = 0.05, 3.0  # a fit better than this needs no explanation
_BETTER, _NO_WORSE = 0.5, 1.1  # a hypothesis: so much better in one measure, no worse in the other
_SHUFFLED, _SMOOTH = 0.7, 0.5  # mean step over the mean distance of poses drawn at random
_UNITS = {1e-3: "millimetres", 1e-2: "centimetres", 1e3: "kilometres"}
_TIME_UNITS = {1e9: "nanoseconds", 1e6: "microseconds", 1e3: "milliseconds"}


def unusable(trajectory: Trajectory, what: str) -> str | None:
    """Say why a trajectory cannot be compared: empty, NaN, times that do not increase; None when it can.

    Args:
        what: "estimate" or "reference", for the message.
    """
    T, times = trajectory.T_world_cam, trajectory.timestamps_s
    if len(times) == 0:
        return f"the {what} trajectory holds no poses: tracking never started, or this is another file"
    bad = np.flatnonzero(~np.isfinite(T).all((1, 2)) | ~np.isfinite(times))
    if len(bad):
        return (
            f"the {what} trajectory holds NaN or infinite values in {len(bad)} of {len(T)} poses, first in pose "
            f"{bad[0]}: likely written while tracking was lost; leave those lines out"
        )
    back = np.flatnonzero(np.diff(times) <= 0)
    if len(back):
        return (
            f"the {what} trajectory's timestamps do not increase after pose {back[0]} ({len(back)} such places): "
            f"likely shuffled lines, repeated poses or two runs in one file; sort by time, one line for each time"
        )
    return None


def no_common_times(estimate_s: Times, reference_s: OtherTimes, tolerance_s: float) -> str:
    """Say why no timestamp of the one is near one of the other."""
    a, b = estimate_s, reference_s
    seen = (
        f"no timestamp of the estimate ({a[0]:.3f}..{a[-1]:.3f} s) lies within {tolerance_s} s of one of the "
        f"reference ({b[0]:.3f}..{b[-1]:.3f} s): likely"
    )
    ratio = float(np.median(a) / np.median(b)) if np.median(a) > 0 and np.median(b) > 0 else 1.0
    for factor, unit in _TIME_UNITS.items():
        for which, r in (("estimate", ratio), ("reference", 1 / ratio)):
            if 0.9 < r / factor < 1.1:
                return f"{seen} the {which}'s times are {unit}; divide them by {factor:.0e}"
    if len(a) > 1 and np.array_equal(a, np.round(a)) and np.median(np.diff(a)) <= 10 and a[0] < 1e6:
        return f"{seen} the estimate's times are frame numbers; write the time of each frame in seconds"
    if (a[0] < 1e6) != (b[0] < 1e6):
        late = "reference" if a[0] < 1e6 else "estimate"
        return f"{seen} one clock starts at zero; subtract {max(a[0], b[0]):.3f} from the {late}'s times"
    if a[0] <= b[-1] and b[0] <= a[-1]:
        return f"{seen} two clocks a little apart or another frame rate; shift the times or allow more (--tolerance)"
    return f"{seen} another recording or another clock; give the reference of this recording"


def suspicions(
    estimate: Poses, reference: Poses, scale: float | None, lengths: tuple[int, int], tolerance_s: float
) -> tuple[str, ...]:
    """Look for input that can be compared but hardly means what its reader thinks.

    Args:
        estimate, reference: poses that belong together in time.
        scale: that brings the estimate onto the reference; None where unknown.
        lengths: poses of the whole estimate and of the whole reference.
    """
    found = [_few(len(estimate), lengths, tolerance_s)]
    if len(estimate) >= 8:
        found += [_shuffled(estimate, reference), _inverted(estimate, reference)]
    found.append(_unit(scale))
    return tuple(text for text in found if text)


def _few(matched: int, lengths: tuple[int, int], tolerance_s: float) -> str:
    if matched >= _FEW * min(lengths):
        return ""
    return (
        f"only {matched} of {lengths[0]} estimated and {lengths[1]} reference poses lie within {tolerance_s} s of "
        "each other: likely another clock or rate, or much lost tracking; shift the times or allow more (--tolerance)"
    )


def _unit(scale: float | None) -> str:
    for factor, unit in _UNITS.items():
        if scale is not None and 0.8 < scale / factor < 1.25:
            number = f"divide its translations by {1 / factor:.0f}"
            other = f"multiply its translations by {factor:.0f}"
            return f"the scale is {scale:.3g}: likely the estimate is in {unit}; {number if factor < 1 else other}"
    return ""


def _shuffled(estimate: Poses, reference: Poses) -> str:
    if _roughness(reference) > _SMOOTH or _roughness(estimate) < _SHUFFLED:
        return ""
    return (
        "neighbouring poses of the estimate are as far apart as poses drawn at random, the reference moves smoothly: "
        "likely the timestamps were shuffled or given to the wrong frames; pair each pose with its own frame's time"
    )


def _roughness(T: Poses) -> float:
    """Mean distance of neighbours over that of poses drawn at random, metres of the path's extent and radians."""
    extent = max(_extent(T), 1e-12)

    def apart(i: np.ndarray, j: np.ndarray) -> float:
        between = inverse(T[i]) @ T[j]
        turn = rotation_angle_rad(between)
        return float((np.linalg.norm(between[:, :3, 3], axis=1) / extent + turn).mean())

    i, j = np.random.default_rng(0).integers(len(T), size=(2, 1000))
    n = np.arange(len(T))
    random = apart(i[i != j], j[i != j])
    return apart(n[:-1], n[1:]) / random if random > 1e-3 else 0.0


@dataclass(frozen=True)
class _Fit:
    """How far poses are from others after the best turn, scale and shift: share of the extent, and degrees."""

    share: float
    deg: float

    def explains(self, other: _Fit) -> bool:
        better = self.share < _BETTER * other.share or self.deg < _BETTER * other.deg
        return better and self.share <= _NO_WORSE * other.share and self.deg <= _NO_WORSE * other.deg

    @property
    def good(self) -> bool:
        return self.share < _BAD_SHARE and self.deg < _BAD_DEG


def _inverted(estimate: Poses, reference: Poses) -> str:
    as_given = _fit(estimate, reference)
    if as_given.good:
        return ""
    fits = (
        ("the estimate", _INVERSE, _fit(inverse(estimate), reference)),
        ("the reference", _INVERSE, _fit(estimate, inverse(reference))),
        ("one of the two", _OPENGL, _fit(estimate @ _AXES, reference)),
    )
    who, what, best = min(fits, key=lambda fit: fit[2].share + fit[2].deg / 90)
    if not best.explains(as_given):
        return ""
    if what == _INVERSE and all(fit.good for _, _, fit in fits[:2]):  # both start at the same pose
        who = "one of the two"
    return (
        f"the poses fit to {as_given.share:.0%} of the path's extent and {as_given.deg:.1f} deg as given, to "
        f"{best.share:.0%} and {best.deg:.1f} deg otherwise: likely {who} has {what}"
    )


def _fit(estimate: Poses, reference: Poses) -> _Fit:
    """Turn by the mean rotation between the two, then scale (not below 0) and shift the centres."""
    turns = reference[:, :3, :3] @ np.swapaxes(estimate[:, :3, :3], 1, 2)
    mean = np.eye(4)
    mean[:3, :3] = turns.mean(0)
    R = project_to_se3(mean)
    rest = inverse(R) @ _rotations(turns)
    a = estimate[:, :3, 3] @ R[:3, :3].T
    a, b = a - a.mean(0), reference[:, :3, 3] - reference[:, :3, 3].mean(0)
    scale = max(float((a * b).sum() / max((a * a).sum(), 1e-300)), 0.0)
    off = np.sqrt(((scale * a - b) ** 2).sum(1).mean())
    return _Fit(
        float(off / max(_extent(reference), 1e-12)), float(np.degrees(rotation_angle_rad(rest)).mean())
    )


def _rotations(R: Float[np.ndarray, "n 3 3"]) -> Poses:
    T = np.tile(np.eye(4), (len(R), 1, 1))
    T[:, :3, :3] = R
    return T


def _extent(T: Poses) -> float:
    """Root of the mean squared distance from the centre."""
    centres = T[:, :3, 3] - T[:, :3, 3].mean(0)
    return float(np.sqrt((centres**2).sum(1).mean()))
