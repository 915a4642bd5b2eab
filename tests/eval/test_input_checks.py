"""Each wrong input is named with cause and fix, and right input raises no suspicion."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("evo")

from remov3r.data.pose_files import known_trajectory
from remov3r.errors import DataError
from remov3r.eval.trajectory import evaluate_trajectory
from remov3r.geometry import Similarity, inverse, se3_exp
from remov3r.types import Trajectory


def carried(count: int = 120) -> Trajectory:
    """A camera carried around a table, looking inwards and a little up and down."""
    a = np.linspace(0, 1.2 * np.pi, count)
    zero = np.zeros(count)
    turn = se3_exp(np.stack([zero, zero, zero, zero, -a, zero], 1))
    nod = se3_exp(np.stack([zero, zero, zero, 0.3 * np.sin(3 * a), zero, zero], 1))
    T = turn @ nod
    T[:, :3, 3] = np.stack([2 * np.sin(a), 0.2 * np.sin(5 * a), 2 - 1.5 * np.cos(a)], 1)
    return known_trajectory(range(count), (np.arange(count) / 30).tolist(), list(T))


def estimated(scale: float = 1.0, noise_m: float = 0.02) -> Trajectory:
    S = Similarity(scale, se3_exp(np.array([0, 0, 0, 0.9, -0.4, 0.2]))[:3, :3], np.array([3.0, 1.0, -2.0]))
    T = S.apply_to_poses(carried().T_world_cam)
    T[:, :3, 3] += scale * np.random.default_rng(0).normal(0, noise_m, (len(T), 3))
    return replace(carried(), T_world_cam=T)


def notes(estimate: Trajectory, reference: Trajectory | None = None) -> str:
    return " | ".join(evaluate_trajectory(estimate, reference or carried()).notes)


@pytest.mark.parametrize("scale", [1.0, 0.4, 3.0])
@pytest.mark.parametrize("noise_m", [0.0, 0.02, 0.2])
def test_right_input_raises_no_suspicion(scale: float, noise_m: float) -> None:
    assert notes(estimated(scale, noise_m)) == ""


def test_a_poor_estimate_is_poor_and_not_wrong_input() -> None:
    T = estimated().T_world_cam.copy()
    drift = se3_exp(np.linspace(0, 1, len(T))[:, None] * np.array([0.8, 0.1, -0.5, 0.2, 0.5, 0.1]))
    assert notes(replace(carried(), T_world_cam=drift @ T)) == ""


def test_world_to_camera_given_as_camera_to_world() -> None:
    inverted = replace(carried(), T_world_cam=inverse(estimated().T_world_cam))
    assert "likely the estimate has world-to-camera poses; invert each" in notes(inverted)
    reference = replace(carried(), T_world_cam=inverse(carried().T_world_cam))
    assert "likely the reference has world-to-camera poses" in notes(estimated(), reference)
    assert "likely one of the two has world-to-camera" in notes(carried(), reference)


def test_world_to_camera_without_any_turn() -> None:
    T = np.tile(np.eye(4), (40, 1, 1))
    T[:, :2, 3] = np.stack([np.linspace(0, 3, 40), np.linspace(0, 1, 40) ** 2], 1)
    straight = known_trajectory(range(40), list(range(40)), list(T))
    assert "world-to-camera" in notes(replace(straight, T_world_cam=inverse(T)), straight)


def test_axes_of_opengl() -> None:
    turned = replace(carried(), T_world_cam=estimated().T_world_cam @ np.diag([1.0, -1.0, -1.0, 1.0]))
    assert "OpenGL" in notes(turned)


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1000.0, "millimetres; divide its translations by 1000"),
        (100.0, "centimetres; divide"),
        (0.001, "kilometres; multiply"),
    ],
)
def test_units(factor: float, said: str) -> None:
    assert f"likely the estimate is in {said}" in notes(estimated(factor))


def test_shuffled_timestamps() -> None:
    order = np.random.default_rng(0).permutation(120)
    shuffled = replace(estimated(), T_world_cam=estimated().T_world_cam[order])
    assert "likely the timestamps were shuffled" in notes(shuffled)
    times = replace(estimated(), timestamps_s=carried().timestamps_s[order])
    with pytest.raises(
        DataError, match="likely shuffled lines, repeated poses or two runs in one file; sort by time"
    ):
        evaluate_trajectory(times, carried())


def test_nan() -> None:
    T = estimated().T_world_cam.copy()
    T[[5, 9]] = np.nan
    with pytest.raises(
        DataError, match="in 2 of 120 poses, first in pose 5: likely written while tracking was lost"
    ):
        evaluate_trajectory(replace(carried(), T_world_cam=T), carried())


def test_too_few_associations() -> None:
    times = carried().timestamps_s + np.where(np.arange(120) < 90, 0.0153, 0.0)
    assert "only 30 of 120 estimated and 120 reference poses lie within 0.01 s" in notes(
        replace(estimated(), timestamps_s=times)
    )


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (1e9 * (1.4e9 + np.arange(120) / 30), r"the estimate's times are nanoseconds; divide them by 1e\+09"),
        (1e3 * (1.4e9 + np.arange(120) / 30), r"the estimate's times are milliseconds"),
        (np.arange(120.0), "the estimate's times are frame numbers"),
        (np.arange(120) / 30, "one clock starts at zero; subtract 1400000000.000 from the reference's times"),
        (1.4e9 + np.arange(120) / 30 + 0.0157, "two clocks a little apart"),
        (1.4e9 + 500 + np.arange(120) / 30, "another recording or another clock"),
    ],
)
def test_no_timestamp_in_common(times: np.ndarray, said: str) -> None:
    reference = replace(carried(), timestamps_s=1.4e9 + carried().timestamps_s)
    with pytest.raises(DataError, match=said):
        evaluate_trajectory(replace(estimated(), timestamps_s=times), reference)
