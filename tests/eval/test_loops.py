"""Loops against ground truth, on views of a flat wall with closed-form overlap."""

import numpy as np
import pytest

from remov3r.camera import Camera
from remov3r.errors import DataError
from remov3r.eval.loops import LoopEvalConfig, TrueView, evaluate_loops, overlaps
from remov3r.geometry import inverse, se3_exp
from remov3r.types import PoseKind, RelativePose

CAMERA = Camera(80, 60, 60.0, 60.0, 39.5, 29.5)
DEPTH_M = 2.0
WIDTH_M = 80 / 60 * DEPTH_M  # of the piece of wall that a view sees


def view(index: int, share: float, depth_m: float = DEPTH_M) -> TrueView:
    """A view of the wall from a place moved aside by a share of what it sees."""
    T = np.eye(4)
    T[0, 3] = share * WIDTH_M
    return TrueView(index, T, np.full((60, 80), depth_m), CAMERA)


def loop(a: TrueView, b: TrueView, xi: tuple[float, ...] = (0, 0, 0, 0, 0, 0)) -> RelativePose:
    """The true transform, with an error (translation, rotation)."""
    T = inverse(a.T_world_cam) @ b.T_world_cam @ se3_exp(np.array(xi, dtype=float))
    return RelativePose(a.frame_index, b.frame_index, T, PoseKind.LOOP)


def test_overlap_is_the_share_of_the_wall_seen_by_both() -> None:
    fine = LoopEvalConfig(grid=30)
    found = overlaps([view(0, 0.0), view(1, 0.25), view(2, 0.5), view(3, 1.2)], fine)
    expected = np.clip(1 - np.abs(np.subtract.outer([0, 0.25, 0.5, 1.2], [0, 0.25, 0.5, 1.2])), 0, 1)
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_what_is_hidden_or_unknown_is_not_seen() -> None:
    hidden = view(1, 0.0, depth_m=1.0)  # something stands before the wall
    assert overlaps([view(0, 0.0), hidden])[0, 1] == 0
    half = view(2, 0.0)
    half.depth_m[:, :40] = 0
    assert overlaps([view(0, 0.0), half])[0, 1] == 1  # judged by the half that it knows
    assert overlaps([view(0, 0.0), view(1, 0.0, depth_m=0.0)])[0, 1] == 0


def test_counts_right_wrong_and_missed_loops() -> None:
    views = [view(0, 0.0), view(10, 2.0), view(20, 4.0), view(30, 0.1), view(40, 2.1), view(50, 7.0)]
    good = loop(views[0], views[3], (0.03, 0, 0, 0, 0, 0))
    far_off = loop(views[0], views[4], (0.5, 0, 0, 0, 0, 0))  # and of another place
    turned = loop(views[1], views[4], (0, 0, 0, 0, 0, 0.05))
    metrics = evaluate_loops([good, far_off, turned], views, recent=2)
    assert (metrics.loops, metrics.same_place, metrics.correct) == (3, 2, 1)
    assert (metrics.revisits, metrics.found) == (2, 1)
    assert metrics.precision == pytest.approx(1 / 3)
    assert metrics.place_precision == pytest.approx(2 / 3)
    assert metrics.recall == 0.5
    assert metrics.error_m == pytest.approx(0.03)
    assert metrics.error_deg == pytest.approx(0, abs=1e-6)


def test_recent_pairs_are_no_revisits_and_the_error_allowed_grows_with_depth() -> None:
    views = [view(0, 0.0), view(1, 0.05), view(2, 0.1)]
    assert evaluate_loops([], views, recent=2).revisits == 0
    assert evaluate_loops([], views, recent=1).revisits == 1
    off = [loop(views[0], views[2], (0.055, 0, 0, 0, 0, 0))]
    assert evaluate_loops(off, views, 1).correct == 1  # 3 % of 2 m
    assert evaluate_loops(off, views, 1, LoopEvalConfig(max_error_share=0)).correct == 0


def test_nothing_to_measure_gives_none_and_unknown_frames_are_refused() -> None:
    empty = evaluate_loops([], [view(0, 0.0)], 1)
    assert empty.precision is empty.recall is empty.error_m is empty.place_precision is None
    with pytest.raises(DataError, match=r"no keyframes: \[7\]"):
        evaluate_loops([loop(view(0, 0.0), view(7, 0.0))], [view(0, 0.0)], 1)
