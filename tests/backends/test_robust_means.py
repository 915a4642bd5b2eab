"""Middles of readings, some of them wrong."""

import numpy as np
import pytest

from remov3r.backends.robust_means import huber_mean, weighted_median


def test_weighted_median() -> None:
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.ones(3)) == 2
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([5.0, 1.0, 1.0])) == 3


def test_a_hubers_mean_is_sharper_than_the_median_and_hardly_follows_wrong_readings() -> None:
    draws = np.random.default_rng(0).normal(size=(400, 60))
    ones = np.ones(60)
    means, medians = (np.std([f(row, ones) for row in draws]) for f in (huber_mean, weighted_median))
    assert means < 0.9 * medians
    wrong = draws.copy()
    wrong[:, :6] = 100.0
    assert np.mean([huber_mean(row, ones) for row in wrong]) < 0.3
    assert np.mean(wrong) > 9


def test_readings_that_agree_and_weights() -> None:
    assert huber_mean(np.array([1.0, 1.0, 1.0, 5.0]), np.ones(4)) == 1
    assert huber_mean(np.array([0.0, 1.0]), np.array([0.0, 2.0])) == 1
    assert huber_mean(np.array([0.0, 0.1, 0.2]), np.array([1.0, 1.0, 2.0])) == pytest.approx(0.125, abs=0.05)
