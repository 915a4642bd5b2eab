"""The index over places, exact and approximate."""

import logging

import numpy as np
import pytest

from remov3r.backends import place_index
from remov3r.backends.place_index import PlaceIndex
from remov3r.errors import DataError, ShapeError


def places(count: int, seed: int = 0) -> np.ndarray:
    """Descriptors in clusters of five, as keyframes of one place are."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.normal(size=(-(-count // 5), 32)), 5, 0)[:count]
    return centres + 0.2 * rng.normal(size=(count, 32))


def filled(values: np.ndarray, exact_up_to: int = 20_000) -> PlaceIndex:
    """An index of some descriptors."""
    index = PlaceIndex(exact_up_to)
    for row in values:
        index.add(row)
    return index


def test_the_nearest_are_those_of_largest_cosine_before_a_number() -> None:
    values = places(100)
    found, cosines = filled(values).nearest(7 * values[90], 4, before=88)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    expected = np.argsort(-(unit @ unit[90])[:88])[:4]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(cosines, (unit @ unit[90])[expected], atol=1e-6)
    assert filled(values).nearest(values[90], 1)[0].tolist() == [90]


def test_places_without_a_descriptor_keep_their_number_and_are_never_found() -> None:
    index = PlaceIndex()
    for row in (None, [0.0, 1.0], None, [0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]):
        index.add(None if row is None else np.array(row))
    assert len(index) == 6
    assert index.nearest(np.array([1.0, 0.5]), 6)[0].tolist() == [4, 1]
    assert index.nearest(np.zeros(2), 6)[0].tolist() == []
    assert index.nearest(np.array([1.0, 0.5]), 6, before=0)[0].tolist() == []
    assert PlaceIndex().nearest(np.ones(3), 2)[0].tolist() == []


def test_the_approximate_index_answers_as_the_exact_one() -> None:
    pytest.importorskip("faiss")
    values = places(2000)
    exact, approximate = filled(values), filled(values, exact_up_to=500)
    assert approximate._graph is not None
    same = 0
    for k in range(100, 2000, 19):
        a, similar = exact.nearest(values[k], 3, before=k - 20)
        b, similar_too = approximate.nearest(values[k], 3, before=k - 20)
        same += a.tolist() == b.tolist()
        assert (b < k - 20).all()
        assert len(similar_too) == len(similar)
    assert same >= 95  # of 100


def test_without_faiss_the_search_stays_exact_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(place_index, "_faiss", lambda: None)
    values = places(60)
    with caplog.at_level(logging.WARNING):
        index = filled(values, exact_up_to=50)
    assert [r.message for r in caplog.records if "remov3r[index]" in r.message] == [caplog.records[0].message]
    np.testing.assert_array_equal(index.nearest(values[3], 4)[0], filled(values).nearest(values[3], 4)[0])


@pytest.mark.parametrize("exact_up_to", [20_000, 50])
def test_a_restored_index_answers_and_grows_the_same(exact_up_to: int) -> None:
    values = places(140)
    index = filled(values[:100], exact_up_to)
    again = PlaceIndex.restore(index.values(), exact_up_to)
    for row in values[100:]:
        index.add(row)
        again.add(row)
    np.testing.assert_array_equal(again.values(), index.values())
    for k in (5, 77, 139):
        for a, b in zip(index.nearest(values[k], 5, 120), again.nearest(values[k], 5, 120)):
            np.testing.assert_array_equal(a, b)


def test_bad_descriptors_are_refused_and_leave_no_trace() -> None:
    index = filled(places(3))
    with pytest.raises(ShapeError, match="has 5 values, those before have 32"):
        index.add(np.ones(5))
    with pytest.raises(DataError, match="NaN"):
        index.nearest(np.full(32, np.nan), 1)
    assert len(index) == 3
