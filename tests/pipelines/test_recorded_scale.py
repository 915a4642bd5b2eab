"""A recording of unknown scale is one to the end, and what its front end has to say reaches the result's notes."""

from __future__ import annotations

from pathlib import Path

from remov3r.camera import Camera
from remov3r.data.synthetic.source import SyntheticSource
from remov3r.frontends.recorded import NeutralFrame, write_recording
from remov3r.pipelines.config import load_config
from remov3r.pipelines.reconstruct import reconstruct


def test_unknown_scale_and_missing_frames_are_in_the_result(tmp_path: Path) -> None:
    source = SyntheticSource(5, 8, Camera(96, 72, 80.0, 80.0, 47.5, 35.5))
    frames = [
        NeutralFrame(f.index, f.timestamp_s, f.T_world_cam, f.camera.K, f.depth_m, is_keyframe=f.index == 0)
        for f in source
        if f.index != 5
    ]
    write_recording(tmp_path / "recording", frames, scale="unknown")
    settings = [f"front_end=recorded:{tmp_path / 'recording'}", "backend=none", "mesh=false"]
    result = reconstruct(source, load_config("lite", settings))
    assert result.trajectory.scale == result.online.scale == "unknown"
    assert result.trajectory.state[5] == "lost"
    assert any("7 frames" in note for note in result.notes)
