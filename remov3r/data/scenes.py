"""Find the sequences below a folder, and tell which of them show the same place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from remov3r.data.seven_scenes import sequence_folders
from remov3r.data.sources import DEPTH_SETS, POSE_SETS, detect_dataset
from remov3r.errors import DataError

_DEPTH = 3  # folders below the one given: vkitti2/Scene01/clone


@dataclass(frozen=True)
class FoundSequence:
    """A sequence.

    Attributes:
        dataset: one of `remov3r.data.sources.DEPTH_SETS` or `POSE_SETS`.
        scene: names the place; sequences of one place have it in common.
    """

    path: Path
    dataset: str
    scene: str


def find_sequences(path: Path, dataset: str = "auto", with_depth: bool = True) -> list[FoundSequence]:
    """List the sequences that a folder is or holds, in order of their paths.

    Args:
        dataset: the layout to look for; "auto" takes any.
        with_depth: leave out layouts without depth.
    Raises:
        DataError: no such folder, or nothing in it.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    known = DEPTH_SETS if with_depth else (*DEPTH_SETS, *POSE_SETS)
    kinds = known if dataset == "auto" else tuple({dataset} & set(known))
    found = _below(path, kinds, _DEPTH)
    if not found:
        what = "sequence with depth" if with_depth else "sequence"
        raise DataError(f"{path}: no {what} here or below ({', '.join(kinds) or dataset})")
    return found


def _below(path: Path, kinds: tuple[str, ...], depth: int) -> list[FoundSequence]:
    try:
        kind = detect_dataset(path)
    except DataError:
        kind = ""
    if kind in kinds:
        folders = sequence_folders(path) if kind == "7scenes" else [path]
        return [FoundSequence(f, kind, scene_name(f, kind)) for f in folders]
    if depth == 0 or kind:
        return []
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    return [found for folder in folders for found in _below(folder, kinds, depth - 1)]


def scene_name(path: Path, dataset: str) -> str:
    """Name the place that a sequence shows.

    ScanNet: scene0012 of scene0012_01; 7-Scenes and Virtual KITTI 2: the folder above; else the folder itself.
    """
    path = path.resolve()
    if dataset in ("7scenes", "vkitti2"):
        return path.parent.name
    scan = re.fullmatch(r"(scene\d{4})_\d\d", path.name) if dataset == "scannet" else None
    return path.name if scan is None else scan[1]
