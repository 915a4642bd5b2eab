"""Nearest neighbours among the descriptors of keyframes, by cosine similarity."""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from remov3r.errors import DataError, ShapeError

logger = logging.getLogger(__name__)

Vector = Float[np.ndarray, " d"]

GRAPH_LINKS = 32  # of each vector in the approximate index, and how widely it looks when asked
SEARCH_WIDTH = 128


def _faiss() -> ModuleType | None:
    """Return the library of the approximate index, None where it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    return faiss


class PlaceIndex:
    """Holds one descriptor a place, numbered from 0 in the order they were added.

    Up to `exact_up_to` places every one is compared; beyond, a graph index (faiss, the extra "index") answers
    in time that hardly grows. Without faiss the search stays exact, and slows down.
    """

    def __init__(self, exact_up_to: int = 20_000) -> None:
        self._exact_up_to = exact_up_to
        self._values = np.zeros((0, 0), np.float32)  # rows beyond the count are room to grow
        self._count = 0
        self._graph: Any = None

    def __len__(self) -> int:
        """Return the number of places."""
        return self._count

    def add(self, descriptor: Vector | None) -> None:
        """Add a place; one without a descriptor (or a zero one) keeps its number and is never found.

        Raises:
            ShapeError: the descriptor's length differs from those before.
            DataError: it is not finite.
        """
        if descriptor is not None and self._values.shape[1] == 0:
            self._values = np.zeros((max(64, self._count), len(descriptor)), np.float32)
        row = self._values[:0].sum(0) if descriptor is None else self._unit(descriptor)
        if self._count == len(self._values):
            room = np.zeros((max(64, self._count), self._values.shape[1]), np.float32)
            self._values = np.concatenate([self._values, room])
        self._values[self._count] = row
        self._count += 1
        if self._graph is not None:
            self._graph.add(row[None])
        elif self._count == self._exact_up_to + 1:
            self._graph = self._built_graph()

    def nearest(
        self, descriptor: Vector, count: int, before: int | None = None
    ) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Find the places most alike, best first (the older one where two are equally alike).

        Args:
            before: only places with a smaller number; all if None.
        Returns:
            at most `count` places and their cosines, which are positive.
        Raises:
            ShapeError, DataError: as `add`.
        """
        stop = self._count if before is None else min(max(before, 0), self._count)
        if stop == 0 or self._values.shape[1] == 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        query = self._unit(descriptor)
        if self._graph is None:
            similarity = self._values[:stop] @ query
            places = np.argsort(-similarity, kind="stable")[:count]
            similarity = similarity[places]
        else:
            wanted = min(count + self._count - stop, self._count)
            self._graph.hnsw.efSearch = max(SEARCH_WIDTH, 2 * wanted)
            found, rows = self._graph.search(query[None], wanted)
            keep = (rows[0] >= 0) & (rows[0] < stop)
            places, similarity = rows[0][keep][:count], found[0][keep][:count]
        return places[similarity > 0].astype(np.int64), similarity[similarity > 0]

    def descriptor(self, place: int) -> Float[np.ndarray, " d"]:
        """Return the unit descriptor of a place; zeros where it has none."""
        return self._values[place].copy()

    def values(self) -> Float[np.ndarray, "n d"]:
        """Return the unit descriptors of all places, for saving; zeros for places without one."""
        return self._values[: self._count].copy()

    @classmethod
    def restore(cls, values: Float[np.ndarray, "n d"], exact_up_to: int = 20_000) -> PlaceIndex:
        """Make an index from what `values` returned; it answers as the one that was saved."""
        index = cls(exact_up_to)
        index._values, index._count = values.astype(np.float32), len(values)
        if index._count > exact_up_to:
            index._graph = index._built_graph()
        return index

    def _unit(self, descriptor: Vector) -> Float[np.ndarray, " d"]:
        if len(descriptor) != self._values.shape[1]:
            raise ShapeError(
                f"place descriptor has {len(descriptor)} values, those before have {self._values.shape[1]}"
            )
        if not np.isfinite(descriptor).all():
            raise DataError("place descriptor holds NaN or infinite values")
        values = descriptor.astype(np.float32)
        norm = float(np.linalg.norm(values))
        return values / np.float32(norm) if norm > 1e-12 else values * 0

    def _built_graph(self) -> Any:
        faiss = _faiss()
        if faiss is None:
            logger.warning(
                "%d places: the search for loops grows slower without faiss; install remov3r[index]",
                self._count,
            )
            return None
        graph = faiss.IndexHNSWFlat(self._values.shape[1], GRAPH_LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.add(self._values[: self._count])
        return graph
