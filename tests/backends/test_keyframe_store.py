"""Keyframes come back bit for bit, from memory or from files; damaged files are told in one line."""

import errno
import multiprocessing
import os
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from remov3r.backends.keyframe_store import MANIFEST, KeyframeStore
from remov3r.camera import Camera
from remov3r.errors import DataError
from remov3r.geometry import se3_exp
from remov3r.types import DensePrediction, Keyframe

CAMERA = Camera(16, 12, 20.1, 20.2, 7.5, 5.5, "radtan", (0.1, -0.01, 1e-3, 2e-3))


def dense(seed: int) -> DensePrediction:
    rng = np.random.default_rng(seed)
    depth, confidence, sigma = rng.random((3, 12, 16)).astype(np.float32)
    depth[3], sigma[3] = 0, np.inf
    points = rng.random((12, 16, 3)).astype(np.float32)
    return DensePrediction(CAMERA, depth, confidence, points, confidence / 3, sigma)


def keyframe(index: int, aligned: bool = True) -> Keyframe:
    rng = np.random.default_rng(index)
    rgb = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    raw = dense(index)
    T = se3_exp(rng.normal(0, 1, 6))
    return Keyframe(index, index / 30, rgb, T, raw, dense(index + 1000) if aligned else raw)


def assert_same(have: Keyframe, want: Keyframe) -> None:
    assert (have.frame_index, have.timestamp_s) == (want.frame_index, want.timestamp_s)
    assert np.array_equal(have.rgb, want.rgb)
    assert np.array_equal(have.T_world_cam, want.T_world_cam)
    for a, b in ((have.dense, want.dense), (have.aligned, want.aligned)):
        assert a.camera == b.camera
        for field in fields(a)[1:]:
            left, right = getattr(a, field.name), getattr(b, field.name)
            assert left.dtype == right.dtype
            assert np.array_equal(left, right)


def full_disk(*args: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full/disk")


def test_keyframes_come_back_exactly_and_in_order() -> None:
    store = KeyframeStore(in_memory=3)
    order = [40, 0, 7, 100, 12, 55, 3]
    for index in order:
        store.put(keyframe(index, aligned=index % 2 == 0))
    assert store.in_memory == 3
    assert len(store) == 7
    assert store.indices == tuple(order)
    for have, index in zip(store, order, strict=True):
        assert_same(have, keyframe(index, aligned=index % 2 == 0))
    assert store.in_memory == 3
    back = store.get(7)
    assert back.aligned is back.dense
    assert 55 in store
    assert 1 not in store
    with pytest.raises(KeyError):
        store.get(1)


def test_replaced_keyframe_is_the_new_one_even_after_spilling() -> None:
    store = KeyframeStore(in_memory=1)
    store.put(keyframe(0))
    store.put(keyframe(1))
    store.put(replace(keyframe(0), T_world_cam=np.eye(4)))
    store.put(keyframe(2))
    assert store.indices == (0, 1, 2)
    assert np.array_equal(store.get(0).T_world_cam, np.eye(4))


def test_temporary_folder_is_made_late_and_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = KeyframeStore(in_memory=2)
    store.put(keyframe(0))
    store.put(keyframe(1))
    assert not any(tmp_path.iterdir())
    store.put(keyframe(2))
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    store.close()
    assert not any(tmp_path.iterdir())
    assert len(store) == 0


def test_given_folder_serves_the_next_process(tmp_path: Path) -> None:
    store = KeyframeStore(in_memory=2, folder=tmp_path / "store")
    for index in (5, 3, 9):
        store.put(keyframe(index))
    store.flush()
    store.close()
    again = KeyframeStore(in_memory=2, folder=tmp_path / "store")
    assert again.indices == (3, 5, 9)
    for index in (3, 5, 9):
        assert_same(again.get(index), keyframe(index))


def write_for_ever(folder: Path) -> None:
    store = KeyframeStore(in_memory=1, folder=folder)
    for index in range(10**6):
        store.put(keyframe(index % 50))


def test_killed_process_leaves_whole_files(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=write_for_ever, args=(tmp_path,))
    process.start()
    while process.is_alive() and len(list(tmp_path.glob("0*.npz"))) < 20:
        process.join(0.01)
    process.kill()
    process.join()
    (tmp_path / ".writing-1-00000003.npz").write_bytes(b"half")
    store = KeyframeStore(folder=tmp_path)
    assert len(store) >= 20
    for have in store:
        assert_same(have, keyframe(have.frame_index))
    assert not list(tmp_path.glob(".writing-*"))


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_truncated_file_is_told_in_one_line(tmp_path: Path, kept: float) -> None:
    store = KeyframeStore(in_memory=1, folder=tmp_path)
    store.put(keyframe(4))
    store.flush()
    file = tmp_path / "00000004.npz"
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(DataError, match=r"00000004\.npz: missing, truncated or damaged") as caught:
        KeyframeStore(folder=tmp_path).get(4)
    assert "\n" not in str(caught.value)


def test_flipped_byte_is_noticed(tmp_path: Path) -> None:
    store = KeyframeStore(folder=tmp_path)
    store.put(keyframe(4))
    store.flush()
    file = tmp_path / "00000004.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    file.write_bytes(bytes(content))
    with pytest.raises(DataError, match="damaged"):
        KeyframeStore(folder=tmp_path).get(4)


def test_full_disk_costs_memory_but_no_keyframe(monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeyframeStore(in_memory=1)
    monkeypatch.setattr(os, "replace", full_disk)
    for index in range(4):
        store.put(keyframe(index))
    assert store.in_memory == 4
    for have in store:
        assert_same(have, keyframe(have.frame_index))
    assert len(store.notes) == 1
    assert "No space left" in store.notes[0]
    with pytest.raises(DataError, match="No space left"):
        store.flush()
    monkeypatch.undo()
    store.put(keyframe(5))
    assert store.in_memory == 1


def test_foreign_and_newer_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(DataError, match="not a keyframe store"):
        KeyframeStore(folder=tmp_path)
    KeyframeStore(folder=tmp_path / "store")
    manifest = tmp_path / "store" / MANIFEST
    manifest.write_text('{"format": "remov3r keyframes", "version": 99}')
    with pytest.raises(DataError, match="version 99, need 1"):
        KeyframeStore(folder=tmp_path / "store")
    manifest.write_text("{")
    with pytest.raises(DataError, match="damaged"):
        KeyframeStore(folder=tmp_path / "store")
    with pytest.raises(DataError, match="cannot be used"):
        KeyframeStore(folder=tmp_path / "holiday.jpg")


def test_negative_index_is_refused() -> None:
    with pytest.raises(DataError, match="keyframe -1"):
        KeyframeStore().put(replace(keyframe(1), frame_index=-1))
