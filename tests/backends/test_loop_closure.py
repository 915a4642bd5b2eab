"""Loops in rendered rooms with exact depth: found, right, and none where there is none."""

from dataclasses import dataclass

import numpy as np
import pytest

from remov3r.backends.features import to_gray
from remov3r.backends.loop_closure import LoopCloser, LoopConfig
from remov3r.camera import Camera
from remov3r.data.synthetic.paths import PathConfig, handheld_path
from remov3r.data.synthetic.rooms import RoomConfig
from remov3r.data.synthetic.world import SyntheticWorld, WorldConfig
from remov3r.errors import DataError, ShapeError
from remov3r.eval.loops import TrueView, evaluate_loops
from remov3r.geometry import inverse, rotation_angle_rad
from remov3r.types import PoseKind, RelativePose
from tests.backends.room import prediction

CAMERA = Camera(320, 240, 260.0, 260.0, 159.5, 119.5)
CONFIG = LoopConfig(recent=6)


@dataclass(frozen=True)
class Clip:
    """Keyframes of a walk: frame k of it has index 10 k."""

    gray: list[np.ndarray]
    depth_m: np.ndarray
    T_world_cam: np.ndarray


def walk(world: SyntheticWorld, seed: int, keyframes: int) -> Clip:
    """A walk there and back, seen every tenth frame."""
    room = world.room(seed)
    T = handheld_path(room, seed, 10 * keyframes, 30.0, PathConfig(returning=True))[::10]
    clip = world.render(room, CAMERA, T, video=False, seed=seed)
    return Clip([to_gray(rgb) for rgb in clip.rgb], clip.depth_m, T)


@pytest.fixture(scope="module")
def clips() -> tuple[Clip, Clip]:
    """Walks in two rooms whose walls carry the same patterns."""
    room = RoomConfig(side_m=(3.5, 5.0), hall_share=0.0, paint_share=0.0)
    world = SyntheticWorld(WorldConfig(texture_px=256, room=room))
    return walk(world, 1, 24), walk(world, 2, 10)


def feed(closer: LoopCloser, clip: Clip, start: int = 0, first: int = 0) -> list[RelativePose]:
    """Add the keyframes of a clip; return all loops."""
    loops: list[RelativePose] = []
    for k in range(first, len(clip.gray)):
        closer.add(start + 10 * k, clip.gray[k], prediction(clip.depth_m[k], CAMERA, 0.01), None)
        loops += closer.detect()
    return loops


@pytest.fixture(scope="module")
def run(clips: tuple[Clip, Clip]) -> tuple[LoopCloser, list[RelativePose]]:
    """A closer that has seen the first walk, and its loops."""
    closer = LoopCloser(CAMERA, CONFIG)
    return closer, feed(closer, clips[0])


def test_the_way_back_closes_loops_with_right_transforms(
    clips: tuple[Clip, Clip], run: tuple[LoopCloser, list[RelativePose]]
) -> None:
    clip, (_, loops) = clips[0], run
    views = [TrueView(10 * k, T, clip.depth_m[k], CAMERA) for k, T in enumerate(clip.T_world_cam)]
    metrics = evaluate_loops(loops, views, CONFIG.recent)
    assert metrics.precision == 1.0
    assert metrics.recall is not None
    assert metrics.recall > 0.6
    assert metrics.error_m is not None
    assert metrics.error_m < 0.02
    for loop in loops:
        assert loop.kind is PoseKind.LOOP
        assert loop.to_index - loop.from_index > 10 * CONFIG.recent
        assert loop.covariance is not None
        assert np.linalg.eigvalsh(loop.covariance)[0] > 0


def test_errors_fit_their_covariances(
    clips: tuple[Clip, Clip], run: tuple[LoopCloser, list[RelativePose]]
) -> None:
    T = clips[0].T_world_cam
    squares = []
    for loop in run[1]:
        assert loop.covariance is not None
        truth = inverse(T[loop.from_index // 10]) @ T[loop.to_index // 10]
        gap = inverse(loop.T_from_to) @ truth
        squares.append(gap[:3, 3] @ np.linalg.solve(loop.covariance[3:, 3:], gap[:3, 3]))
    assert 0.3 < np.mean(squares) < 9  # three would be exact


def test_another_room_closes_no_loop(
    clips: tuple[Clip, Clip], run: tuple[LoopCloser, list[RelativePose]]
) -> None:
    closer = LoopCloser.restore(CAMERA, run[0].state(), CONFIG)
    loops = feed(closer, clips[1], start=1000)
    assert all(loop.from_index >= 1000 for loop in loops)
    assert all(run[0].relocalise(gray, None) is None for gray in clips[1].gray)


def test_relocalises_an_image_of_a_known_place_only(
    clips: tuple[Clip, Clip], run: tuple[LoopCloser, list[RelativePose]]
) -> None:
    clip = clips[0]
    part = LoopCloser(CAMERA, CONFIG)
    feed(part, Clip(clip.gray[:12], clip.depth_m, clip.T_world_cam))
    found = [(k, part.relocalise(clip.gray[k], None)) for k in range(14, 24)]
    hits = [(k, loop) for k, loop in found if loop is not None]
    assert len(hits) >= 5
    for k, loop in hits:
        assert loop.to_index == -1
        gap = inverse(clip.T_world_cam[loop.from_index // 10] @ loop.T_from_to) @ clip.T_world_cam[k]
        assert np.linalg.norm(gap[:3, 3]) < 0.1
        assert rotation_angle_rad(gap) < np.radians(2)


def test_a_state_comes_back_exactly_and_goes_on_the_same(clips: tuple[Clip, Clip]) -> None:
    clip = clips[0]
    half = LoopCloser(CAMERA, CONFIG)
    feed(half, Clip(clip.gray[:18], clip.depth_m, clip.T_world_cam))
    saved = half.state()
    again = LoopCloser.restore(CAMERA, saved, CONFIG)
    for name, array in again.state().items():
        assert array.dtype == saved[name].dtype
        np.testing.assert_array_equal(array, saved[name])
    for a, b in zip(feed(half, clip, first=18), feed(again, clip, first=18), strict=True):
        assert (a.from_index, a.to_index, a.inliers) == (b.from_index, b.to_index, b.inliers)
        np.testing.assert_array_equal(a.T_from_to, b.T_from_to)
        np.testing.assert_array_equal(a.covariance, b.covariance)


def test_an_empty_state_comes_back() -> None:
    closer = LoopCloser.restore(CAMERA, LoopCloser(CAMERA).state())
    assert len(closer) == 0
    assert closer.detect() == ()


def test_the_front_ends_descriptor_proposes_places_too(clips: tuple[Clip, Clip]) -> None:
    clip, codes = clips[0], np.eye(24)
    config = CONFIG.model_copy(update={"candidates": 1})
    plain = LoopCloser(CAMERA, config)
    alone = {loop.from_index for loop in feed(plain, clip) if loop.to_index == 230}
    assert len(alone) == 1
    named = min({0, 10, 20} - alone)  # another view of the place where the walk began
    codes[23] = codes[named // 10]
    closer = LoopCloser(CAMERA, config)
    for k, gray in enumerate(clip.gray):
        closer.add(10 * k, gray, prediction(clip.depth_m[k], CAMERA, 0.01), codes[k])
    assert {loop.from_index for loop in closer.detect()} == alone | {named}


def test_nothing_is_recognised_without_texture_or_depth(clips: tuple[Clip, Clip]) -> None:
    blank, clip = np.full((240, 320), 120, np.uint8), clips[0]
    closer = LoopCloser(CAMERA, CONFIG)
    for k in range(20):
        closer.add(k, blank, prediction(np.full((240, 320), 2.0), CAMERA), None)
        assert closer.detect() == ()
    assert closer.relocalise(blank, None) is None
    blind = LoopCloser(CAMERA, CONFIG)
    for k, gray in enumerate(clip.gray):
        blind.add(k, gray, prediction(np.zeros((240, 320)), CAMERA), None)
        assert blind.detect() == ()


def test_bad_input_is_named(run: tuple[LoopCloser, list[RelativePose]], clips: tuple[Clip, Clip]) -> None:
    closer, gray = run[0], clips[0].gray[0]
    dense = prediction(clips[0].depth_m[0], CAMERA)
    with pytest.raises(ShapeError, match="does not fit the camera"):
        closer.add(1000, gray[:100], dense, None)
    with pytest.raises(DataError, match="keyframe 30 comes after 230"):
        closer.add(30, gray, dense, None)
    fresh = LoopCloser(CAMERA)
    fresh.add(0, gray, dense, np.ones(8))
    with pytest.raises(ShapeError, match="has 9 values, those before have 8"):
        fresh.add(1, gray, dense, np.ones(9))
    with pytest.raises(DataError, match="NaN"):
        fresh.add(1, gray, dense, np.full(8, np.nan))
    assert len(fresh) == 1
    state = closer.state()
    with pytest.raises(DataError, match="do not fit 24 keyframes"):
        LoopCloser.restore(CAMERA, {**state, "pixels": state["pixels"][:-1]})
    del state["sigma_m"]
    with pytest.raises(DataError, match="no array 'sigma_m'"):
        LoopCloser.restore(CAMERA, state)
