"""One fit for a whole sequence, against closed forms and a brute-force search."""

import numpy as np
import pytest

from remov3r.eval.depth import DepthPair, depth_metrics
from remov3r.eval.depth_fits import SequencePixels, least_deviation_line, least_deviation_scale

RNG = np.random.default_rng(0)
TRUTH = RNG.uniform(1, 4, (48, 64)).astype(np.float32)


def test_the_scale_is_the_weighted_median_of_the_ratios() -> None:
    assert least_deviation_scale(np.array([1.0, 2.0, 4.0]), np.array([3.0, 3.0, 8.0])) == 2.0
    predicted, truth = RNG.uniform(1, 4, 300), RNG.uniform(1, 4, 300)
    scale = least_deviation_scale(predicted, truth)
    tried = np.linspace(0.3, 3, 20_001)
    cost = np.abs(tried[:, None] * predicted - truth).sum(1)
    assert np.abs(scale * predicted - truth).sum() <= cost.min() + 1e-9


def test_the_line_is_found_through_outliers() -> None:
    predicted = RNG.uniform(1, 5, 1001)
    truth = 1.7 * predicted - 0.4
    truth[:300] += RNG.uniform(1, 30, 300)
    scale, shift = least_deviation_line(predicted, truth)
    assert scale == pytest.approx(1.7, abs=1e-6)
    assert shift == pytest.approx(-0.4, abs=1e-5)


def test_no_other_line_deviates_less() -> None:
    """The least sum of absolute deviations is reached by a line through two of the points."""
    predicted, truth = RNG.uniform(1, 4, 31), RNG.uniform(1, 4, 31)
    truth += 0.8 * predicted
    i, j = np.triu_indices(31, 1)
    slope = (truth[i] - truth[j]) / (predicted[i] - predicted[j])
    shift = truth[i] - slope * predicted[i]
    best = np.abs(slope[:, None] * predicted + shift[:, None] - truth).sum(1)[slope >= 0].min()
    scale, b = least_deviation_line(predicted, truth)
    assert np.abs(scale * predicted + b - truth).sum() == pytest.approx(best, rel=1e-9)


def test_constant_or_opposed_depth_fits_the_median() -> None:
    for predicted in (np.full(5, 2.0), np.array([5.0, 4.0, 3.0, 2.0, 1.0])):
        scale, shift = least_deviation_line(predicted, np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
        fitted = scale * predicted + shift
        np.testing.assert_allclose(fitted, 3.0, atol=1e-6)


def test_one_scale_for_the_sequence_does_not_forgive_a_frame_of_another_scale() -> None:
    """Three frames at half the size and one at the true size: the three set the scale, the fourth is 100 % off."""
    m = depth_metrics([*[DepthPair(0.5 * TRUTH, TRUTH)] * 3, DepthPair(TRUTH, TRUTH)])
    assert m is not None
    assert m.scale.abs_rel == pytest.approx(0, abs=1e-6), "a scale for each frame forgives it"
    assert m.sequence.fitted_scale == pytest.approx(2.0)
    assert m.sequence.scale.abs_rel == pytest.approx(1 / 4)
    assert m.sequence.scale.delta_1_25 == pytest.approx(3 / 4)


def test_scale_and_shift_of_the_sequence() -> None:
    m = depth_metrics([DepthPair(0.5 * TRUTH + 0.3, TRUTH), DepthPair(0.5 * TRUTH[::-1] + 0.3, TRUTH[::-1])])
    assert m is not None
    assert m.sequence.line_scale == pytest.approx(2.0, abs=1e-4)
    assert m.sequence.line_shift_m == pytest.approx(-0.6, abs=1e-4)
    assert m.sequence.scale_shift.abs_rel == pytest.approx(0, abs=1e-5)
    assert m.sequence.scale.abs_rel > 0.01


def test_long_sequences_are_thinned_evenly() -> None:
    kept = SequencePixels(limit=1000)
    for frame in range(5):
        kept.add(np.arange(700.0) + 1, np.full(700, frame + 1.0))
    predicted, truth = kept.pixels()
    assert 300 < len(predicted) <= 1000
    assert len(set(np.unique(truth, return_counts=True)[1].tolist())) == 1
    assert np.array_equal(predicted[truth == 1], predicted[truth == 5])
