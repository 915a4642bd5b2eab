"""Files that are missing or cut short, found without decoding them, so that all are named at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from remov3r.data.findings import Finding, some
from remov3r.data.images import IMAGE_SUFFIXES

# How the end of a complete file looks; some cameras add a few bytes after it.
_ENDS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND"}
_TAIL_BYTES = 64
# TUM's and Bonn's images and depths are matched by their times; KITTI's first and last images have no depth, and
# the depth of its selection has other names: what lacks is named when the frames are read.
_NOT_ONE_TO_ONE = ("tum", "bonn", "kitti", "kitti-selection")
_FOLDERS = {
    "scannet": {"image": "color/*", "depth": "depth/*", "pose": "pose/*"},
    "replica": {"image": "results/frame*", "depth": "results/depth*"},
    "vkitti2": {"image": "frames/rgb/Camera_0/*", "depth": "frames/depth/Camera_0/*"},
    "kitti": {"image": "image_02/data/*", "depth": "proj_depth/groundtruth/image_02/*"},
    "kitti-selection": {"image": "image/*", "depth": "groundtruth_depth/*"},
    "kitti-odometry": {"image": "image_[02]/*"},
    "euroc": {"image": "**/cam0/data/*"},
    "waymo": {"image": "images/*_0.*"},
    "robotcar": {"image": "stereo/centre/*"},
}
_ICL_NUIM_OWN = {"image": "scene_*.png", "depth": "scene_*.depth", "pose": "scene_*.txt"}
_OTHERS = {"image": "rgb/*", "depth": "depth/*"}


def check_files(path: Path, dataset: str) -> list[Finding]:
    """Compare which frames have an image, a depth and a pose, and look at how each image file ends."""
    kinds = _files(path, dataset)
    findings = []
    if dataset not in _NOT_ONE_TO_ONE:
        findings += _missing(kinds)
    images = [
        file for files in kinds.values() for file in files.values() if file.suffix.lower() in IMAGE_SUFFIXES
    ]
    cut = [str(file.relative_to(path)) for file in sorted(images) if not _complete(file)]
    if cut:
        findings.append(
            Finding(
                "error", "truncated file", f"cut short or empty: {some(cut)}",
                "a copy or download that was broken off, or a full disk",
                "copy or export these files again, or remove their frames",
            )
        )  # fmt: skip
    return findings


def _files(path: Path, dataset: str) -> dict[str, dict[str, Path]]:
    """List the files of each kind by the name that they have in common."""
    if dataset == "7scenes":
        endings = {"image": "color.*", "depth": "depth.png", "pose": "pose.txt"}
        return {
            kind: {f.name.split(".")[0]: f for f in path.glob(f"frame-*.{ending}")}
            for kind, ending in endings.items()
        }
    folders = _FOLDERS.get(dataset, _OTHERS)
    if dataset == "icl-nuim" and not (path / "rgb").is_dir():
        folders = _ICL_NUIM_OWN
    prefixes = ("frame", "depth_", "depth", "rgb_")
    return {
        kind: {
            _stem(f, prefixes if dataset in ("replica", "vkitti2") else ()): f
            for f in _visible(path, pattern)
        }
        for kind, pattern in folders.items()
    }


def _visible(path: Path, pattern: str) -> Iterable[Path]:
    return (f for f in path.glob(pattern) if f.is_file() and not f.name.startswith("."))


def _stem(file: Path, prefixes: tuple[str, ...]) -> str:
    prefix = next((p for p in prefixes if file.stem.startswith(p)), "")
    return file.stem.removeprefix(prefix)


def _missing(kinds: dict[str, dict[str, Path]]) -> list[Finding]:
    there = {kind: set(files) for kind, files in kinds.items() if files}
    every = set().union(*there.values())
    findings = []
    for kind, names in there.items():
        absent = sorted(every - names)
        if absent:
            findings.append(
                Finding(
                    "error", "missing pair", f"no {kind} for frames {some(absent)}",
                    "an export or copy that was not complete, or frames removed by hand",
                    "copy what is missing, or remove the other files of these frames (and their lines of poses)",
                )
            )  # fmt: skip
    return findings


def _complete(file: Path) -> bool:
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(size - _TAIL_BYTES, 0))
        end = _ENDS.get(file.suffix.lower(), b"")
        return size > 0 and end in stream.read()
