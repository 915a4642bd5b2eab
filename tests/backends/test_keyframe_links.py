"""Tracked motion between keyframes: loose where landmarks hold, firm where they do not."""

import numpy as np
import pytest

from remov3r.backends.adjustment import AdjustmentConfig, adjust_all
from remov3r.backends.bundle_terms import adjoint, link_error
from remov3r.backends.keyframe_links import (
    LinkConfig,
    hold_flown,
    length_readings,
    link_sigmas,
    links_between,
    measured_link,
)
from remov3r.backends.landmark_map import KeyframeLink, LandmarkMap
from remov3r.backends.map_scale import settle_scale
from remov3r.geometry import inverse, se3_exp, se3_log
from tests.backends.test_landmark_map import build_map

COVARIANCE = np.diag([1e-8] * 3 + [1e-6] * 3)


def linked_map(factors: tuple[float, ...] = (1.0,) * 6) -> tuple[LandmarkMap, np.ndarray]:
    """The exact map with exact links."""
    landmark_map, _, poses = build_map(factors)
    for i, keyframe in enumerate(landmark_map.keyframes[1:], 1):
        keyframe.link = measured_link(inverse(poses[i - 1]) @ poses[i], COVARIANCE, 3.0, LinkConfig())
    return landmark_map, poses


def test_link_error_is_the_motion_that_is_left() -> None:
    measured = se3_exp(np.array([[0.3, 0.1, -0.2, 0.4, -0.1, 0.2]]))
    assert np.allclose(link_error(measured, measured), 0, atol=1e-12)
    turn = se3_exp(np.array([[0, 0, 0, 0.2, -0.3, 2.0]]))
    assert np.allclose(link_error(measured @ turn, measured)[0], [0.2, -0.3, 2.0, 0, 0, 0], atol=1e-9)


def test_adjoint_carries_motions_over() -> None:
    T = se3_exp(np.array([0.3, -0.5, 0.2, 0.6, 0.1, -0.4]))
    xi = np.array([2e-6, -1e-6, 3e-6, 1e-6, 2e-6, -2e-6])
    moved = se3_log(T @ se3_exp(np.roll(xi, 3)) @ inverse(T))
    assert np.allclose(adjoint(T) @ xi, np.roll(moved, 3), atol=1e-10)


def test_links_join_neighbours_only() -> None:
    landmark_map, _ = linked_map()
    links = links_between(landmark_map, np.array([0, 1, 3, 4]))
    assert links is not None
    assert links.first.tolist() == [0, 2]
    assert links_between(landmark_map, np.array([0, 2, 4])) is None


def test_a_link_follows_the_scale() -> None:
    landmark_map, _ = linked_map()
    landmark_map.rescale(3.0)
    assert link_sigmas(landmark_map, LinkConfig()).max() < 1e-6
    link = landmark_map.keyframes[2].link
    assert link is not None
    assert link.covariance[3, 3] == pytest.approx(9 * measured_link_variance(landmark_map, 3.0), rel=1e-6)


def measured_link_variance(landmark_map: LandmarkMap, factor: float) -> float:
    """What the translation's variance was before the map was scaled."""
    link = landmark_map.keyframes[2].link
    assert link is not None
    T = link.T_before_this.copy()
    T[:3, 3] /= factor
    return float(measured_link(T, COVARIANCE, 3.0, LinkConfig()).covariance[3, 3])


def test_the_closing_bundle_does_not_follow_wrong_matches_of_one_keyframe() -> None:
    # Wrong pixels, all shifted alike: nothing but the links says that keyframe 3 has not turned.
    landmark_map, poses = linked_map()
    rows = landmark_map.rows_of_keyframes([3])
    landmark_map.obs_good[rows[25:]] = False
    landmark_map.obs_pixel[rows[:25]] += 60
    results = adjust_all(landmark_map, AdjustmentConfig())
    assert 3 in results[0].put_back
    assert not landmark_map.obs_good[rows].any()
    assert np.abs(landmark_map.poses - poses).max() < 0.02


def test_a_keyframe_that_has_flown_is_put_back() -> None:
    landmark_map, poses = linked_map()
    flown = landmark_map.keyframes[3]
    flown.T_world_cam = flown.T_world_cam @ se3_exp(np.array([0.4, 0, 0, 0, 0, 0]))
    assert hold_flown(landmark_map, list(range(1, 6)), LinkConfig()) == [3]
    assert np.allclose(landmark_map.poses, poses, atol=1e-9)


def test_what_is_held_or_moves_as_a_whole_is_left() -> None:
    landmark_map, poses = linked_map((1.0,) * 10)
    for keyframe in landmark_map.keyframes[5:]:
        keyframe.T_world_cam = se3_exp(np.array([0.4, 0, 0, 0, 0, 0])) @ keyframe.T_world_cam
    before = landmark_map.poses.copy()
    assert hold_flown(landmark_map, list(range(1, 10)), LinkConfig()) == []
    assert np.array_equal(landmark_map.poses, before)
    landmark_map, poses = linked_map()
    landmark_map.keyframes[3].T_world_cam = poses[0]
    assert hold_flown(landmark_map, [4, 5], LinkConfig()) == []


def test_a_tight_link_does_not_make_a_correction_a_flight() -> None:
    landmark_map, _ = linked_map()
    for keyframe in landmark_map.keyframes[1:]:
        assert keyframe.link is not None
        keyframe.link = KeyframeLink(keyframe.link.T_before_this, 1e-4 * keyframe.link.covariance)
    corrected = landmark_map.keyframes[3]
    corrected.T_world_cam = corrected.T_world_cam @ se3_exp(np.array([0.0, 0.0, 0.0, 0.004, 0.0, 0.0]))
    assert link_sigmas(landmark_map, LinkConfig()).max() < 3
    assert hold_flown(landmark_map, list(range(1, 6)), LinkConfig()) == []


def test_ways_that_the_front_end_is_sure_of_set_the_scale() -> None:
    landmark_map, _ = linked_map()
    for place in range(1, len(landmark_map.keyframes)):
        before, this = (landmark_map.keyframes[p].T_world_cam for p in (place - 1, place))
        T = inverse(before) @ this
        T[:3, 3] *= 1.25
        landmark_map.keyframes[place].link = KeyframeLink(T, np.eye(6) * 1e-12, metric=True)
    for keyframe in landmark_map.keyframes:
        keyframe.scale_reading = None
    landmark_map.obs_depth_m[:] = np.nan
    assert settle_scale(landmark_map, AdjustmentConfig()) == pytest.approx(1.25)
    assert settle_scale(landmark_map, AdjustmentConfig()) == pytest.approx(1.0)


def test_a_way_lost_in_its_noise_tells_no_scale() -> None:
    landmark_map, _ = linked_map()
    landmark_map.keyframes[1].link = KeyframeLink(se3_exp(np.full(6, 0.01)), np.eye(6), metric=True)
    assert len(length_readings(landmark_map, 1.0)) == 0
