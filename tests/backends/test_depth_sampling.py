"""Depth at pixels, and how far it may be off."""

import numpy as np
import pytest

from remov3r.backends.depth_sampling import sample_sensor


def test_sensor_depth_is_less_sure_at_an_edge_and_missing_where_it_was_not_measured() -> None:
    depth_m = np.full((20, 30), 2.0, np.float32)
    depth_m[:, 15:] = 3.0
    depth_m[:5] = 0.0
    pixels = np.array([[5.0, 10.0], [14.4, 10.0], [25.0, 10.0], [5.0, 1.0]])
    depth, sigma = sample_sensor(depth_m, pixels, 0.01).T
    assert depth[:3] == pytest.approx([2, 2, 3])
    assert sigma[:3] == pytest.approx([0.02, np.hypot(0.02, 0.5), 0.03])
    assert np.isnan(depth[3])
    assert np.isnan(sigma[3])
