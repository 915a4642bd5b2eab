"""The neutral format, its checker and its commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from remov3r.errors import ConfigError, DataError
from remov3r.frontends.recorded import NeutralFrame, open_recording, write_recording
from remov3r.frontends.recorded.check import check_recording
from remov3r.geometry import inverse, unproject
from remov3r.pipelines.cli import main
from remov3r.pipelines.config import PipelineConfig, load_config
from tests.backends.room import CAMERA, room_depth
from tests.frontends.layouts import COUNT, poses, recorded_poses


def neutral() -> list[NeutralFrame]:
    return [
        NeutralFrame(i, i / 30, T, CAMERA.K, room_depth(own).astype(np.float32), is_keyframe=i % 4 == 0)
        for i, (T, own) in enumerate(zip(recorded_poses(), poses()))
    ]


def written(path: Path, frames: list[NeutralFrame] | None = None) -> Path:
    write_recording(path, neutral() if frames is None else frames, scale="metric")
    return path


def errors(path: Path) -> list[str]:
    return [f.trap for f in check_recording(str(path)) if f.level == "error"]


def change(file: Path, **values: np.ndarray | None) -> None:
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files} | values
    np.savez(file, **{name: value for name, value in arrays.items() if value is not None})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    points = [
        replace(f, depth_m=None, points_cam=unproject(f.depth_m, CAMERA))
        for f in neutral()
        if f.depth_m is not None
    ]
    for name, frames in (("depth", neutral()), ("points", points)):
        recording = open_recording(str(written(tmp_path / name, frames)))
        assert (recording.kind, recording.scale, len(recording.frames)) == ("remov3r", "metric", COUNT)
        for given, found in zip(neutral(), recording.frames):
            assert found.T_world_cam is not None
            assert given.T_world_cam is not None
            np.testing.assert_allclose(found.T_world_cam, given.T_world_cam, atol=1e-12)
            assert found.is_keyframe == given.is_keyframe
            dense = found.load_dense(None)
            assert dense is not None
            assert given.depth_m is not None
            np.testing.assert_array_equal(dense.depth_m, given.depth_m)


def test_a_good_recording_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recorded", "check", str(written(tmp_path / "r"))]) == 0
    assert "no errors" in capsys.readouterr().out


def test_a_frame_without_pose_is_lost_not_wrong(tmp_path: Path) -> None:
    frames = [replace(f, T_world_cam=None) if f.frame_index == 5 else f for f in neutral()]
    findings = check_recording(str(written(tmp_path / "r", frames)))
    assert [f.trap for f in findings if f.level != "note"] == ["lost poses"]


@pytest.mark.parametrize(
    ("values", "trap", "said"),
    [
        ({"T_world_cam": np.full((4, 4), np.nan)}, "pose", "NaN"),
        ({"T_world_cam": np.diag([2.0, 1, 1, 1])}, "pose", "not a rigid pose"),
        ({"T_world_cam": np.eye(3)}, "pose", "shape"),
        ({"K": None}, "files", "no intrinsics K"),
        ({"K": np.zeros((3, 3))}, "files", "need finite values > 0"),
        ({"confidence": np.ones((3, 4))}, "files", "120x160"),
        ({"frame_index": None}, "files", "has no frame_index"),
    ],
)
def test_a_wrong_frame_is_named(
    tmp_path: Path, values: dict[str, np.ndarray | None], trap: str, said: str
) -> None:
    path = written(tmp_path / "r")
    change(path / "000007.npz", **values)
    finding = check_recording(str(path))[0]
    assert (finding.level, finding.trap) == ("error", trap)
    assert said in finding.said
    assert "000007.npz" in finding.said
    assert "\n" not in finding.said


def test_every_damaged_file_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "r")
    for name in ("000002.npz", "000009.npz"):
        (path / name).write_bytes((path / name).read_bytes()[:2000])
    assert errors(path) == ["files", "files"]
    (path / "000003.npz").unlink()
    assert errors(path) == ["missing frames", "files", "files"]
    with pytest.raises(DataError, match=r"holds 11 frames, recording.json says 12"):
        open_recording(str(path))


def test_maps_of_different_sizes_are_found(tmp_path: Path) -> None:
    path = written(tmp_path / "r")
    change(path / "000004.npz", depth_m=np.ones((60, 80), np.float32))
    assert errors(path) == ["sizes"]


def test_depth_that_is_not_finite_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "r")
    depth = np.full((120, 160), 2.0, np.float32)
    depth[3, 4] = np.nan
    change(path / "000004.npz", depth_m=depth)
    warnings = [f for f in check_recording(str(path)) if f.level == "warning"]
    assert [f.trap for f in warnings] == ["depth"]
    assert "frames 4" in warnings[0].said


def test_gaps_are_found(tmp_path: Path) -> None:
    path = written(tmp_path / "r", [f for f in neutral() if f.frame_index not in (4, 5)])
    warnings = [f for f in check_recording(str(path)) if f.level == "warning"]
    assert [f.trap for f in warnings] == ["missing frames"]
    assert "after frames 3" in warnings[0].said


def test_inverted_poses_are_found(tmp_path: Path) -> None:
    frames = [replace(f, T_world_cam=inverse(T)) for f, T in zip(neutral(), recorded_poses())]
    assert errors(written(tmp_path / "r", frames)) == ["inverted poses"]


def test_millimetres_are_found_whatever_the_scale_is_said_to_be(tmp_path: Path) -> None:
    frames = [replace(f, depth_m=1000 * f.depth_m) for f in neutral() if f.depth_m is not None]
    write_recording(tmp_path / "unknown", frames, scale="unknown")
    assert errors(tmp_path / "unknown") == ["depth scale"]
    still = [replace(f, T_world_cam=np.eye(4)) for f in frames[:1] * 1]
    write_recording(tmp_path / "still", still, scale="metric")
    assert errors(tmp_path / "still") == ["depth scale"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        (json.dumps({"version": 2}), "version"),
        (json.dumps({"version": 1, "colour": 3}), "colour"),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path / "r")
    (path / "recording.json").write_text(text)
    with pytest.raises(DataError, match=said):
        open_recording(str(path))


def test_the_writer_refuses_what_cannot_be_right(tmp_path: Path) -> None:
    first = neutral()[0]
    with pytest.raises(DataError, match="not empty"):
        written(written(tmp_path / "r"))
    with pytest.raises(DataError, match="frame 0: depth or points need"):
        written(tmp_path / "a", [replace(first, K=None)])
    with pytest.raises(DataError, match="frame 0: pose holds NaN"):
        written(tmp_path / "b", [replace(first, T_world_cam=np.full((4, 4), np.nan))])


def test_the_configuration_names_recordings() -> None:
    assert load_config("lite", ["front_end=recorded:some/where"]).front_end == "recorded:some/where"
    for wrong in ("eyes", "recorded"):
        with pytest.raises(ConfigError, match=r"front_end: .*recorded:DIR"):
            load_config("lite", [f"front_end={wrong}"])
    assert PipelineConfig().record == ""


def test_the_command_says_what_is_missing_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recorded", "check", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.endswith("none: no such recording\n")
