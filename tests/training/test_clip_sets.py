"""Clips cut out of data sets: contiguous, deterministic, within stretches of known poses and within a split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from remov3r.errors import ConfigError, DataError
from remov3r.training.clip_sets import (
    ClipDataset,
    ClipSet,
    ClipSourceConfig,
    FixedClips,
    open_clip_dataset,
    open_validation_set,
)
from remov3r.training.framing import Framing, framed
from remov3r.training.mixer import ShardMixer
from remov3r.training.shards import Clips, ShardSet, write_shard
from tests.data.helpers import write_tum_sequence
from tests.data.layouts import room_frames, write_posed, write_replica, write_scannet
from tests.training.conftest import small_clips


class Numbered:
    """A source whose frame i has i as x of its pose; no pixels worth the name."""

    def __init__(self, name: str, indices: Sequence[int], lost: Sequence[int] = ()) -> None:
        self.name = self.scene = name
        self.indices = np.array(indices, np.int64)
        self.posed = ~np.isin(self.indices, lost)

    def read(self, indices: Sequence[int]) -> Clips:
        t = len(indices)
        T = np.tile(np.eye(4, dtype=np.float32), (1, t, 1, 1))
        T[0, :, 0, 3] = indices
        T[0, ~self.posed[np.searchsorted(self.indices, indices)]] = np.nan
        K = np.tile(np.eye(3, dtype=np.float32), (1, t, 1, 1))
        return Clips(np.zeros((1, t, 4, 4, 3), np.uint8), np.zeros((1, t, 2, 2), np.uint16), K, T)


def numbers(clip: Clips) -> list[int]:
    return [int(x) for x in clip.T_world_cam[0, :, 0, 3]]


def test_clips_are_contiguous_hold_their_frame_and_repeat() -> None:
    dataset = ClipDataset([Numbered("a", range(40))], stride=(1, 3))
    assert isinstance(dataset, ClipSet)
    strides = set()
    for seed in range(200):
        index = seed % 40
        got = numbers(dataset.clip(index, 5, np.random.default_rng(seed)))
        assert got == numbers(dataset.clip(index, 5, np.random.default_rng(seed)))
        steps = set(np.diff(got))
        assert len(got) == 5
        assert len(steps) == 1
        assert got[0] <= index <= got[-1]
        strides |= steps
    assert strides == {1, 2, 3}


def test_lost_and_missing_frames_and_sequences_end_a_stretch() -> None:
    sources = [Numbered("a", [*range(10), *range(12, 30)], lost=(20,)), Numbered("b", range(9))]
    dataset = ClipDataset(sources, stride=(1, 4))
    assert len(dataset) == 28 + 9
    seen: set[int] = set()
    for index in range(len(dataset)):
        got = numbers(dataset.clip(index, 8, np.random.default_rng(index)))
        seen |= {got[0]}
        assert any(set(got) <= set(s) for s in (range(10), range(12, 20), range(21, 30))), got
    assert {0, 12, 21} <= seen
    assert np.isnan(dataset.clip(18, 1, np.random.default_rng(0)).T_world_cam).all(), (
        "one frame needs no pose"
    )
    with pytest.raises(DataError, match="longest stretch of frames with poses is 10, clips of 11"):
        dataset.clip(0, 11, np.random.default_rng(0))


def test_a_stride_too_large_for_the_stretch_is_reduced() -> None:
    dataset = ClipDataset([Numbered("a", range(9))], stride=(4, 4))
    assert numbers(dataset.clip(0, 5, np.random.default_rng(0))) == [0, 2, 4, 6, 8]
    with pytest.raises(ConfigError, match="stride"):
        ClipDataset([Numbered("a", range(9))], stride=(0, 2))
    with pytest.raises(DataError, match="no frames"):
        ClipDataset([])


def test_split_by_frames_parts_every_sequence() -> None:
    sources = [Numbered("a", range(20)), Numbered("b", range(30))]
    train, test = (ClipDataset(sources, part=part) for part in ("train", "test"))
    assert (len(train), len(test)) == (16 + 24, 4 + 6)
    trained = {tuple(numbers(train.clip(i, 4, np.random.default_rng(i)))) for i in range(len(train))}
    assert max(max(clip) for clip in trained) == 23
    tested = [numbers(test.clip(i, 4, np.random.default_rng(i))) for i in range(len(test))]
    assert min(min(clip) for clip in tested) == 16


def test_fixed_clips_follow_one_another() -> None:
    fixed = FixedClips(ClipDataset([Numbered("a", range(11), lost=(6,)), Numbered("b", range(7))]), 3)
    got = [numbers(fixed.clip(i)) for i in range(len(fixed))]
    assert got == [[0, 1, 2], [3, 4, 5], [7, 8, 9], [0, 1, 2], [3, 4, 5]]
    unposed = FixedClips(ClipDataset([Numbered("a", range(4), lost=range(4))]), 3)
    assert len(unposed) == 4
    assert unposed.clip(2).frames == 1


class TestDownloadedSets:
    def test_frames_are_those_of_the_source(self, tmp_path: Path) -> None:
        true = room_frames(8)
        write_posed(tmp_path / "room", true)
        dataset = open_clip_dataset(ClipSourceConfig(path=tmp_path, stride=(2, 2), width=40, height=30))
        clip = dataset.clip(0, 3, np.random.default_rng(0))
        wanted = [framed(true[i], Framing(40, 30)) for i in (0, 2, 4)]
        for t, frame in enumerate(wanted):
            np.testing.assert_array_equal(clip.rgb[0, t], frame.rgb)
            np.testing.assert_array_equal(clip.depth_mm[0, t], frame.depth_mm)
            assert frame.T_world_cam is not None
            np.testing.assert_allclose(clip.T_world_cam[0, t], frame.T_world_cam, atol=1e-6)
        assert clip.depth_mm.shape == (1, 3, 15, 20)
        np.testing.assert_allclose(
            clip.K[0, 0], np.array([[35, 0, 19.5], [0, 35.5, 14.5], [0, 0, 1]]), atol=1e-5
        )

    def test_scenes_are_held_out_together(self, tmp_path: Path) -> None:
        frames = room_frames(2)
        for scene in range(5):
            for scan in range(2):
                write_scannet(tmp_path / f"scene{scene:04d}_{scan:02d}", frames)
        sizes = {
            part: len(open_clip_dataset(ClipSourceConfig.model_validate({"path": tmp_path, "part": part})))
            for part in ("all", "train", "test")
        }
        assert sizes == {"all": 20, "train": 16, "test": 4}
        (tmp_path / "val.txt").write_text("scene0001_00\nscene0003_00\n")
        listed = ClipSourceConfig(path=tmp_path, part="test", split=str(tmp_path / "val.txt"))
        assert len(open_clip_dataset(listed)) == 8

    def test_unknown_and_empty(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="'moon': not one of auto, packed"):
            open_clip_dataset(ClipSourceConfig(path=tmp_path, dataset="moon"))
        with pytest.raises(DataError, match="no sequence with depth"):
            open_clip_dataset(ClipSourceConfig(path=tmp_path))
        with pytest.raises(DataError, match="no packed sequences"):
            open_clip_dataset(ClipSourceConfig(path=tmp_path, dataset="packed"))
        write_posed(tmp_path / "room", room_frames(1))
        with pytest.raises(DataError, match="leaves no scene for part 'test'"):
            open_clip_dataset(ClipSourceConfig(path=tmp_path, part="test"))

    def test_depth_that_is_too_far_and_missing(self) -> None:
        frame = room_frames(1)[0]
        assert frame.depth_m is not None
        frame.depth_m[:30] = 0
        depth_mm = framed(frame, Framing(80, 60, largest_depth_m=2.0)).depth_mm
        assert (depth_mm[:15] == 0).all()
        assert 0 < depth_mm.max() <= 2000
        with pytest.raises(ConfigError, match="even"):
            Framing(81, 60)


class TestMixer:
    def test_shards_and_data_sets_are_mixed(self, tmp_path: Path) -> None:
        write_shard(tmp_path / "S" / "shards" / "a.npz", small_clips(3, 6, 0))
        write_replica(tmp_path / "room0", room_frames(10))
        data = {"room": ClipSourceConfig(path=tmp_path / "room0", width=64, height=64)}
        weights = {"shards": 0.5, "room": 0.5, "not_there_yet": 1.0}
        mixer, again = (ShardMixer(tmp_path / "S", weights, 3, data) for _ in range(2))
        assert mixer.sizes() == {"shards": 3, "room": 10, "not_there_yet": 0}
        clips, same = (m.draw(m.generator(7), 12, 4) for m in (mixer, again))
        assert all(c.rgb.shape == (1, 4, 64, 64, 3) for c in clips)
        assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(clips, same))
        first = ShardSet(tmp_path / "S" / "shards")
        inside = [any((c.K[0, 0] == first.clip(i).K[0, 0]).all() for i in range(3)) for c in clips]
        assert 0 < sum(inside) < 12, "both sets are drawn"
        mixer.rescan()

    def test_too_short_shards_are_named(self, tmp_path: Path) -> None:
        write_shard(tmp_path / "short" / "a.npz", small_clips(2, 3, 0))
        mixer = ShardMixer(tmp_path, {"short": 1.0}, 0)
        with pytest.raises(DataError, match=r"a\.npz: clips of 4 frames wanted, its clips have 3"):
            mixer.draw(mixer.generator(0), 1, 4)
        stretch = mixer.draw(mixer.generator(0), 1, 2)[0]
        whole = [ShardSet(tmp_path / "short").clip(i) for i in range(2)]
        assert any(
            np.array_equal(stretch.rgb, w.rgb[:, start : start + 2]) for w in whole for start in range(2)
        )

    def test_validation_sets(self, tmp_path: Path) -> None:
        write_shard(tmp_path / "val" / "a.npz", small_clips(2, 3, 0))
        write_posed(tmp_path / "room", room_frames(7))
        data = {"room": ClipSourceConfig(path=tmp_path / "room", width=64, height=48)}
        assert len(open_validation_set(tmp_path, "val", data, 3)) == 2
        room = open_validation_set(tmp_path, "room", data, 3)
        assert [room.clip(i).frames for i in range(len(room))] == [3, 3]


def test_tum_images_without_depth_end_a_stretch(tmp_path: Path) -> None:
    write_tum_sequence(tmp_path / "rgbd_dataset_freiburg3_x", 6)
    dataset = open_clip_dataset(ClipSourceConfig(path=tmp_path, width=64, height=48))
    assert len(dataset) == 5, "frame 1 has no depth"
    clips = [dataset.clip(i, 4, np.random.default_rng(i)) for i in range(5)]
    assert {round(float(c.T_world_cam[0, 0, 0, 3]), 2) for c in clips} == {0.07}, "frames 2 to 5 alone"
    assert dataset.clip(0, 1, np.random.default_rng(0)).depth_mm[0, 0, 5, 5] == 1000
