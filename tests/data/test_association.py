"""Finding what belongs together by time: nearest neighbours, and poses in between."""

from __future__ import annotations

import numpy as np

from remov3r.data.association import interpolated_poses, nearest_in_time
from remov3r.data.pose_files import known_trajectory
from remov3r.geometry import se3_exp


def test_poses_between_two_times() -> None:
    """A screw motion with constant velocity: the turn is met exactly, the position on the chord."""
    step = np.array([0.2, 0, 0, 0, 0, 0.1])
    T = [se3_exp(np.zeros(6)), se3_exp(step), se3_exp(2 * step)]
    truth = known_trajectory(range(3), [0.0, 1.0, 2.5], T)
    half, gap, before, exact = interpolated_poses(truth, np.array([0.5, 2.0, -0.1, 2.5]), 1.2)
    assert half is not None
    np.testing.assert_allclose(half[:3, :3], se3_exp(0.5 * step)[:3, :3], atol=1e-12)
    np.testing.assert_allclose(half[:3, 3], T[1][:3, 3] / 2, atol=1e-12)
    assert gap is None, "1.5 s between its neighbours"
    assert before is None
    assert exact is not None
    np.testing.assert_allclose(exact, T[2], atol=1e-12)


def test_nearest_in_time() -> None:
    """Against the table of all distances."""
    generator = np.random.default_rng(0)
    times, candidates = generator.uniform(0, 10, 50), np.sort(generator.uniform(0, 10, 40))
    distance = np.abs(times[:, None] - candidates)
    expected = np.where(distance.min(1) <= 0.1, distance.argmin(1), -1)
    assert nearest_in_time(times, candidates, 0.1).tolist() == expected.tolist()
