"""A map that follows its keyframes equals one built anew, to the last bit."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from remov3r.backends import mapper as mapper_module
from remov3r.backends.fusion import FusionConfig, TsdfVolume
from remov3r.backends.mapper import Mapper, MapUpdate, View
from remov3r.geometry import se3_exp
from tests.backends.room import pose, prediction, room_depth, wall_distance
from tests.backends.test_fusion import assert_same_map

CONFIG = FusionConfig(voxel_m=0.06, truncation_voxels=4, min_component_triangles=20, upsample_to_width=0)
EXACT = CONFIG.model_copy(update={"moved_voxels": 0.0, "moved_share": 0.0})
RNG = np.random.default_rng(3)
COLORS = RNG.integers(0, 255, (4, 120, 160, 3), dtype=np.uint8)
TRUE = [pose(x=0.1 * k, yaw=0.5 * k) for k in range(4)]


def view(index: int, T: np.ndarray | None = None, scale: float = 1.0, sigma_m: float = 0.03) -> View:
    """What the true pose sees (scaled), placed at another pose if one is given."""
    dense = prediction(room_depth(TRUE[index]) * scale, sigma_m=sigma_m)
    return View(10 * index, TRUE[index] if T is None else T, dense, COLORS[index])


def drifted(index: int, size: float = 0.05) -> np.ndarray:
    """A pose off by centimetres and degrees."""
    return TRUE[index] @ se3_exp(np.random.default_rng(index).normal(0, size, 6))


def built_anew(views: list[View]) -> TsdfVolume:
    """The volume of these views and nothing else."""
    volume = TsdfVolume(CONFIG)
    for v in views:
        volume.integrate(v.dense, v.rgb, v.T_world_cam)
    return volume


@pytest.fixture
def mapper() -> Iterator[Mapper]:
    made = Mapper(CONFIG)
    yield made
    made.close()


def test_moved_keyframes_leave_no_trace(mapper: Mapper) -> None:
    first = mapper.update([view(k, drifted(k), scale=1.03) for k in range(3)])
    assert first == MapUpdate(added=(0, 10, 20))
    second = mapper.update([view(k) for k in range(4)])
    assert second == MapUpdate(added=(30,), moved=(0, 10, 20))
    assert_same_map(mapper.volume, built_anew([view(k) for k in range(4)]))
    mesh = mapper.mesh()
    assert mesh is not None
    assert np.percentile(wall_distance(mesh.vertices_m), 95) < 0.5 * CONFIG.voxel_m


def test_many_moves_do_not_add_up(mapper: Mapper) -> None:
    for round_ in range(6):
        mapper.update([view(k, drifted(k, 0.02 * (round_ + 1))) for k in range(2)])
    mapper.update([view(0), view(1)])
    assert_same_map(mapper.volume, built_anew([view(0), view(1)]))


def test_what_is_gone_is_taken_out(mapper: Mapper) -> None:
    mapper.update([view(k) for k in range(3)])
    assert mapper.update([view(1)]) == MapUpdate(unchanged=(10,), removed=(0, 20))
    assert_same_map(mapper.volume, built_anew([view(1)]))
    assert mapper.update([]) == MapUpdate(removed=(10,))
    assert len(mapper.volume) == 0
    assert mapper.mesh() is None


def test_only_moves_that_show_are_made(mapper: Mapper) -> None:
    """A shift of 0.3 voxels is let be, of 0.7 not; a turn counts by what it does at the depth (1.5-2.5 m)."""
    mapper.update([view(0)])
    for shift_m, what in ((0.3, "unchanged"), (0.7, "moved")):
        T = TRUE[0].copy()
        T[0, 3] += shift_m * CONFIG.voxel_m
        assert getattr(mapper.update([view(0, T)]), what) == (0,)
        mapper.update([view(0)])
    for angle_rad, what in ((0.002, "unchanged"), (0.04, "moved")):
        assert getattr(mapper.update([view(0, pose(yaw=angle_rad))]), what) == (0,)
        mapper.update([view(0)])


def test_changed_depth_and_weights_are_fused_again(mapper: Mapper) -> None:
    mapper.update([view(0)])
    assert mapper.update([view(0, scale=1.004)]).unchanged == (0,)
    assert mapper.update([view(0, scale=1.05)]).moved == (0,)
    assert mapper.update([view(0, scale=1.05, sigma_m=0.06)]).moved == (0,)
    masked = view(0, scale=1.05, sigma_m=0.06)
    masked.dense.depth_m[:, :60] = 0
    assert mapper.update([masked]).moved == (0,)
    assert_same_map(mapper.volume, built_anew([masked]))


def test_with_thresholds_at_zero_every_move_is_made() -> None:
    mapper = Mapper(EXACT)
    T = TRUE[1].copy()
    T[1, 3] += 1e-4
    mapper.update([view(0), view(1, T)])
    assert mapper.update([view(0), view(1)]) == MapUpdate(moved=(10,), unchanged=(0,))
    assert_same_map(mapper.volume, built_anew([view(0), view(1)]))


def test_fused_depth_comes_back_from_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mapper_module, "MEASUREMENTS_IN_MEMORY", 1)
    mapper = Mapper(CONFIG.model_copy(update={"max_blocks": 20}), tmp_path)
    mapper.update([view(k, drifted(k)) for k in range(4)])
    assert any(tmp_path.rglob("*.npz"))
    mapper.update([view(k) for k in range(3)])
    assert mapper.volume.blocks_in_memory <= 20
    assert_same_map(mapper.volume, built_anew([view(k) for k in range(3)]))
    mapper.close()
    assert not any(tmp_path.iterdir())


def test_bad_keyframes_are_left_as_they_were_and_named(mapper: Mapper) -> None:
    mapper.update([view(0), view(1)])
    nowhere = np.full((4, 4), np.nan)
    holes = view(3)
    holes.dense.depth_m[5, 5] = np.nan
    update = mapper.update([view(0, nowhere), view(1), view(2, nowhere), holes])
    assert update == MapUpdate(unchanged=(10,), left_out=(0, 20, 30))
    assert_same_map(mapper.volume, built_anew([view(0), view(1)]))
    assert len(mapper.notes) == 1
    assert "3 keyframes" in mapper.notes[0]
    assert "NaN" in mapper.notes[0]
    good = replace(view(3), frame_index=20)
    assert mapper.update([view(0), view(1), good]).added == (20,)


def test_damaged_record_of_a_fused_keyframe_leaves_it_in_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mapper_module, "MEASUREMENTS_IN_MEMORY", 1)
    mapper = Mapper(CONFIG, tmp_path)
    mapper.update([view(0), view(1)])
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:1000])
    assert mapper.update([view(0, drifted(0)), view(1)]).left_out == (0,)
    assert_same_map(mapper.volume, built_anew([view(0), view(1)]))
    assert "truncated or damaged" in mapper.notes[0]
