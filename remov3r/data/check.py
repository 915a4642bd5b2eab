"""Check a sequence for the traps of data sets before hours of training go into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from remov3r.data.check_files import check_files
from remov3r.data.check_geometry import Sample, check_depth_range, check_geometry, pairs, sample
from remov3r.data.check_order import check_order
from remov3r.data.faults import DamagedFile, MissingFile, PoseFault
from remov3r.data.findings import Finding, some
from remov3r.data.sources import DEPTH_SETS, open_source
from remov3r.data.stream import StreamedSource
from remov3r.errors import DataError
from remov3r.types import Frame

_SMALL = (16, 12)
_CONSTANT = 2.0  # standard deviation of the grey values of a picture that shows nothing
_FEW_POSES = 0.5


@dataclass
class _Seen:
    """What is kept of each frame while the sequence is read once."""

    indices: list[int] = field(default_factory=list)
    small: list[np.ndarray] = field(default_factory=list)
    depths_m: list[float] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    unreadable: list[DataError] = field(default_factory=list)


def check_sequence(
    path: Path,
    dataset: str,
    camera: str | None = None,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> list[Finding]:
    """Read every frame of a sequence, with its depth where its layout has any, and say what is wrong with it.

    Args:
        dataset: its layout, one of `remov3r.data.sources.DEPTH_SETS` or `POSE_SETS`.
        camera: intrinsics or calibration file, where the data set's own will not do.
        on_frame: called with the number of frames read and their total.
    Returns:
        Errors first; without errors the data can be trained on.
    """
    findings = check_files(path, dataset)
    try:
        source = open_source(path, dataset, camera, sensor=dataset in DEPTH_SETS)
    except DataError as error:
        return findings or [_refusal(error)]
    seen = _read(source, on_frame)
    named = {f.trap for f in findings}
    refusals = [f for f in map(_refusal, seen.unreadable[:1]) if f.trap not in named]
    findings += refusals + _images(seen) + _poses(source)
    order, apart = _order(source, seen)
    findings += order
    if not apart:  # else depth and poses cannot agree, and why is said already
        findings += _geometry(source, seen)
    return sorted(findings, key=lambda f: ("error", "warning", "note").index(f.level))


def _read(source: StreamedSource, on_frame: Callable[[int, int], None]) -> _Seen:
    seen, indices = _Seen(), list(source.poses())
    for done, index in enumerate(indices, 1):
        try:
            frame = next(iter(source.frames([index])))
        except DataError as error:
            seen.unreadable.append(error)
            continue
        grey = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)
        if grey.std() < _CONSTANT:
            seen.constant.append(str(index))
        seen.indices.append(index)
        seen.small.append(np.asarray(cv2.resize(grey, _SMALL, interpolation=cv2.INTER_AREA)).ravel() / 255)
        if frame.depth_m is not None and (valid := frame.depth_m[frame.depth_m > 0]).size:
            seen.depths_m.append(float(np.median(valid)))
        elif frame.depth_m is not None:
            seen.empty.append(str(index))
        on_frame(done, len(indices))
    return seen


def _refusal(error: DataError) -> Finding:
    """Turn what a reader refuses into a finding."""
    said = str(error)
    if isinstance(error, PoseFault):
        cause = "a lost track written as numbers, a scale in the rotation, or columns in another order"
        return Finding("error", "pose", said, cause, "remove the frame, or write a rotation and metres")
    if isinstance(error, MissingFile):
        fix = "copy what is missing, or remove the other files of the frame"
        return Finding("error", "missing pair", said, "an export or copy that was not complete", fix)
    if isinstance(error, DamagedFile):
        fix = "copy or export the file again, or remove its frame"
        return Finding("error", "truncated file", said, "cut short or written in another format", fix)
    return Finding("error", "unreadable", said, "not as the layout is (docs/data.md)", "as the message says")


def _images(seen: _Seen) -> list[Finding]:
    findings = []
    if seen.constant:
        said = f"one even colour in frames {some(seen.constant)}"
        cause = "a covered lens, or an empty buffer was written"
        fix = "remove these frames with their depth and poses"
        findings.append(Finding("error", "constant image", said, cause, fix))
    if seen.empty:
        said = f"no valid depth in frames {some(seen.empty)}"
        cause = "too near, too far or too bright for the sensor, or an empty buffer was written"
        findings.append(
            Finding("warning", "empty depth", said, cause, "remove these frames if there are many")
        )
    return findings


def _poses(source: StreamedSource) -> list[Finding]:
    poses = list(source.poses().values())
    lost = sum(pose is None for pose in poses)
    if lost == len(poses):
        return [Finding("note", "no poses", "no frame has a pose: good for the depth stage alone")]
    if lost == 0:
        return []
    said = f"{lost} of {len(poses)} frames have no pose; clips end there"
    if lost <= _FEW_POSES * len(poses):
        return [Finding("note", "lost poses", said)]
    return [Finding("warning", "lost poses", said, "tracking was lost", "leave this sequence out")]


def _order(source: StreamedSource, seen: _Seen) -> tuple[list[Finding], bool]:
    if len(seen.indices) < 2:
        return [], False
    poses, unknown = source.poses(), np.full((4, 4), np.nan)
    T = np.stack([unknown if (p := poses[i]) is None else p for i in seen.indices])
    known = T if np.isfinite(T).any() else None
    return check_order(np.stack(seen.small), known, [str(i) for i in seen.indices])


def _geometry(source: StreamedSource, seen: _Seen) -> list[Finding]:
    samples: dict[int, Sample | None] = {}

    def at(position: int) -> Sample | None:
        index = seen.indices[position]
        if index not in samples:
            frame: Frame = next(iter(source.frames([index])))
            samples[index] = sample(frame)
        return samples[index]

    chosen = [(at(i), at(j)) for i, j in pairs(len(seen.indices))]
    found = check_geometry([(a, b) for a, b in chosen if a is not None and b is not None])
    if any(f.trap in ("depth scale", "pose scale") for f in found):
        return found
    return found + check_depth_range(seen.depths_m)
