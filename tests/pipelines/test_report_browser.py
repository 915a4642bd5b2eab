"""The report in headless Chromium: it draws, it can be turned, it is silent, and it fits a phone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from remov3r.pipelines.report import ReportInput, report_html
from tests.pipelines.browser import CHROMIUM, Browser
from tests.pipelines.results import reconstruction, trajectory

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")

COLOURED = """(() => { const c = document.getElementById('viewer'), d = c.getContext('2d')
  .getImageData(0, 0, c.width, c.height).data; let n = 0;
  for (let i = 0; i < d.length; i += 4) n += d[i] > 60 || d[i + 1] > 60 || d[i + 2] > 60;
  return n / (c.width * c.height); })()"""
PICTURE = "document.getElementById('viewer').toDataURL()"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as one:
        yield one


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with all parts."""
    result = reconstruction()
    covariances = np.tile(np.eye(6) * 1e-4, (12, 1, 1))
    result = replace(result, trajectory=replace(result.trajectory, covariances=covariances))
    file = tmp_path_factory.mktemp("report") / "report.html"
    data = ReportInput(result, "a room", "version", "mesh = true\n" * 30, None, trajectory(seed=2))
    file.write_text(report_html(data))
    return file


@pytest.mark.parametrize("dark", [False, True])
def test_draws_in_silence(browser: Browser, page: Path, dark: bool) -> None:
    browser.show(page, dark=dark)
    assert browser.value(COLOURED) > 0.01
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (int(paper.strip("rgb()").split(",")[0]) < 60) == dark
    assert browser.complaints == []
    assert browser.requests == []


def test_the_mouse_turns_it_and_a_button_changes_what_is_shown(browser: Browser, page: Path) -> None:
    browser.show(page)
    before = browser.value(PICTURE)
    x, y = browser.value(
        "(() => { document.getElementById('viewer').scrollIntoView(); const r = document.getElementById('viewer')"
        ".getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    for kind, dx in (("mousePressed", 0), ("mouseMoved", 60), ("mouseReleased", 60)):
        browser.call(
            "Input.dispatchMouseEvent", type=kind, x=x + dx, y=y, button="left", buttons=1, clickCount=1
        )
    browser.wait_for(f"{PICTURE} !== {before!r}")
    turned = browser.value(PICTURE)
    browser.value("document.querySelector('.viewer button[value=points]').click()")
    browser.wait_for(f"{PICTURE} !== {turned!r}")
    assert browser.complaints == []


def test_a_phone_needs_no_sideways_scrolling_and_fingers_turn_it(browser: Browser, page: Path) -> None:
    browser.show(page, width=390, height=844)
    assert browser.value("document.documentElement.scrollWidth") <= 390
    assert browser.value(COLOURED) > 0.01
    before = browser.value(PICTURE)
    x, y = browser.value(
        "(() => { document.getElementById('viewer').scrollIntoView(); const r = document.getElementById('viewer')"
        ".getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        ("touchMove", [{"x": x + 50, "y": y + 20}]),
        ("touchEnd", []),
    ):
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    browser.wait_for(f"{PICTURE} !== {before!r}")
    assert browser.complaints == []
