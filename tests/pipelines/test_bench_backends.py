"""The benchmark of backends: verdicts and rows by hand, loops of a map, and one small run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from remov3r.backends.landmark_map import LandmarkMap
from remov3r.data.synthetic.situations import CAMERA, SITUATIONS, SituationSource, lost_frames
from remov3r.errors import DataError
from remov3r.geometry import inverse, se3_exp
from remov3r.pipelines import bench_backends
from remov3r.pipelines.bench_backends import Case, measure, settings
from remov3r.pipelines.bench_backends_scores import mean_nees, shared_views
from remov3r.pipelines.bench_backends_table import (
    Row,
    json_text,
    markdown_page,
    mean_row,
    merged,
    rows_from,
    verdict_lines,
    verdict_of,
    verdicts,
)
from remov3r.pipelines.cli import main
from remov3r.pipelines.demo import write_sequence
from remov3r.types import TrackingState, Trajectory

ALONE = Row("loop", "drift", "none", None, True, False, "v", se3_m=0.10, sim3_m=0.08, scale=1.0)
GRAPH = replace(ALONE, backend="pose_graph", loops=True)


def judged(se3_m: float | None, sim3_m: float | None, **changes: bool) -> tuple[bool, bool | None]:
    row = replace(GRAPH, se3_m=se3_m, sim3_m=sim3_m, **changes)  # type: ignore[arg-type]
    verdict = verdict_of(row, ALONE)
    assert verdict is not None
    return verdict.worse, verdict.better


def test_two_percent_worse_and_thirty_percent_better() -> None:
    assert judged(0.069, 0.056) == (False, True)
    assert judged(0.08, 0.056) == (False, False)
    assert judged(0.101, 0.08) == (False, False)
    assert judged(0.103, 0.08) == (True, False)
    assert judged(0.06, 0.09) == (True, True)
    assert judged(None, None) == (True, False)  # the positions fix no alignment any more
    assert judged(0.08, 0.055, biased=True) == (False, True)  # told by Sim(3)
    assert judged(0.08, 0.08, looped=False) == (False, None)
    assert judged(0.08, 0.08, loops=False) == (False, None)


def test_a_biased_front_end_is_judged_in_its_own_lengths() -> None:
    alone = replace(ALONE, se3_m=0.6, own_m=0.05, biased=True)
    lucky = replace(GRAPH, se3_m=0.7, own_m=0.04, sim3_m=0.04, biased=True)
    verdict = verdict_of(lucky, alone)
    assert verdict is not None
    assert (verdict.worse, verdict.better) == (False, True)
    assert verdict.own == pytest.approx(0.8)
    assert "factor left in: SE(3) of loop drift × 1.17." in verdict_lines([alone, lucky])[1]
    off = verdict_of(replace(lucky, own_m=0.06), alone)
    assert off is not None
    assert off.worse
    assert "own lengths × 1.20" in markdown_page([alone, replace(lucky, own_m=0.06)])


def test_less_than_a_millimetre_is_no_difference() -> None:
    tiny = replace(ALONE, se3_m=0.001, sim3_m=0.001)
    verdict = verdict_of(replace(GRAPH, se3_m=0.0019, sim3_m=0.0019), tiny)
    assert verdict is not None
    assert not verdict.worse
    assert verdict.se3 == pytest.approx(1.9)


def test_without_the_front_ends_own_figures_there_is_no_verdict() -> None:
    sensor = replace(GRAPH, front_end="sensor")
    failed = replace(GRAPH, loops=False, problem="lost")
    assert verdicts([ALONE, GRAPH, sensor, failed])[0] is None
    assert [v is None for v in verdicts([ALONE, GRAPH, sensor, failed])] == [True, False, True, True]


def test_the_page_counts_and_names_what_fails() -> None:
    good = replace(GRAPH, se3_m=0.05, sim3_m=0.05, nees=7.0, nees_known=True)
    bad = replace(GRAPH, backend="bundle", se3_m=0.2, nees=60.0, nees_known=True)
    unknown = replace(bad, front_end="boast", nees_known=False)
    rows = [ALONE, good, bad, unknown]
    assert "in 0 of 1 runs; better by 30 % or more in 1 of 1" in verdict_lines(rows)[0]
    assert "in 1 of 1 runs; better by 30 % or more in 0 of 1" in verdict_lines(rows)[1]
    assert verdict_lines(rows)[1].count("in 1 of 1") == 2  # worse once, NEES once
    page = markdown_page(rows)
    assert (
        "- loop drift bundle on: worse, SE(3) × 2.00, Sim(3) × 1.00, not 30 % better, × 2.00, NEES / 6 = 10"
        in page
    )
    assert "| holds |" in page
    assert "| front end |" in page
    assert "- pose_graph, not measured: loop boast." in page
    assert "Nothing." in markdown_page([ALONE, good])


def test_rows_can_be_read_again_and_replaced() -> None:
    rows = rows_from(json_text([ALONE, replace(GRAPH, notes=("a", "b"))]), "x.json")
    assert rows == [ALONE, replace(GRAPH, notes=("a", "b"))]
    new = replace(GRAPH, se3_m=0.5)
    assert merged(rows, [new, replace(GRAPH, front_end="other")]) == [
        ALONE,
        new,
        replace(GRAPH, front_end="other"),
    ]
    with pytest.raises(DataError, match=r"x\.json: holds no rows"):
        rows_from('{"rows": [{"sequence": 1}]}', "x.json")


def test_a_row_is_the_mean_of_its_runs() -> None:
    first = replace(
        GRAPH, se3_m=0.1, sim3_m=0.2, nees=4.0, loops_given=3, precision=None, lost=1, notes=("a",)
    )
    second = replace(first, se3_m=0.3, nees=8.0, loops_given=4, precision=0.5, lost=2, notes=("a", "b"))
    mean = mean_row([first, second])
    assert [mean.se3_m, mean.sim3_m, mean.nees] == pytest.approx([0.2, 0.2, 6.0])
    assert (mean.loops_given, mean.lost, mean.precision, mean.notes) == (4, 2, 0.5, ("a", "b"))
    assert mean.key == GRAPH.key
    assert mean_row([first, replace(second, se3_m=None)]).se3_m is None  # one run has no error: none has


def test_the_mean_nees_is_six_where_covariances_are_true() -> None:
    random = np.random.default_rng(0)
    count, sigma = 2000, np.array([0.01, 0.02, 0.03, 0.1, 0.2, 0.3])
    truth = np.asarray(se3_exp(random.normal(size=(count, 6))))
    error = random.normal(size=(count, 6)) * sigma
    error[0] = 0
    small = np.tile(np.eye(4), (count, 1, 1))
    small[:, :3, :3] = se3_exp(np.concatenate([0 * error[:, :3], error[:, :3]], 1))[:, :3, :3]
    small[:, :3, 3] = error[:, 3:]
    estimate = truth @ inverse(small)

    def trajectory(T: np.ndarray, covariances: np.ndarray | None) -> Trajectory:
        index = np.arange(count)
        state = (TrackingState.OK,) * count
        return Trajectory(index, index / 30, T, np.zeros(count, bool), state, covariances=covariances)

    stated = np.tile(np.diag(sigma**2), (count, 1, 1))
    stated[5:10] = np.nan
    found = mean_nees(trajectory(estimate, stated), trajectory(truth, None))
    assert found == pytest.approx(6, rel=0.05)
    assert mean_nees(trajectory(estimate, None), trajectory(truth, None)) is None


def test_keyframes_that_share_landmarks_are_loops_of_the_bundle() -> None:
    landmark_map = LandmarkMap(CAMERA)
    shared = landmark_map.add_landmarks(np.ones((30, 3)), 0, np.ones(30))
    none = np.empty(0, np.int64)
    for place in range(14):
        seen = shared if place in (0, 5, 13) else none
        T = se3_exp(np.array([0.1 * place, 0, 0, 0, 0, 0]))
        count = len(seen)
        landmark_map.add_keyframe(
            10 * place, T, seen, np.zeros((count, 2)), np.ones(count), np.ones(count),
            np.zeros((count, 128), np.uint8), np.zeros(1), 1.0, 0,
        )  # fmt: skip
    loops = shared_views(landmark_map)
    assert [(k.from_index, k.to_index, k.inliers) for k in loops] == [(0, 130, 30)]
    assert loops[0].T_from_to[0, 3] == pytest.approx(1.3)


def test_situations_are_what_they_say() -> None:
    for name in SITUATIONS:
        source = SituationSource(name, 40)
        step = inverse(source.T_world_cam[:-1]) @ source.T_world_cam[1:]
        assert np.allclose(np.linalg.det(source.T_world_cam[:, :3, :3]), 1)
        assert np.linalg.norm(step[:, :3, 3], axis=1).max() < 0.4
    assert np.ptp(SituationSource("rotation", 40).T_world_cam[:, :3, 3], axis=0).max() < 0.2
    assert len(lost_frames("lost-and-found", 100)) == 8
    assert len(lost_frames("loop", 100)) == 0
    with pytest.raises(DataError, match="there are corridor"):
        SituationSource("maze", 40)


def test_one_row_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sequence(SituationSource("corridor", 30), tmp_path)
    case = Case("corridor", tmp_path / "room", ("drift 3 %",), False)
    row = Row("corridor", "drift 3 %", "pose_graph", True, False, False, "v")
    found = measure(row, case, settings("pose_graph", True, "lite", "drift 3 %"))
    assert found.se3_m is not None
    assert found.se3_m < 0.2
    assert found.nees_known
    assert found.nees is not None
    assert found.loops_given == 0
    assert bench_backends.settings("bundle", False, "lite", "sensor").bundle.map_reuse.enabled is False


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--frames", "3"], "at least 30"), (["--sequence", "maze"], "there are corridor")],
)
def test_what_cannot_be_measured_is_said(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "backends", *arguments]) == 1
    assert says in capsys.readouterr().err
