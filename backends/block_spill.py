"""The blocks of a voxel volume: so many in memory, those least recently seen in files."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int, Int32

from remov3r.backends.spilling import Codec, SpillingMap
from remov3r.errors import DataError

logger = logging.getLogger(__name__)

BLOCK = 16  # voxels per side of a block
VOXELS = BLOCK**3
CHANNELS = 5  # sums over observations: weight, weight · distance, weight · (r, g, b) / 256

BlockKey = tuple[int, int, int]
Block = Int32[np.ndarray, "channels voxels"]


def _save(file: BinaryIO, block: Block) -> None:
    np.save(file, block)


def _load(file: BinaryIO) -> Block:
    block = np.load(file)
    if block.shape != (CHANNELS, VOXELS) or block.dtype != np.int32:
        raise ValueError(f"holds {block.dtype} of shape {block.shape}")
    return block


CODEC: Codec[BlockKey, Block] = Codec(lambda key: "{}_{}_{}.npy".format(*key), _save, _load)


class BlockStore:
    """Sums of integers per voxel, by block. Adding and taking back are exact, in any order, spilled or not.

    A block exists only while there is weight in it. Where the disk takes no more, new blocks are refused and
    those known stay; a block once refused stays so, because later observations alone would be wrong there.
    """

    def __init__(self, max_blocks: int, folder: Path | None = None) -> None:
        """Prepare an empty store.

        Args:
            max_blocks: cap on the blocks in memory (80 kB each). It is passed only where the disk refuses
                to take others in exchange for those that come back.
            folder: a temporary folder is made in it for the files; None for the system's place for those.
        """
        self._blocks = SpillingMap(CODEC, max_blocks, folder)
        self.refused: set[BlockKey] = set()
        self.damaged: set[BlockKey] = set()

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def in_memory(self) -> int:
        """How many blocks are in memory now."""
        return self._blocks.in_memory

    @property
    def trouble(self) -> str | None:
        """What the disk last refused, if it did."""
        return self._blocks.trouble

    def keys(self) -> Int[np.ndarray, "n 3"]:
        """Return the coordinates of all blocks, in units of blocks."""
        return np.array(list(self._blocks), np.int64).reshape(-1, 3)

    def add(self, keys: Iterable[BlockKey], sums: Int32[np.ndarray, "n channels voxels"]) -> None:
        """Add sums to blocks, which come to be where needed and cease where no weight is left."""
        for key, added in zip(keys, sums):
            if not added[0].any() or key in self.refused or key in self.damaged:
                continue
            block = self._get(key)
            if block is None:
                continue
            block += added
            if block[0].any():
                self._blocks[key] = block
            else:
                del self._blocks[key]

    def read(self, key: BlockKey) -> Block | None:
        """Return a block without bringing it into memory; None where there is none or its file is damaged."""
        try:
            return self._blocks.peek(key) if key in self._blocks else None
        except DataError as error:
            self._give_up(key, error)
            return None

    def close(self) -> None:
        """Forget all blocks and remove a temporary folder."""
        self._blocks.close()

    def _get(self, key: BlockKey) -> Block | None:
        if key in self._blocks:
            try:
                return self._blocks[key]
            except DataError as error:
                self._give_up(key, error)
                return None
        if not self._blocks.make_room(1):
            self.refused.add(key)
            return None
        self._blocks[key] = np.zeros((CHANNELS, VOXELS), np.int32)
        return self._blocks[key]

    def _give_up(self, key: BlockKey, error: DataError) -> None:
        logger.warning("a block of the map is lost: %s", error)
        self.damaged.add(key)
        del self._blocks[key]
