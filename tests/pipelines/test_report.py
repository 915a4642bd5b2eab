"""The report: one page, complete, and nothing fetched from anywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from remov3r.eval.metrics import evaluate
from remov3r.pipelines.comparison import compare
from remov3r.pipelines.report import ReportInput, report_html
from remov3r.pipelines.report_images import colored, limits
from remov3r.pipelines.report_plots import Axes, Series, plot, ticks
from remov3r.types import Reconstruction
from tests.pipelines.results import reconstruction, trajectory

VOID = {"meta", "img", "br", "th", "td"}


class Nesting(HTMLParser):
    """Checks that elements are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(result: Reconstruction, with_truth: bool) -> str:
    reference = trajectory(seed=2) if with_truth else None
    metrics = evaluate(result, reference) if with_truth else None
    return report_html(ReportInput(result, "a <room>", "version", "mesh = true\n", metrics, reference))


@pytest.mark.parametrize("with_truth", [True, False])
@pytest.mark.parametrize("meshed", [True, False])
def test_page_is_whole_and_self_contained(meshed: bool, with_truth: bool) -> None:
    html = page(reconstruction(meshed), with_truth)
    nesting = Nesting()
    nesting.feed(html)
    assert nesting.open == []
    assert not re.search(r"(src|href)=['\"](?!data:)|@import|url\(|https?://", html)
    assert "a &lt;room&gt;" in html
    assert html.count("<img") == 4 * 3 + 3 * meshed
    assert ("ATE SE(3)" in html) == with_truth
    assert ("tracking lost in frames 14 to 16" in html) == meshed  # its note


def test_states_are_shaded() -> None:
    html = page(reconstruction(), with_truth=True)
    assert html.count('<rect class="lost"') == 2  # in the plot and on the timeline
    assert html.count('<rect class="weak"') == 2


def test_one_frame_makes_a_page() -> None:
    whole = reconstruction()
    one = trajectory(1)
    html = page(replace(whole, trajectory=one, online=one, keyframes=whole.keyframes[:1]), with_truth=False)
    assert "nan" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", html).lower()


def test_errors_are_measured_in_the_estimates_frame() -> None:
    reference, estimate = trajectory(), trajectory()
    T = np.array([[0.0, -1, 0, 5], [1, 0, 0, -2], [0, 0, 1, 1], [0, 0, 0, 1]])
    moved = replace(reference, T_world_cam=T @ reference.T_world_cam)
    compared = compare(estimate, estimate, moved)
    np.testing.assert_allclose(compared.error_m, 0, atol=1e-9)
    np.testing.assert_allclose(compared.online_error_m, 0, atol=1e-9)
    np.testing.assert_allclose(compared.reference_m, reference.T_world_cam[:, :3, 3], atol=1e-9)


def test_reference_outside_the_run_is_left_out() -> None:
    reference = trajectory(12)
    part = replace(trajectory(5))
    assert len(compare(part, part, reference).reference_m) == 5


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-0.013, 0.021) == [-0.01, 0.0, 0.01, 0.02]
    for low, high in ((3.0, 3.0007), (-1e4, 2e5), (0, 7)):
        assert 2 <= len(ticks(low, high)) <= 6


def test_equal_axes_have_one_scale() -> None:
    axes = Axes((0, 4), (0, 1), equal=True)
    x, y = axes.px(np.array([0.0, 1.0])), axes.py(np.array([0.0, 1.0]))
    assert x[1] - x[0] == pytest.approx(y[0] - y[1])


def test_a_constant_line_and_gaps_can_be_drawn() -> None:
    svg = plot([Series("a", "estimate", np.arange(3.0), np.array([1.0, np.nan, 1.0]))], "x", "y")
    assert "nan" not in svg


def test_missing_depth_is_grey() -> None:
    values = np.array([[1.0, 0.0], [np.inf, 2.0]])
    picture = colored(values, 1, 2, 0)
    assert (picture[0, 1] == 128).all()
    assert (picture[1, 0] == 128).all()
    assert (picture[0, 0] != picture[1, 1]).any()
    assert limits([np.zeros((2, 2))]) == (0.0, 1.0)
