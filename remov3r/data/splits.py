"""Which scenes or frames belong to training and which to testing; the same on every machine and at every run.

- by scenes: whole places are held out. Scenes are ranked by a hash of their names and the last fifth is tested,
  or the scenes to test are listed in a file (such as ScanNet's scannetv2_val.txt).
- by frames: the first 80 % of each sequence train, the last 20 % test. The paper (section 4.6) says of both data
  sets only that "the data was partitioned such that 80% was used for training and the remaining 20% was
  reserved for evaluation". Of the partitions that this can mean, one by frames needs no list of scenes that
  the paper would have had to give, and blocks at the end leave clips whole and put no test frame between
  two training frames, as drawing frames at random would. It tests places that were seen in training; use the
  split by scenes to measure generalisation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from remov3r.data.pose_files import read_lines
from remov3r.data.scenes import scene_name
from remov3r.errors import DataError

Part = Literal["all", "train", "test"]
TRAINED = 0.8


def held_out_scenes(scenes: Collection[str], split: str) -> frozenset[str]:
    """Choose the scenes to test.

    Args:
        split: "scenes" for the last fifth by hash (at least one of two or more), or a file that lists them.
    Raises:
        DataError: the file cannot be read, or names none of the scenes.
    """
    names = sorted(set(scenes), key=lambda s: hashlib.sha256(s.encode()).digest())
    if split == "scenes":
        tested = max(1, round(len(names) * (1 - TRAINED))) if len(names) > 1 else 0
        return frozenset(names[len(names) - tested :])
    lines = read_lines(Path(split).expanduser())
    listed = frozenset(scene_name(Path(line.strip()), "scannet") for _, line in lines)
    if not listed & set(names):
        raise DataError(f"{split}: lists none of the scenes at hand ({', '.join(names[:3])} ...)")
    return listed & set(names)


def frame_range(count: int, part: Part) -> range:
    """Return the frames of a sequence of `count` that belong to a part of the split by frames."""
    border = int(count * TRAINED)
    return {"all": range(count), "train": range(border), "test": range(border, count)}[part]
