"""Draws training clips from several sets in given proportions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from remov3r.errors import DataError
from remov3r.training.clip_sets import ClipDataset, ClipSourceConfig, open_clip_dataset, open_clip_set
from remov3r.training.shards import Clips, ShardSet


class ShardMixer:
    """Draws clips from several sets in given proportions.

    What is drawn depends on the generator and the files alone.
    """

    def __init__(
        self,
        root: Path,
        weights: Mapping[str, float],
        seed: int,
        data: Mapping[str, ClipSourceConfig] | None = None,
    ) -> None:
        """Open the sets: data[NAME] where there is one, else the folder root/NAME of shards or packed sequences.

        Raises:
            DataError: there is no clip in any of them, or a file is damaged.
        """
        data = data or {}
        self._sets: dict[str, ClipDataset | ShardSet] = {
            name: open_clip_dataset(data[name]) if name in data else open_clip_set(root / name)
            for name, weight in weights.items()
            if weight > 0
        }
        self._weights = weights
        self._seed = seed
        if not any(len(s) for s in self._sets.values()):
            raise DataError(
                f"no training clips in {root}/{{{','.join(self._sets)}}}: render or pack some first"
            )

    def rescan(self) -> None:
        """Take in the shards that were added since."""
        for clips in self._sets.values():
            if isinstance(clips, ShardSet):
                clips.rescan()

    def sizes(self) -> dict[str, int]:
        """Clips at hand by set; of sets that are cut into clips here, their frames."""
        return {name: len(clips) for name, clips in self._sets.items()}

    def generator(self, step: int) -> np.random.Generator:
        """Return the random generator of a step."""
        return np.random.default_rng([self._seed, step])

    def draw(self, rng: np.random.Generator, count: int, frames: int | None = None) -> Sequence[Clips]:
        """Draw clips; sets without shards so far give their share to the others.

        Args:
            frames: per clip; None for shards' clips as they are, and single frames of other sets.
        Raises:
            DataError: a set has no clip of so many frames, or a file cannot be read.
        """
        names = [name for name, clips in self._sets.items() if len(clips)]
        share = np.array([self._weights[name] for name in names])
        picks = rng.choice(len(names), size=count, p=share / share.sum())
        sets = [self._sets[names[i]] for i in picks]
        return [_drawn(s, frames, rng) for s in sets]


def _drawn(clips: ClipDataset | ShardSet, frames: int | None, rng: np.random.Generator) -> Clips:
    index = int(rng.integers(len(clips)))
    if frames is None:
        return clips.clip(index) if isinstance(clips, ShardSet) else clips.clip(index, 1, rng)
    return clips.clip(index, frames, rng)
