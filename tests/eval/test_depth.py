"""Depth errors with known values."""

import numpy as np
import pytest

from remov3r.errors import DataError, ShapeError
from remov3r.eval.depth import DepthEvalConfig, DepthPair, depth_errors, depth_metrics, resized_depth

RNG = np.random.default_rng(0)
TRUTH = RNG.uniform(1, 4, (48, 64)).astype(np.float32)


def test_perfect_prediction() -> None:
    m = depth_metrics([DepthPair(TRUTH, TRUTH, TRUTH)])
    assert m is not None
    assert m.aligned is not None
    for errors in (m.metric, m.median, m.scale_shift, m.aligned):
        assert errors.abs_rel == pytest.approx(0, abs=1e-6)
        assert errors.delta_1_25 == 1
    assert m.frames == 1


def test_each_variant_removes_what_it_should() -> None:
    m = depth_metrics([DepthPair(2 * TRUTH, TRUTH), DepthPair(1.5 * TRUTH, TRUTH)])
    assert m is not None
    assert m.metric.abs_rel == pytest.approx(0.75), "mean of 1.0 and 0.5 over frames"
    assert m.metric.delta_1_25 == 0
    assert m.median.abs_rel == pytest.approx(0, abs=1e-6)
    assert m.aligned is None
    shifted = depth_metrics([DepthPair(0.5 * TRUTH + 0.3, TRUTH)])
    assert shifted is not None
    assert shifted.scale_shift.abs_rel == pytest.approx(0, abs=1e-5)
    assert shifted.median.abs_rel > 0.01


def test_frames_count_alike_however_many_pixels_they_have() -> None:
    sparse = np.zeros_like(TRUTH)
    sparse[:2, :2] = TRUTH[:2, :2]
    m = depth_metrics([DepthPair(TRUTH, TRUTH), DepthPair(1.2 * TRUTH, sparse)])
    assert m is not None
    assert m.metric.abs_rel == pytest.approx(0.1)


def test_delta_is_the_ratio_either_way() -> None:
    errors = depth_errors(np.array([1.0, 1.24, 1.26, 0.81, 0.79]), np.ones(5))
    assert errors.delta_1_25 == pytest.approx(3 / 5)
    assert errors.abs_rel == pytest.approx((0 + 0.24 + 0.26 + 0.19 + 0.21) / 5)


def test_only_pixels_with_truth_in_range_and_a_prediction_count() -> None:
    truth = np.full((48, 64), 2.0, np.float32)
    truth[0], truth[1], truth[2] = 0.0, 0.05, 12.0
    predicted = np.full((48, 64), 2.0, np.float32)
    predicted[:3] = 100.0
    predicted[3], predicted[4] = 0.0, np.nan
    m = depth_metrics([DepthPair(predicted, truth)])
    assert m is not None
    assert m.metric.abs_rel == 0
    wide = depth_metrics([DepthPair(predicted, truth)], DepthEvalConfig(max_m=20.0))
    assert wide is not None
    assert wide.metric.abs_rel > 0


def test_frames_without_anything_to_compare() -> None:
    empty = DepthPair(TRUTH, np.zeros_like(TRUTH))
    assert depth_metrics([empty]) is None
    assert depth_metrics([]) is None
    both = depth_metrics([empty, DepthPair(TRUTH, TRUTH)])
    assert both is not None
    assert both.frames == 1
    with pytest.raises(DataError):
        depth_errors(np.zeros(0), np.zeros(0))


def test_resizing_is_bilinear_in_the_logarithm_and_keeps_pixel_areas() -> None:
    small = np.exp(np.linspace(0, 1, 16, dtype=np.float32))[None].repeat(12, 0)
    big = resized_depth(small, 64, 48)
    # Pixel u of the large image lies at (u + 0.5) / 4 - 0.5 of the small one.
    expected = np.exp(((np.arange(64) + 0.5) / 4 - 0.5) / 15)
    np.testing.assert_allclose(big[20, 4:-4], expected[4:-4], rtol=1e-4)


def test_resizing_does_not_mix_missing_pixels_in() -> None:
    small = np.full((12, 16), 2.0, np.float32)
    small[3:6, 3:6] = 0
    big = resized_depth(small, 64, 48)
    np.testing.assert_allclose(np.unique(big), [0, 2], rtol=1e-6)
    assert (big == 0).sum() == 9 * 16
    assert resized_depth(small, 16, 12) is small


def test_every_error_of_a_constant_factor() -> None:
    m = depth_metrics([DepthPair(1.5 * TRUTH, TRUTH)])
    assert m is not None
    t = TRUTH.astype(np.float64)
    e = m.metric
    assert e.abs_rel == pytest.approx(0.5)
    assert e.sq_rel_m == pytest.approx(0.25 * t.mean(), rel=1e-5)
    assert e.rmse_m == pytest.approx(0.5 * np.sqrt((t**2).mean()), rel=1e-5)
    assert e.rmse_log == pytest.approx(np.log(1.5), rel=1e-5)
    assert (e.delta_1_25, e.delta_1_25_2, e.delta_1_25_3) == (0, 1, 1)
    assert m.scale.rmse_m == pytest.approx(0, abs=1e-6)


def test_least_squares_scale_beats_the_median_in_rmse() -> None:
    noisy = TRUTH * np.exp(RNG.normal(0, 0.3, TRUTH.shape)).astype(np.float32)
    m = depth_metrics([DepthPair(noisy, TRUTH)])
    assert m is not None
    assert m.scale_shift.rmse_m <= m.scale.rmse_m < m.median.rmse_m


def test_pooled_errors_are_those_of_all_pixels_together() -> None:
    half = TRUTH.copy()
    half[:24] = 0
    m = depth_metrics([DepthPair(1.2 * TRUTH, TRUTH), DepthPair(2 * TRUTH, half)])
    assert m is not None
    once = depth_errors(
        np.concatenate([1.2 * TRUTH.ravel(), 2 * half[24:].ravel()]),
        np.concatenate([TRUTH.ravel(), half[24:].ravel()]),
    )
    for name, value in vars(once).items():
        assert getattr(m.pooled.metric, name) == pytest.approx(value, rel=1e-5)
    assert m.pooled.pixels == 1.5 * TRUTH.size
    assert m.metric.abs_rel == pytest.approx(0.6)


def test_ranges_of_the_truth_are_judged_by_themselves() -> None:
    truth = np.repeat([[1.0, 3.0]], 4, 0).astype(np.float32)
    predicted = truth * np.array([1.1, 1.3], np.float32)
    m = depth_metrics([DepthPair(predicted, truth)], DepthEvalConfig(ranges_m=((0.1, 2), (2, 5), (5, 10))))
    assert m is not None
    assert [(r.min_m, r.pixels, round(r.errors.abs_rel, 3)) for r in m.ranges] == [(0.1, 4, 0.1), (2, 4, 0.3)]
    with pytest.raises(ValueError, match="smaller end first"):
        DepthEvalConfig(min_m=3, max_m=2)


def test_masks() -> None:
    mask = np.zeros(TRUTH.shape, bool)
    mask[10:20] = True
    predicted = np.where(mask, 1.1 * TRUTH, 5 * TRUTH)
    m = depth_metrics([DepthPair(predicted, TRUTH, mask=mask)])
    assert m is not None
    assert m.metric.abs_rel == pytest.approx(0.1, rel=1e-4)
    assert m.pooled.pixels == mask.sum()
    with pytest.raises(ShapeError, match="mask"):
        depth_metrics([DepthPair(TRUTH, TRUTH, mask=mask[:5])])
