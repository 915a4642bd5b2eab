"""Look for what is wrong with a recording before a backend is run on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from remov3r.data.check_geometry import check_depth_range
from remov3r.data.findings import Finding, some
from remov3r.errors import DataError
from remov3r.frontends.recorded.agreement import View, disagreement, pairs_of_views
from remov3r.frontends.recorded.layouts import locate, open_recording
from remov3r.frontends.recorded.neutral import frame_files, read_dense, read_manifest, read_world_frame
from remov3r.frontends.recorded.recording import Recording
from remov3r.geometry import inverse

BETTER = 0.7  # inverted poses are named when depth agrees so much better with them
AGREES = 0.1
MILLIMETRES = 1000.0

OnFrame = Callable[[int, int], None]


def check_recording(name: str, on_frame: OnFrame = lambda done, total: None) -> list[Finding]:
    """Read a recording whole and say what is wrong with it.

    Args:
        name: as in `open_recording`.
        on_frame: called with the number of frames read and their total.
    Returns:
        Errors first; without errors the recording can be used.
    Raises:
        ConfigError: nothing is named.
        DataError: nothing there, or nothing known there.
    """
    kind, path = locate(name)
    try:
        findings = _neutral_files(path) if kind == "remov3r" else []
        if findings:
            return findings
        recording = open_recording(name)
    except DataError as error:
        return [Finding("error", "files", str(error))]
    findings = _frames(recording) + _maps(recording, on_frame)
    if not any(f.level == "error" for f in findings):
        findings += _geometry(recording)
    return sorted(findings, key=lambda f: ("error", "warning", "note").index(f.level))


def _neutral_files(path: Path) -> list[Finding]:
    """Every file that cannot be read, not the first alone."""
    manifest = read_manifest(path)
    found: list[Finding] = []
    try:
        files = frame_files(path, manifest)
    except DataError as error:
        found.append(
            Finding("error", "missing frames", str(error), "the writer was stopped, or files were lost")
        )
        files = sorted(path.glob("[0-9]*.npz"))
    for file in files:
        try:
            if manifest.poses == "world":
                read_world_frame(file, manifest.match)
            read_dense(file)
        except DataError as error:
            trap = "pose" if "pose" in str(error) else "files"
            found.append(
                Finding("error", trap, str(error), fix="write the frame again, without what is wrong")
            )
    return found


def _frames(recording: Recording) -> list[Finding]:
    count, numbers = len(recording.frames), recording.numbers
    found = [
        Finding(
            "note",
            "layout",
            f"{recording.kind}: {count} frames by {recording.match}, scale {recording.scale}",
        )
    ]
    lost = [f"{frame.number:.9g}" for frame in recording.frames if frame.T_world_cam is None]
    if lost:
        found.append(Finding("warning", "lost poses", f"no pose in frames {some(lost)}", "tracking was lost"))
    keyframes_only = all(frame.is_keyframe for frame in recording.frames)
    steps = np.diff(numbers)
    if count > 2 and not keyframes_only:
        after = np.flatnonzero(steps > 1.5 * np.median(steps))
        if len(after):
            said = f"gaps after frames {some([f'{numbers[i]:.9g}' for i in after])}"
            found.append(Finding("warning", "missing frames", said, "frames were dropped or files were lost"))
    return found


def _maps(recording: Recording, on_frame: OnFrame) -> list[Finding]:
    sizes: dict[tuple[int, ...], list[str]] = {}
    depths: list[float] = []
    odd: list[str] = []
    found: list[Finding] = []
    for done, frame in enumerate(recording.frames, 1):
        try:
            dense = frame.load_dense(None)
        except DataError as error:
            found.append(Finding("error", "files", str(error)))
            continue
        on_frame(done, len(recording.frames))
        if dense is None:
            continue
        sizes.setdefault(dense.depth_m.shape, []).append(f"{frame.number:.9g}")
        there = np.isfinite(dense.depth_m) & (dense.depth_m > 0)
        if not np.isfinite(dense.depth_m).all():
            odd.append(f"{frame.number:.9g}")
        if there.any():
            depths.append(float(np.median(dense.depth_m[there])))
    if len(sizes) > 1:
        listed = "; ".join(f"{size[1]}x{size[0]} in {some(names)}" for size, names in sizes.items())
        found.append(
            Finding("error", "sizes", f"maps of different sizes: {listed}", "frames of several runs")
        )
    if odd:
        found.append(
            Finding("warning", "depth", f"NaN or infinite depth in frames {some(odd)}", fix="0 = missing")
        )
    if not sizes:
        found.append(Finding("note", "depth", "no depth that can be read without the source's camera"))
    return found + (check_depth_range(depths) if recording.scale == "metric" else [])


def _geometry(recording: Recording) -> list[Finding]:
    pairs = pairs_of_views(recording)
    as_read = disagreement(pairs)
    if as_read is None:
        return [Finding("note", "reprojection", "no two frames with pose and depth see the same")]
    said = f"depth moved from frame to frame differs by {as_read:.1%} from what is there (median)"
    inverted = disagreement(pairs, inverse)
    scaled = disagreement([(_in_metres(a), _in_metres(b)) for a, b in pairs])
    if inverted is not None and inverted < BETTER * as_read:
        fix = "store their inverses (camera to world)"
        return [Finding("error", "inverted poses", f"{said}; with inverted poses by {inverted:.1%}",
                        "the poses map world to camera", fix)]  # fmt: skip
    if scaled is not None and scaled < BETTER * as_read:
        fix = "divide the depth by 1000"
        return [Finding("error", "depth scale", f"{said}; with a thousandth of the depth by {scaled:.1%}",
                        "the depth is in millimetres, the poses are in metres", fix)]  # fmt: skip
    if as_read > AGREES:
        return [
            Finding("warning", "depth against poses", said, "inexact depth, or poses of another sequence")
        ]
    return [Finding("note", "reprojection", said)]


def _in_metres(view: View) -> View:
    return View(view.number, view.T_world_cam, view.depth_m / MILLIMETRES, view.K)
