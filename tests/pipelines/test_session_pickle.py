"""Pickles of state: exact, and unable to run code."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict, deque
from collections.abc import Callable

import numpy as np
import pytest
import torch

from remov3r.backends.keyframe_store import KeyframeStore
from remov3r.camera import Camera
from remov3r.errors import DataError
from remov3r.pipelines.session_pickle import from_bytes, to_bytes
from remov3r.types import Keyframe, TrackingState
from tests.pipelines.results import dense


def no_keyframes(indices: tuple[int, ...]) -> KeyframeStore:
    raise AssertionError("no keyframes were saved")


def back(state: object) -> object:
    return from_bytes(to_bytes(state, lambda keyframes: None), no_keyframes, "here")


def named(module: str, name: str) -> bytes:
    """A pickle of nothing but a global of that name."""
    parts = (b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return b"\x80\x04" + b"".join(parts) + b"\x93."


def test_state_comes_back_as_it_was() -> None:
    twice = np.arange(6.0).reshape(2, 3)
    camera = Camera(4, 3, 5.0, 5.0, 1.5, 1.0)
    state = {
        "arrays": [twice, twice, np.asfortranarray(twice), np.zeros((0, 3), np.uint8), np.float64(0.1)],
        "types": (camera, TrackingState.LOST, slice(2, 5), {3, 1}, OrderedDict(a=1), deque([2])),
    }
    found = back(state)
    assert isinstance(found, dict)
    for a, b in zip(state["arrays"], found["arrays"], strict=True):
        np.testing.assert_array_equal(a, b)
    assert found["arrays"][0] is found["arrays"][1]
    assert found["arrays"][2].flags.f_contiguous
    assert found["types"] == state["types"]
    found["arrays"][0][:] = 7  # what comes back can be worked on


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        lambda: torch.randn(3, 4).t(),
        lambda: torch.randn(5).bfloat16(),
        lambda: torch.zeros(1, 0, 3),
        lambda: torch.tensor(3.5),
    ],
)
def test_tensors_keep_values_type_and_layout(make: Callable[[], torch.Tensor]) -> None:
    with torch.inference_mode():
        tensor = make()
    found = back(tensor)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == tensor.dtype
    assert found.stride() == tensor.stride()
    assert torch.equal(found, tensor)


def test_keyframes_lie_elsewhere() -> None:
    geometry = dense()
    keyframe = Keyframe(
        7, 0.7, np.zeros((*geometry.depth_m.shape, 3), np.uint8), np.eye(4), geometry, geometry
    )
    store = KeyframeStore()
    put: list[KeyframeStore] = []
    store.put(keyframe)
    content = to_bytes([store, store], put.append)
    assert put == [store]
    assert len(content) < 500
    asked: list[tuple[int, ...]] = []

    def found(indices: tuple[int, ...]) -> KeyframeStore:
        asked.append(indices)
        return store

    assert from_bytes(content, found, "here") == [store, store]
    assert asked == [(7,)]


class Command:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 3",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Command()),
        named("remov3r.pipelines.provenance", "subprocess.run"),
        named("remov3r.pipelines.provenance", "subprocess"),
        named("remov3r.backends.spilling", "tempfile"),
        named("remov3r.backends.spilling", "write_whole"),
        named("remov3r.models.network", "Remov3rNetwork"),
        named("builtins", "eval"),
        named("torch.storage", "_load_from_bytes"),
        b"",
        b"no pickle",
        to_bytes({"a": np.arange(100)}, lambda keyframes: None)[:-30],
    ],
)
def test_nothing_else_comes_to_life(content: bytes) -> None:
    with pytest.raises(DataError, match="here: cannot be read"):
        from_bytes(content, no_keyframes, "here")


@pytest.mark.parametrize("thing", [lambda: 0, open, torch.nn.Linear(1, 1), Command()])
def test_what_could_not_be_read_back_is_not_written(thing: object) -> None:
    with pytest.raises(DataError, match="cannot be saved"):
        to_bytes({"thing": thing}, lambda keyframes: None)
