"""The long run's own sums: what counts as flat, and a tiny run from rendering to page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from remov3r.pipelines.bench_long import LongRun, Stretch, ToAndFro, as_markdown, growth, measure, plot
from remov3r.pipelines.cli import main


def stretch(end: int, resident_mb: float, frame_ms: float = 10.0) -> Stretch:
    return Stretch(end, resident_mb, frame_ms, frame_ms, 5, 100, 7)


def run(*stretches: Stretch) -> LongRun:
    return LongRun(stretches, 0.01, 0.002, None, 1.5, 400.0, 2, ("frame 1: lost", "frame 4: lost"))


@pytest.mark.parametrize(
    ("values", "change"),
    [([100, 104, 97, 101], 0.04), ([200, 190, 208], -0.05), ([50], 0.0), ([80, 80], 0.0)],
)
def test_growth_is_the_largest_change_against_the_first(values: list[float], change: float) -> None:
    assert growth(np.array(values, float)) == pytest.approx(change)


def test_only_what_follows_the_first_thousand_frames_counts() -> None:
    early = stretch(500, 100.0, 50.0)
    rest = [stretch(1000, 200.0, 10.0), stretch(1500, 206.0, 12.0), stretch(2000, 196.0, 14.0)]
    page = as_markdown(run(early, *rest), 2000, 600)
    assert "changes by +3.0 % at most: flat (allowed: 5 %)" in page
    assert "10.0 ms in the first half of the rest, 13.0 ms in the second" in page
    grown = as_markdown(run(early, *rest, stretch(2500, 222.0)), 2500, 600)
    assert "changes by +11.0 % at most: not flat" in grown


def test_the_page_holds_a_line_per_stretch_and_groups_notes() -> None:
    page = as_markdown(run(stretch(1000, 200.0), stretch(2000, 201.0)), 2000, 600)
    assert "| 2000 | 201 | 10.0 | 10.0 | 5 | 100 | 7 |" in page
    assert "- frames 1 to 4, 2 times: lost" in page
    assert "RRE not known" in page
    assert "frames not tracked: 2" in page


def test_a_tiny_run_is_measured(tmp_path: Path) -> None:
    scene = ToAndFro(tmp_path, 4)
    assert [scene.frame(i).index for i in range(8)] == list(range(8))
    shown = [scene.frame(i).rgb for i in range(8)]
    assert all(np.array_equal(shown[i], shown[j]) for i, j in ((0, 6), (1, 5), (2, 4), (1, 7)))
    measured = measure(scene, 8, 4)
    first, second = measured.stretches
    assert (first.end, second.end) == (4, 8)
    assert min(first.resident_mb, first.frame_ms, first.keyframes, first.landmarks, first.keyframes_made) > 0
    assert measured.not_ok == 0
    assert measured.ate_se3_m is not None
    assert measured.ate_se3_m < 0.05
    plot(measured, tmp_path / "long.png")
    assert (tmp_path / "long.png").stat().st_size > 1000


def test_too_few_frames_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "long", "--frames", "10", "--every", "6"]) == 1
    assert "at least twice" in capsys.readouterr().err
