"""Packed sequences hold what the data set holds; they are read in any order, by others too; damage is named."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from remov3r.errors import DataError
from remov3r.training.clip_sets import ClipSource, ClipSourceConfig, open_clip_dataset, open_clip_set
from remov3r.training.framing import Framing
from remov3r.training.mixer import ShardMixer
from remov3r.training.pack import PackOptions, pack
from remov3r.training.tar_shards import PackedSequence, index_path, open_index, scan_tar
from tests.data.layouts import pose_of, room_frames, write_posed, write_scannet, write_vkitti2

SMALL = Framing(40, 30)
FRAMES = room_frames(12)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    write_scannet(tmp_path / "scans" / "scene0001_00", FRAMES, lost=(5,))
    write_scannet(tmp_path / "scans" / "scene0001_01", FRAMES[:4])
    return tmp_path / "scans"


@pytest.mark.parametrize("image", ["png", "jpg"])
def test_packed_and_unpacked_clips_are_the_same(tmp_path: Path, scans: Path, image: str) -> None:
    assert pack([scans], tmp_path / "out", PackOptions(SMALL, image=image)) == 2  # type: ignore[arg-type]
    packed = open_clip_dataset(ClipSourceConfig(path=tmp_path / "out", stride=(1, 2)))
    raw = open_clip_dataset(ClipSourceConfig(path=scans, stride=(1, 2), width=40, height=30))
    assert len(packed) == len(raw) == 16
    for index in range(16):
        for frames in (1, 4):
            a, b = (d.clip(index, frames, np.random.default_rng(index)) for d in (packed, raw))
            for name in ("depth_mm", "K", "T_world_cam"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
            off = np.abs(a.rgb.astype(int) - b.rgb)
            assert off.max() == 0 if image == "png" else 0 < off.mean() < 4


def test_split_applies_to_packed_sets(tmp_path: Path, scans: Path) -> None:
    write_scannet(scans / "scene0002_00", FRAMES[:3])
    pack([scans], tmp_path / "out", PackOptions(SMALL))
    for split in ("scenes", "frames"):
        for part in ("train", "test"):
            config = {"part": part, "split": split}
            raw = open_clip_dataset(ClipSourceConfig.model_validate({"path": scans, **config}))
            packed = open_clip_dataset(ClipSourceConfig.model_validate({"path": tmp_path / "out", **config}))
            assert len(raw) == len(packed) > 0


def test_other_loaders_read_the_samples(tmp_path: Path) -> None:
    write_vkitti2(tmp_path / "data" / "Scene01" / "clone", FRAMES[:3])
    pack([tmp_path / "data"], tmp_path / "out", PackOptions(Framing(80, 60), image="png"))
    samples = list(
        webdataset.WebDataset(str(tmp_path / "out" / "Scene01_clone.tar"), shardshuffle=False).decode("rgb8")
    )
    assert [s["__key__"] for s in samples] == [f"Scene01/clone/{i:06d}" for i in range(3)]
    assert samples[1]["png"].shape == (60, 80, 3)
    np.testing.assert_allclose(samples[1]["json"]["T_world_cam"], pose_of(FRAMES[1]), atol=1e-8)
    assert samples[1]["json"]["scene"] == "Scene01"


def test_index_is_as_good_as_a_scan_and_not_needed(tmp_path: Path, scans: Path) -> None:
    pack([scans], tmp_path / "out", PackOptions(SMALL))
    tar = tmp_path / "out" / "scene0001_00.tar"
    written, scanned = open_index(tar), scan_tar(tar)
    for name, value in vars(written).items():
        np.testing.assert_array_equal(value, getattr(scanned, name))
    before = PackedSequence(tar)
    assert isinstance(before, ClipSource)
    assert before.posed.tolist() == [i != 5 for i in range(12)]
    clip = before.read([7, 2])
    index_path(tar).write_bytes(b"damaged")
    np.testing.assert_array_equal(PackedSequence(tar).read([7, 2]).rgb, clip.rgb)
    with pytest.raises(DataError, match=r"scene0001_00\.tar, frame 99"):
        before.read([99])


def test_packing_goes_on_where_it_was_ended(tmp_path: Path, scans: Path) -> None:
    out, seen = tmp_path / "out", []
    pack([scans / "scene0001_00"], out, PackOptions(SMALL))
    time = (out / "scene0001_00.tar").stat().st_mtime_ns
    done = pack([scans], out, PackOptions(SMALL), lambda name, done, total: seen.append((name, done, total)))
    assert done == 1
    assert seen == [("scene0001_01", 2, 2)]
    assert (out / "scene0001_00.tar").stat().st_mtime_ns == time
    first = (out / "scene0001_01.tar").read_bytes()
    (out / "scene0001_01.tar").unlink()
    pack([scans], out, PackOptions(SMALL))
    assert (out / "scene0001_01.tar").read_bytes() == first, "the same bytes whenever it is packed"


def test_a_failure_leaves_no_half_packed_sequence(tmp_path: Path, scans: Path) -> None:
    (scans / "scene0001_00" / "depth" / "9.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"depth/9\.png"):
        pack([scans], tmp_path / "out", PackOptions(SMALL))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("kept", [0, 700, 10_000, 20_480])
def test_a_shard_cut_short_is_refused_by_name(tmp_path: Path, scans: Path, kept: int) -> None:
    pack([scans], tmp_path / "out", PackOptions(SMALL))
    tar = tmp_path / "out" / "scene0001_00.tar"
    tar.write_bytes(tar.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"scene0001_00\.tar"):
        open_clip_set(tmp_path / "out")


def test_foreign_tar(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with tarfile.open(tmp_path / "foreign.tar", "w") as archive:
        archive.add(tmp_path / "a.txt", "a.txt")
    with pytest.raises(DataError, match=r"foreign\.tar: not a complete shard"):
        open_clip_set(tmp_path)


def test_two_sequences_of_one_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_posed(tmp_path / folder / "room", FRAMES[:1])
    with pytest.raises(DataError, match=r"would all become room\.tar"):
        pack([tmp_path], tmp_path / "out", PackOptions(SMALL))


def test_workers_and_the_mixer(tmp_path: Path, scans: Path) -> None:
    assert pack([scans], tmp_path / "S" / "scannet", PackOptions(SMALL, workers=2)) == 2
    mixer = ShardMixer(tmp_path / "S", {"scannet": 1.0}, 0)
    clips = mixer.draw(mixer.generator(1), 3, 3)
    assert [c.rgb.shape for c in clips] == [(1, 3, 30, 40, 3)] * 3
