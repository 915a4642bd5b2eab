"""Calibration: known σ is found, the curve of a known mistake, gross errors, and the plot."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import NormalDist

import cv2
import numpy as np
import pytest

from remov3r.errors import MissingDependencyError
from remov3r.training.calibration import (
    LEVELS,
    Pixels,
    calibrate,
    calibration_error,
    coverage,
    likelihood_factor,
    median_factor,
    pooled,
)
from remov3r.training.reliability_plot import reliability_figure, write_reliability_plot


def gaussian(sigma_factor: float, count: int = 40000, seed: int = 0) -> Pixels:
    """Errors of σ = sigma_factor / confidence."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(1, 8, count)
    return Pixels(np.abs(rng.normal(size=count)) * sigma_factor / confidence, confidence)


def test_known_sigma_is_found_and_calibrated() -> None:
    """Normal errors of σ = 1 / c: both rules give 1, and coverage is nominal."""
    found = calibrate(gaussian(1.0))
    assert found.sigma_factor == found.own_factor == pytest.approx(1, rel=0.02)
    assert found.likelihood_factor == pytest.approx(1, rel=0.02)
    assert found.error < 0.01
    assert found.within_1_sigma == pytest.approx(0.683, abs=0.01)
    assert found.within_2_sigma == pytest.approx(0.954, abs=0.01)
    assert list(found.abs_rel_by_confidence) == sorted(found.abs_rel_by_confidence, reverse=True)


def test_coverage_of_a_sigma_twice_too_small() -> None:
    """The central interval of 2Φ(x) − 1 then holds 2Φ(x / 2) − 1 of the errors."""
    normal = NormalDist()
    expected = [2 * normal.cdf(normal.inv_cdf((1 + p) / 2) / 2) - 1 for p in LEVELS]
    found = calibrate(gaussian(2.0), factor=1.0)
    assert found.coverage == pytest.approx(expected, abs=0.01)
    assert found.error == pytest.approx(np.mean([p - e for p, e in zip(LEVELS, expected)]), abs=0.005)
    assert found.sigma_factor == 1
    assert found.own_factor == pytest.approx(2, rel=0.02)


def test_calibration_error_of_hopeless_sigmas_is_a_half() -> None:
    assert calibration_error(coverage(np.full(10, np.inf))) == pytest.approx(0.5)
    assert calibration_error(coverage(np.zeros(10))) == pytest.approx(0.5)
    assert calibration_error(LEVELS) == 0


def test_gross_errors_move_the_likelihood_and_not_the_median() -> None:
    """2 % of errors of 20 σ: why the median rule was chosen."""
    good, gross = gaussian(1.0, 9800), gaussian(20.0, 200, seed=1)
    both = pooled([good, gross])
    assert median_factor(both) == pytest.approx(1, abs=0.05)
    assert likelihood_factor(both) > 2.5
    judged = calibrate(both)
    assert judged.error < 0.02 < 0.2 < judged.likelihood_error


def test_figure_is_an_image_and_shows_the_curves(tmp_path: Path) -> None:
    good = calibrate(gaussian(1.0))
    plain = reliability_figure(good)
    assert plain.dtype == np.uint8
    assert plain.shape == (500, 500, 3)
    assert (plain == 0).all(-1).sum() > 500  # the black curve and axes
    again = reliability_figure(good, {"small": calibrate(gaussian(2.0), 1.0)})
    assert (plain != again).any()
    write_reliability_plot(tmp_path / "made" / "reliability.png", good)
    read = cv2.imread(str(tmp_path / "made" / "reliability.png"))
    assert read is not None
    assert (read[..., ::-1] == plain).all()


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"remov3r\[train\]"):
        reliability_figure(calibrate(gaussian(1.0)))
