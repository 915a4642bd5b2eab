"""Trajectory errors: known values, invariants, equality with evo's own commands, bad and degenerate input."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

pytest.importorskip("evo")

from remov3r.data.pose_files import known_trajectory
from remov3r.data.sources import read_reference
from remov3r.data.tum_trajectory import read_tum, write_tum
from remov3r.errors import DataError, MissingDependencyError
from remov3r.eval.trajectory import (
    Align,
    TrajectoryEvalConfig,
    alignment,
    evaluate_trajectory,
    frame_errors,
    view_alignment,
)
from remov3r.geometry import Similarity, se3_exp
from remov3r.types import Trajectory

HOLOLENS = Path(__file__).parents[2] / "../shared/data/hololens"
ALIGN: tuple[Align, ...] = ("se3", "sim3")
S = Similarity(1.0, se3_exp(np.array([0, 0, 0, 0.3, -0.8, 0.5]))[:3, :3], np.array([1.0, -2.0, 0.5]))


@cache
def walk(count: int = 60, seed: int = 0) -> Trajectory:
    """A smooth random path, 30 poses a second."""
    rng = np.random.default_rng(seed)
    T = np.eye(4)
    poses = []
    for _ in range(count):
        poses.append(T)
        T = T @ se3_exp(rng.normal(0, [0.03, 0.03, 0.03, 0.02, 0.02, 0.02]))
    return known_trajectory(range(count), [i / 30 for i in range(count)], poses)


def moved(trajectory: Trajectory, similarity: Similarity) -> Trajectory:
    return replace(trajectory, T_world_cam=similarity.apply_to_poses(trajectory.T_world_cam))


def noisy(trajectory: Trajectory, sigma_m: float = 0.01) -> Trajectory:
    T = trajectory.T_world_cam.copy()
    T[:, :3, 3] += np.random.default_rng(1).normal(0, sigma_m, (len(T), 3))
    return replace(trajectory, T_world_cam=T)


def test_a_moved_and_turned_copy_has_no_error() -> None:
    m = evaluate_trajectory(moved(walk(), S), walk(), frames=61)
    assert m.se3.ate_rmse_m == pytest.approx(0, abs=1e-9)
    assert m.sim3.scale == pytest.approx(1)
    assert m.rte_rmse_m == pytest.approx(0, abs=1e-9)
    assert m.rre_rmse_deg == pytest.approx(0, abs=1e-5)
    assert (m.poses, m.frames, m.notes) == (60, 61, ())


def test_recovered_scale_multiplies_the_estimate_onto_the_ground_truth() -> None:
    small = moved(walk(), replace(S, scale=0.5))
    m = evaluate_trajectory(small, walk())
    assert m.sim3.scale == pytest.approx(2.0)
    assert m.sim3.ate_rmse_m == pytest.approx(0, abs=1e-9)
    centred = walk().T_world_cam[:, :3, 3] - walk().T_world_cam[:, :3, 3].mean(0)
    assert m.se3.ate_rmse_m == pytest.approx(0.5 * np.sqrt((centred**2).sum(1).mean()))
    steps = np.diff(walk().T_world_cam[:, :3, 3], axis=0)
    assert m.rte_rmse_m == pytest.approx(0.5 * np.sqrt((steps**2).sum(1).mean()))


def test_constant_turn_each_frame_is_the_relative_rotation_error() -> None:
    n = 20
    still = known_trajectory(range(n), list(range(n)), [np.eye(4)] * n)
    turning = [se3_exp(np.array([0, 0, 0, 0, np.radians(0.25) * i, 0])) for i in range(n)]
    m = evaluate_trajectory(replace(still, T_world_cam=np.stack(turning)), still)
    assert m.rre_rmse_deg == pytest.approx(0.25, rel=1e-6)
    assert m.rte_rmse_m == pytest.approx(0)


def test_error_does_not_depend_on_either_world_frame() -> None:
    a = evaluate_trajectory(noisy(walk()), walk())
    b = evaluate_trajectory(moved(noisy(walk()), S), walk())
    c = evaluate_trajectory(noisy(walk()), moved(walk(), S))
    for other in (b, c):
        assert other.se3.ate_rmse_m == pytest.approx(a.se3.ate_rmse_m)
        assert other.rte_rmse_m == pytest.approx(a.rte_rmse_m)


def evo_rmse(folder: Path, command: str, *options: str) -> float:
    """What evo's own command measures between ref.tum and est.tum, with all its digits."""
    tool = Path(sys.executable).with_name(command)
    environment = {**os.environ, "HOME": str(folder)}  # evo writes its settings there
    files = [str(folder / "ref.tum"), str(folder / "est.tum")]
    result = folder / "result.zip"
    result.unlink(missing_ok=True)
    run = [str(tool), "tum", *files, *options, "--save_results", str(result)]
    subprocess.run(run, capture_output=True, env=environment, check=True)
    with ZipFile(result) as archive:
        return float(json.loads(archive.read("stats.json"))["rmse"])


def assert_same_as_evo(folder: Path) -> None:
    """Every figure equals that of evo's commands on ref.tum and est.tum."""
    estimate, reference = read_tum(folder / "est.tum"), read_tum(folder / "ref.tum")
    m = evaluate_trajectory(estimate, reference, config=TrajectoryEvalConfig(frames=10))
    rmse = partial(evo_rmse, folder)
    pairs = ("--all_pairs", "--pairs_from_reference")
    assert m.se3.ate_rmse_m == pytest.approx(rmse("evo_ape", "-a"), abs=1e-9)
    assert m.sim3.ate_rmse_m == pytest.approx(rmse("evo_ape", "-as"), abs=1e-9)
    assert m.rte_rmse_m == pytest.approx(rmse("evo_rpe", "-d", "1", "-u", "f"), abs=1e-9)
    assert m.rre_rmse_deg == pytest.approx(rmse("evo_rpe", "-d", "1", "-u", "f", "-r", "angle_deg"), abs=1e-9)
    assert m.per_metre is not None
    assert m.per_frames is not None
    assert m.per_metre.rte_rmse_m == pytest.approx(rmse("evo_rpe", "-d", "1", "-u", "m", *pairs), abs=1e-9)
    ten = rmse("evo_rpe", "-d", "10", "-u", "f", "-r", "angle_deg", *pairs)
    assert m.per_frames.rre_rmse_deg == pytest.approx(ten, abs=1e-9)
    assert (m.per_frames.delta, m.per_frames.unit, m.per_frames.pairs) == (10, "frames", m.poses - 10)


def test_same_figures_as_the_commands_of_evo(tmp_path: Path) -> None:
    write_tum(tmp_path / "ref.tum", walk(200))
    write_tum(tmp_path / "est.tum", noisy(moved(walk(200), replace(S, scale=0.5))))
    assert_same_as_evo(tmp_path)


@pytest.mark.skipif(not HOLOLENS.is_dir(), reason="the recording is not at hand")
def test_same_figures_as_the_commands_of_evo_on_a_recording(tmp_path: Path) -> None:
    """The first 60 poses that this program gave for the recording, against all 250 of its ground truth."""
    shutil.copy(Path(__file__).parent / "files/hololens_60.tum", tmp_path / "est.tum")
    write_tum(tmp_path / "ref.tum", read_reference(HOLOLENS, "posed", False))
    assert_same_as_evo(tmp_path)


def test_errors_of_frames_add_up_to_the_figures() -> None:
    estimate = noisy(moved(walk(), replace(S, scale=0.5)))
    m, se3, sim3 = (
        evaluate_trajectory(estimate, walk()),
        *(frame_errors(estimate, walk(), a) for a in ALIGN),
    )

    def rms(x: np.ndarray) -> float:
        return float(np.sqrt(np.nanmean(x**2)))

    assert rms(se3.ate_m) == pytest.approx(m.se3.ate_rmse_m)
    assert rms(sim3.ate_m) == pytest.approx(m.sim3.ate_rmse_m)
    assert rms(sim3.rte_m) == pytest.approx(m.rte_rmse_m)
    assert rms(se3.rre_deg) == pytest.approx(m.rre_rmse_deg, abs=1e-6)
    np.testing.assert_allclose(np.linalg.norm(sim3.position_m - sim3.reference_m, axis=1), sim3.ate_m)
    assert np.isnan(se3.rte_m).tolist() == [True] + [False] * 59


def test_a_short_path_has_no_error_per_metre() -> None:
    short = known_trajectory(range(5), list(range(5)), list(walk().T_world_cam[:5]))
    m = evaluate_trajectory(short, short)
    assert (m.per_metre, m.per_frames) == (None, None)


def test_association_by_time_within_the_tolerance() -> None:
    reference = walk(60)
    estimate = replace(
        known_trajectory(range(20), [i / 10 + 0.004 for i in range(20)], list(reference.T_world_cam[::3])),
    )
    m = evaluate_trajectory(estimate, reference)
    assert m.poses == 20
    assert m.se3.ate_rmse_m == pytest.approx(0, abs=1e-9)
    with pytest.raises(DataError, match=r"no timestamp of the estimate \(0\.004\.\..* within 0\.001 s"):
        evaluate_trajectory(estimate, reference, config=TrajectoryEvalConfig(tolerance_s=0.001))


def test_poses_without_reference_are_counted() -> None:
    half = known_trajectory(range(30), walk().timestamps_s[:30].tolist(), list(walk().T_world_cam[:30]))
    m = evaluate_trajectory(walk(), half)
    assert (m.poses, m.frames) == (30, 60)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["estimate", "reference"])
def test_nan_is_refused(value: float, which: str) -> None:
    T = walk().T_world_cam.copy()
    T[7, 0, 3] = value
    bad = replace(walk(), T_world_cam=T)
    pair = (bad, walk()) if which == "estimate" else (walk(), bad)
    with pytest.raises(DataError, match=f"the {which} trajectory holds NaN .* first in pose 7"):
        evaluate_trajectory(*pair)


def test_times_that_do_not_increase_are_refused() -> None:
    times = walk().timestamps_s.copy()
    times[9] = times[8]
    with pytest.raises(DataError, match="do not increase after pose 8"):
        evaluate_trajectory(replace(walk(), timestamps_s=times), walk())


def test_empty_is_refused() -> None:
    with pytest.raises(DataError, match="the estimate trajectory holds no poses"):
        evaluate_trajectory(known_trajectory([], [], []), walk())


@pytest.mark.parametrize("step_m", [0.0, 0.1])
def test_static_camera_and_straight_line_get_a_note(step_m: float) -> None:
    T = np.tile(np.eye(4), (10, 1, 1))
    T[:, 0, 3] = step_m * np.arange(10)
    line = known_trajectory(range(10), list(range(10)), list(T))
    m = evaluate_trajectory(line, line)
    assert m.se3.ate_rmse_m is None
    assert m.sim3.scale is None
    assert m.rte_rmse_m == pytest.approx(0)
    assert "fix no alignment" in m.notes[0]


def test_one_and_two_poses_get_notes() -> None:
    two = known_trajectory(range(2), [0, 1], [np.eye(4), se3_exp(np.array([1.0, 0, 0, 0, 0, 0]))])
    assert evaluate_trajectory(two, two).rte_rmse_m == pytest.approx(0)
    one = known_trajectory([0], [0.0], [np.eye(4)])
    m = evaluate_trajectory(one, one)
    assert (m.rte_rmse_m, m.rre_rmse_deg, len(m.notes)) == (None, None, 2)


def test_alignment_undoes_the_motion_of_the_world() -> None:
    np.testing.assert_allclose(alignment(walk(), moved(walk(), S)), S.matrix(), atol=1e-9)


def test_alignment_of_a_static_camera_lays_the_first_pose_onto_its_reference() -> None:
    still = known_trajectory(range(4), list(range(4)), [S.matrix()] * 4)
    estimate = replace(still, T_world_cam=np.tile(np.eye(4), (4, 1, 1)))
    np.testing.assert_allclose(alignment(estimate, still), S.matrix())


def test_evo_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "evo.core.sync", None)
    with pytest.raises(MissingDependencyError, match=r"remov3r\[eval\]"):
        evaluate_trajectory(walk(), walk())


def test_views_fix_what_the_centres_of_a_straight_path_leave_open() -> None:
    straight = walk()
    T = straight.T_world_cam.copy()
    T[:, :3, 3] = np.linspace(0, 1, len(T))[:, None] * [1.0, 0.0, 0.0]
    T[:, :3, 3] += np.random.default_rng(0).normal(0, 1e-4, (len(T), 3))
    straight = replace(straight, T_world_cam=T)
    T_new_old = se3_exp(np.array([0.3, -0.2, 0.5, 0.4, -0.6, 0.9]))
    estimate = replace(straight, T_world_cam=T_new_old @ T)
    jittered = replace(estimate, T_world_cam=estimate.T_world_cam.copy())
    jittered.T_world_cam[:, :3, 3] += np.random.default_rng(1).normal(0, 2e-3, (len(T), 3))
    np.testing.assert_allclose(view_alignment(jittered, straight) @ T_new_old, np.eye(4), atol=2e-3)
