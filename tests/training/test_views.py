"""Images that others published, as training frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from remov3r.config import build, read_toml
from remov3r.training.shards import open_shard
from remov3r.training.views import DepthCamera, ViewList, ViewSource, frames_of, main, write_views

SOURCE = ViewSource(
    set="real", repository="https://example.org/a/repo", commit="0", licence="MIT",
    colour="rgb/*_c.png", depth="depth/{}.png", K=(320, 320, 320, 240), unit_m=0.0002,
)  # fmt: skip


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clones" / "repo"
    for part in ("rgb", "depth"):
        (folder / part).mkdir(parents=True)
    for i, brightness in ((2, 100), (10, 200), (11, 200), (12, 5)):
        cv2.imwrite(str(folder / f"rgb/{i}_c.png"), np.full((480, 640, 3), brightness, np.uint8))
        cv2.imwrite(
            str(folder / f"depth/{i}.png"), np.full((480, 640), 5000 * i, np.uint16) * (np.arange(640) < 320)
        )
    return folder


def test_each_image_is_a_clip_with_its_own_depth_in_the_order_of_numbers(clone: Path, tmp_path: Path) -> None:
    assert write_views(ViewList(source=(SOURCE,)), clone.parent, tmp_path / "out") == {"real": 4}
    clips = open_shard(tmp_path / "out/real/real-00000.npz")
    assert clips.rgb.shape == (4, 1, 240, 320, 3)
    np.testing.assert_array_equal(
        clips.depth_mm[:, 0, 5, 5], [2000, 0, 0, 0]
    )  # 10 m and more are out of range
    np.testing.assert_allclose(clips.K[0, 0], [[160, 0, 160], [0, 160, 120], [0, 0, 1]], atol=0.3)
    assert np.isnan(clips.T_world_cam).all()


def test_dark_images_and_those_like_the_one_before_are_left_out(clone: Path) -> None:
    source = SOURCE.model_copy(update={"darkest": 50.0, "least_change": 4.0})
    assert [frame.rgb[0, 0, 0] for frame in frames_of(source, clone)] == [100, 200]


def test_depth_of_a_camera_beside_is_moved_into_the_image(clone: Path) -> None:
    beside = DepthCamera(K=(170, 170, 320, 240), offset_m=(0.105, 0, 0))
    frame = next(iter(frames_of(SOURCE.model_copy(update={"depth_camera": beside}), clone)))
    # the left half was measured, up to x = 0: seen from 0.105 m beside at 2 m, up to 17 pixels of 640 further
    assert (frame.depth_mm[:, :83] == 2000).all()  # nearly half the focal length: no holes nonetheless
    assert (frame.depth_mm[:, 86:] == 0).all()


def test_what_is_missing_is_named(clone: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (clone / "depth/2.png").unlink()
    with pytest.raises(Exception, match=r"depth/2\.png"):
        list(frames_of(SOURCE, clone))
    with pytest.raises(Exception, match="commit 0"):
        list(frames_of(SOURCE.model_copy(update={"colour": "none/*.png"}), clone))
    assert main(["--repositories", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "git clone https://github.com/CMU-AI-Maker-Space/aims-slam" in caplog.text


def test_the_shipped_list_names_a_commit_and_a_licence_of_each_source() -> None:
    sources = build(ViewList, read_toml("real_views"), "real_views").source
    assert all(len(s.commit) == 40 and s.licence and s.colour.count("*") <= 1 for s in sources)
