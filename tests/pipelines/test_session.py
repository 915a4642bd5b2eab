"""Sessions within one process: going on from any frame, refusals, and a disk that is full."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from remov3r import Slam
from remov3r.backends.gtsam_graph import PoseGraph
from remov3r.backends.pose_graph_types import Edge, GraphConfig, Prior
from remov3r.errors import ConfigError, DataError
from remov3r.frontends.network import NetworkFrontEnd, NetworkFrontEndConfig
from remov3r.frontends.recorded import NeutralFrame, RecordedFrontEnd, open_recording, write_recording
from remov3r.geometry import inverse, se3_exp
from remov3r.models.weights import save_network
from remov3r.pipelines.config import PipelineConfig, load_config
from remov3r.pipelines.reconstruct import reconstruct
from remov3r.pipelines.session import SessionKeeper, keeper_for
from remov3r.pipelines.session_pickle import from_bytes, to_bytes
from remov3r.protocols import FrontEnd
from remov3r.types import Frame, FrameEstimate, Reconstruction
from tests.backends.textured_room import frames, path
from tests.models.tiny import tiny_network

COUNT = 20


def config(backend: str, *more: str) -> PipelineConfig:
    often = [f"{backend}.keyframe_frames=6", f"{backend}.keyframe_min_motion_px=1"]
    return load_config("lite", ["front_end=sensor", f"backend={backend}", "mesh=false", *often, *more])


class Listed:
    """Frames in memory as a source."""

    def __init__(self, listed: list[Frame], name: str = "room") -> None:
        self.name, self.camera, self._frames = name, listed[0].camera, listed

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)


@pytest.fixture(scope="module")
def room() -> list[Frame]:
    torch.set_num_threads(1)
    return frames(path(40)[:COUNT])


def tracked(room: list[Frame], settings: PipelineConfig, folder: Path, cuts: range) -> Reconstruction:
    """Track all frames; after some of them, save, and go on with what is loaded."""
    slam = Slam.from_config(settings)
    for frame in room:
        slam.track(frame)
        if frame.index in cuts:
            slam.save(folder)
            slam = Slam.load(folder)
    return slam.finish()


@pytest.mark.parametrize("backend", ["bundle", "pose_graph"])
def test_going_on_from_any_frame_gives_the_same_result(
    backend: str, room: list[Frame], tmp_path: Path
) -> None:
    whole = tracked(room, config(backend), tmp_path, range(0))
    again = tracked(room, config(backend), tmp_path, range(0, COUNT, 3))
    np.testing.assert_array_equal(whole.trajectory.T_world_cam, again.trajectory.T_world_cam)
    np.testing.assert_array_equal(whole.online.T_world_cam, again.online.T_world_cam)
    assert whole.trajectory.covariances is not None
    np.testing.assert_array_equal(whole.trajectory.covariances, again.trajectory.covariances)
    assert whole.notes == again.notes
    assert whole.trajectory.is_keyframe.sum() >= 2
    for a, b in zip(whole.keyframes, again.keyframes, strict=True):
        np.testing.assert_array_equal(a.rgb, b.rgb)
        np.testing.assert_array_equal(a.aligned.sigma_m, b.aligned.sigma_m)


@pytest.mark.parametrize("similarity", [False, True])
def test_the_graph_goes_on_incrementally(similarity: bool) -> None:
    """iSAM2's own linearisation points are part of the state: saved in between, it gives the same."""

    def grown(saving: bool) -> tuple[PoseGraph, list[float]]:
        rng = np.random.default_rng(3)
        graph, online = PoseGraph(GraphConfig(similarity=similarity)), []
        true = np.stack([se3_exp(np.array([0, a, 0, np.sin(a), 0, np.cos(a)])) for a in np.arange(30) * 0.4])
        graph.add_pose(0, true[0])
        for n in range(1, 30):
            noisy = inverse(true[n - 1]) @ true[n] @ se3_exp(rng.normal(0, 0.03, 6))
            graph.add_pose(n, graph.state(n - 1).T_world_key @ noisy)
            graph.add_between(Edge(n - 1, n, noisy, np.eye(6) * 9e-4, 0.01, 0.02))
            if n % 7 == 0:
                graph.add_prior(Prior(n, true[n], np.eye(6) * 0.1))
            if n > 16 and n % 3 == 0:
                loop = inverse(true[n - 16]) @ true[n] @ se3_exp(rng.normal(0, 0.01, 6))
                graph.add_loop(Edge(n - 16, n, loop, np.eye(6) * 1e-4, 0.0, 0.02))
            graph.optimise()
            if n == 20:
                graph.close()
            if saving and n % 2:
                content = to_bytes(graph, lambda keyframes: None)
                graph = from_bytes(content, lambda indices: pytest.fail("no keyframes"), "here")
            online.append(float(graph.state(n).T_world_key[0, 3]))
        graph.close()
        return graph, online

    (whole, online), (saved, online_saved) = grown(False), grown(True)
    np.testing.assert_allclose(online, online_saved, rtol=0, atol=1e-9)
    for index, state in whole.states().items():
        np.testing.assert_allclose(
            state.T_world_key, saved.state(index).T_world_key, rtol=0, atol=1e-9 if similarity else 0
        )


def continued(make: Any, room: list[Frame]) -> tuple[list[FrameEstimate], list[FrameEstimate]]:
    """What a front end says of the later frames, and what one says that went on from its state."""
    first: FrontEnd = make()
    for frame in room[:6]:
        first.process(frame)
    content = to_bytes(first.__getstate__(), lambda keyframes: None)
    second = make()
    state = from_bytes(content, lambda indices: pytest.fail("no keyframes"), "here")
    getattr(second, "__setstate__", second.__dict__.update)(state)
    return tuple(  # type: ignore[return-value]
        [e for frame in room[6:9] for e in (front_end.process(frame), front_end.promote())]
        for front_end in (first, second)
    )


@pytest.mark.parametrize("kind", ["network", "recorded"])
def test_front_ends_go_on(kind: str, room: list[Frame], tmp_path: Path) -> None:
    if kind == "network":
        save_network(tiny_network(), tmp_path / "tiny.safetensors", version="0", sigma_factor=1.0)
        settings = NetworkFrontEndConfig(
            weights=str(tmp_path / "tiny.safetensors"), engine="torch", input_pixels=64**2
        )
        made = continued(lambda: NetworkFrontEnd(settings), room)
    else:
        neutral = (
            NeutralFrame(f.index, f.timestamp_s, f.T_world_cam, f.camera.K, f.depth_m)
            for f in room
            if f.index != 7
        )
        write_recording(tmp_path / "recording", neutral, scale="metric")
        made = continued(lambda: RecordedFrontEnd(open_recording(str(tmp_path / "recording"))), room)
    for a, b in zip(*made, strict=True):
        assert a.keyframe_index == b.keyframe_index
        np.testing.assert_array_equal(a.T_key_cam, b.T_key_cam)
        if a.T_world_key is not None:
            np.testing.assert_array_equal(a.T_world_key, b.T_world_key)
        assert (a.dense is None) == (b.dense is None)
        if a.dense is not None and b.dense is not None:
            np.testing.assert_array_equal(a.dense.depth_m, b.dense.depth_m)


@pytest.fixture(scope="module")
def killed(room: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves that was killed after 12 frames."""
    folder = tmp_path_factory.mktemp("killed")
    run, keeper = Slam.from_config(config("bundle")), new_keeper(room, folder)
    for frame, _ in zip(keeper.begin(run), range(12)):
        run.track(frame)
    keeper.snapshot()
    return folder


def new_keeper(room: list[Frame], folder: Path, resume: bool = False) -> SessionKeeper:
    keeper = keeper_for(folder, Listed(room), config("bundle", "session.every_s=1000"), resume)
    assert keeper is not None
    return keeper


def test_a_run_is_taken_up_and_its_keyframes_are_not_written_again(
    killed: Path, room: list[Frame], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(killed, tmp_path / "session"))
    (folder / ".writing-state").write_text("half")
    before = {p: p.stat().st_mtime_ns for p in folder.glob("keyframes/*.npz")}
    result = reconstruct(Listed(room), config("bundle"), session=new_keeper(room, folder, resume=True))
    assert result.notes[0] == f"resumed after 12 of {COUNT} frames; timings are of the rest"
    whole = reconstruct(Listed(room), config("bundle"))
    np.testing.assert_array_equal(whole.trajectory.T_world_cam, result.trajectory.T_world_cam)
    keeper, run = new_keeper(room, folder, resume=True), Slam.from_config(config("bundle"))
    assert [f.index for f in keeper.begin(run)] == list(range(12, COUNT))
    keeper.snapshot()
    assert before
    assert {p: p.stat().st_mtime_ns for p in folder.glob("keyframes/*.npz")} == before
    assert len(list(folder.glob("state-*.pickle"))) == 1
    assert not list(folder.glob(".writing-*"))
    run.finish()
    keeper.close()
    assert {p.name for p in folder.iterdir()} == {"manifest.json", *(p.name for p in folder.glob("state-*"))}
    with pytest.raises(DataError, match="that run is finished"):
        new_keeper(room, folder, resume=True)
    with pytest.raises(DataError, match="that run is finished"):
        Slam.load(folder)


def test_without_a_snapshot_a_run_starts_and_without_resume_it_starts_anew(
    killed: Path, room: list[Frame], tmp_path: Path
) -> None:
    keeper = new_keeper(room, tmp_path / "none", resume=True)
    assert len(list(keeper.begin(Slam.from_config(config("bundle"))))) == COUNT
    folder = Path(shutil.copytree(killed, tmp_path / "session"))
    assert not new_keeper(room, folder).notes
    assert not [p for p in folder.rglob("*") if p.is_file()]


def test_another_input_configuration_or_version_is_refused(
    killed: Path, room: list[Frame], tmp_path: Path
) -> None:
    def begin(source: Listed, settings: PipelineConfig, folder: Path) -> None:
        keeper = keeper_for(folder, source, settings, resume=True)
        assert keeper is not None
        keeper.begin(Slam.from_config(settings))

    def refused(source: Listed, settings: PipelineConfig, folder: Path, message: str) -> None:
        with pytest.raises(DataError, match=message) as error:
            begin(source, settings, folder)
        assert "\n" not in str(error.value)

    same, bundle = Listed(room), config("bundle")
    other = [replace(room[0], rgb=255 - room[0].rgb), *room[1:]]
    refused(Listed(room[:-1]), bundle, killed, rf"frames {COUNT}, now {COUNT - 1}")
    refused(Listed(room, "kitchen"), bundle, killed, "name 'room', now 'kitchen'")
    refused(Listed(other), bundle, killed, "other first frames")
    refused(same, config("pose_graph"), killed, "backend = 'bundle', now 'pose_graph'")
    refused(same, config("bundle", "bundle.keyframe_frames=7"), killed, "bundle.keyframe_frames = 6, now 7")
    for key, value, message in (
        ("version", 99, "version 99"),
        ("remov3r", "0.0.1", "written by remov3r 0.0.1"),
        ("digest", "0", "checksum"),
        ("state", "state-gone.pickle", "cannot be read"),
        ("frames_done", "x", "frames_done"),
    ):
        folder = Path(shutil.copytree(killed, tmp_path / key))
        tree = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(tree | {key: value}))
        refused(same, bundle, folder, message)
    folder = Path(shutil.copytree(killed, tmp_path / "keyframe"))
    next(folder.glob("keyframes/*.npz")).write_bytes(b"PK")
    refused(same, bundle, folder, "missing or damaged")
    with pytest.raises(ConfigError, match="--record"):
        keeper_for(killed, same, config("bundle", "record=there"), resume=True)


def test_a_full_disk_stops_the_snapshots_and_not_the_run(
    killed: Path, room: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(killed, tmp_path / "session"))
    manifest = (folder / "manifest.json").read_text()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(SessionKeeper, "due", True)
    result = reconstruct(Listed(room), config("bundle"), session=new_keeper(room, folder, resume=True))
    assert len(result.trajectory) == COUNT
    assert "no snapshot after 13 frames could be saved" in result.notes[1]
    assert "No space left on device" in result.notes[1]
    assert (folder / "manifest.json").read_text() == manifest
    assert not list(folder.rglob(".writing-*"))


def test_snapshots_take_a_small_share_of_the_time(
    room: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("remov3r.pipelines.session.time.monotonic", lambda: now[0])
    keeper = keeper_for(tmp_path, Listed(room), config("bundle", "session.every_s=10"), resume=False)
    assert keeper is not None

    class Slow:
        def __len__(self) -> int:
            return 1

        def state(self) -> dict[str, Any]:
            now[0] += 3.0
            return {}

        def restore(self, state: dict[str, Any]) -> None:
            raise AssertionError

    keeper.begin(Slow())
    assert not keeper.due
    now[0] = 10.0
    assert keeper.due
    keeper.snapshot()
    now[0] += 149.0
    assert not keeper.due
    now[0] += 1.0
    assert keeper.due
    assert keeper_for(tmp_path, Listed(room), config("bundle", "session.every_s=0"), resume=False) is None
