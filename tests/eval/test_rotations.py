"""Ground truth that is off SO(3): measured as it is stored, and the artefact it puts into a naive RRE."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("evo")

from remov3r.data.pose_files import known_trajectory
from remov3r.errors import DataError
from remov3r.eval.rotations import naive_rre_rmse_deg, rotation_quality, stored_rotations
from remov3r.eval.trajectory import evaluate_trajectory
from remov3r.geometry import se3_exp

DETERMINANT = 0.99966
T = se3_exp(np.random.default_rng(0).normal(0, 1, (30, 6)))
STORED = T[:, :3, :3] * DETERMINANT ** (1 / 3)
TURN = np.radians(0.5)


def test_quality_of_shrunk_rotations() -> None:
    quality = rotation_quality(STORED)
    assert quality.determinant == pytest.approx(DETERMINANT)
    largest = np.abs(T[:, :3, :3]).max() * (1 - DETERMINANT ** (1 / 3))
    assert quality.off_so3 == pytest.approx(largest)
    assert rotation_quality(T[:, :3, :3]).off_so3 < 1e-12


def test_a_perfect_estimate_has_the_artefact_for_its_naive_error() -> None:
    R = T[:, :3, :3]
    shrink = DETERMINANT ** (2 / 3)  # of a relative rotation; arccos((3 s - 1) / 2) is its angle
    expected = np.degrees(np.arccos((3 * shrink - 1) / 2))
    assert naive_rre_rmse_deg(R, R, STORED) == pytest.approx(expected)
    assert expected == pytest.approx(1.5, abs=0.05), "what 7-Scenes does to published figures"
    assert naive_rre_rmse_deg(R, R, R) == pytest.approx(0, abs=1e-5)


def test_the_artefact_is_that_of_the_camera_the_matrices_belong_to() -> None:
    R_depth_color = se3_exp(np.array([0, 0, 0, 0.1, 0.2, -0.1]))[:3, :3]
    color = T[:, :3, :3] @ R_depth_color
    expected = naive_rre_rmse_deg(T[:, :3, :3], T[:, :3, :3], STORED)
    assert naive_rre_rmse_deg(color, color, STORED) == pytest.approx(expected)


def test_metrics_carry_the_error_both_ways() -> None:
    n = range(len(T))
    reference = known_trajectory(n, [i / 30 for i in n], list(T))
    turned = T @ se3_exp(np.arange(len(T))[:, None] * np.array([0, 0, 0, 0, 0, TURN]))
    estimate = replace(reference, T_world_cam=turned)
    m = evaluate_trajectory(estimate, reference, stored_rotations=STORED)
    assert m.rre_naive_rmse_deg is not None
    assert m.rre_rmse_deg is not None
    assert np.sqrt(m.rre_naive_rmse_deg**2 - m.rre_rmse_deg**2) == pytest.approx(1.5, abs=0.05)
    every_third = replace(
        known_trajectory(range(10), [i / 10 for i in range(10)], list(T[::3])),
        frame_index=np.arange(0, 30, 3),
    )
    third = evaluate_trajectory(every_third, reference, stored_rotations=STORED)
    assert third.rre_naive_rmse_deg == pytest.approx(1.5, abs=0.05), "matched by time, not by number"
    assert evaluate_trajectory(estimate, reference).rre_naive_rmse_deg is None


def test_rotations_come_from_the_files_in_the_order_of_frames(tmp_path: Path) -> None:
    for name, numbers in (("seq-01", (0, 2, 10)), ("pose", (0, 2, 10))):
        folder = tmp_path / name / name
        folder.mkdir(parents=True)
        for i in numbers:
            pose = T[i].copy()
            pose[:3, :3] = STORED[i]
            file = f"frame-{i:06d}.pose.txt" if name == "seq-01" else f"{i}.txt"
            np.savetxt(folder / file, pose if i != 2 or name == "seq-01" else np.full((4, 4), -np.inf))
        read = stored_rotations(tmp_path / name)
        assert read is not None
        np.testing.assert_allclose(read, STORED[[0, 2, 10] if name == "seq-01" else [0, 10]])
    assert stored_rotations(tmp_path) is None
    (tmp_path / "poses.txt").write_text("1 2 3\n")
    with pytest.raises(DataError, match="not 16 numbers each"):
        stored_rotations(tmp_path)
