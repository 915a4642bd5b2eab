"""g2o files: the order of the information, exact round trips, other readers, bad files."""

from pathlib import Path

import numpy as np
import pytest

from remov3r.backends.g2o import read_g2o, write_g2o
from remov3r.backends.pose_graph_types import Edge
from remov3r.errors import DataError
from tests.backends.simulated_front_end import chained, odometry, ring

TRUTH = ring(6)
EDGES = odometry(TRUTH, np.random.default_rng(0), 0.01, 0.02)
POSES = dict(enumerate(chained(EDGES)))


def correlated() -> np.ndarray:
    A = np.random.default_rng(1).normal(size=(6, 6))
    return np.asarray(A @ A.T + 0.1 * np.eye(6))


def test_a_written_graph_is_read_back(tmp_path: Path) -> None:
    edges = [*EDGES, Edge(0, 5, EDGES[0].T_from_to, correlated())]
    write_g2o(tmp_path / "a.g2o", POSES, edges)
    poses, read = read_g2o(tmp_path / "a.g2o")
    assert list(poses) == list(POSES)
    for index, T in POSES.items():
        assert np.allclose(poses[index], T, atol=1e-15, rtol=0)
    for a, b in zip(edges, read):
        assert (a.from_index, a.to_index) == (b.from_index, b.to_index)
        assert np.allclose(a.T_from_to, b.T_from_to, atol=1e-15, rtol=0)
        assert np.allclose(a.covariance, b.covariance, atol=1e-12, rtol=1e-12)


def test_translations_and_lines_survive_any_number_of_trips(tmp_path: Path) -> None:
    write_g2o(tmp_path / "a.g2o", POSES, EDGES)
    first = read_g2o(tmp_path / "a.g2o")
    write_g2o(tmp_path / "b.g2o", *first)
    second = read_g2o(tmp_path / "b.g2o")
    for index, T in first[0].items():
        assert np.array_equal(T[:3, 3], POSES[index][:3, 3])
        assert np.allclose(T, second[0][index], atol=1e-15, rtol=0)


def test_information_is_translation_first_worked_by_hand(tmp_path: Path) -> None:
    # Rotation variances 1/1, 1/4, 1/9 and translation variances 1/16, 1/25, 1/36; rotation x and translation z
    # are correlated: [[1, c], [c, 1/36]] has the inverse 1 / (1/36 - c²) [[1/36, -c], [-c, 1]].
    covariance = np.diag([1.0, 1 / 4, 1 / 9, 1 / 16, 1 / 25, 1 / 36])
    c = 0.1
    covariance[0, 5] = covariance[5, 0] = c
    write_g2o(tmp_path / "a.g2o", POSES, [Edge(0, 1, np.eye(4), covariance)])
    line = next(text for text in (tmp_path / "a.g2o").read_text().splitlines() if text.startswith("EDGE"))
    upper = np.array(line.split()[10:], float)
    det = 1 / 36 - c * c
    #           x-x  x-y x-z x-rx x-ry x-rz  y-y y-z y-rx y-ry y-rz  z-z    z-rx      z-ry z-rz  rx-rx
    expected = [16, 0, 0, 0, 0, 0, 25, 0, 0, 0, 0, 1 / det, -c / det, 0, 0, 1 / 36 / det, 0, 0, 4, 0, 9]
    assert np.allclose(upper, expected, rtol=1e-12, atol=1e-12)


def test_gtsam_reads_the_file_with_the_same_meaning(tmp_path: Path) -> None:
    gtsam = pytest.importorskip("gtsam")
    write_g2o(tmp_path / "a.g2o", POSES, [Edge(0, 1, EDGES[0].T_from_to, correlated())])
    graph, values = gtsam.readG2o(str(tmp_path / "a.g2o"), True)
    assert graph.size() == 1
    for index, T in POSES.items():
        assert np.allclose(values.atPose3(index).matrix(), T, atol=1e-12)
    noise = graph.at(0).noiseModel()
    assert np.allclose(noise.covariance(), correlated(), rtol=1e-9)
    assert np.allclose(graph.at(0).measured().matrix(), EDGES[0].T_from_to, atol=1e-12)


def test_files_of_others_with_other_lines_are_read(tmp_path: Path) -> None:
    upper = "1 0 0 0 0 0 1 0 0 0 0 1 0 0 0 4 0 0 4 0 4"
    text = (
        "# made elsewhere\n\nPARAMS_SE3OFFSET 0 0 0 0 0 0 0 1\nVERTEX_SE3:QUAT 7 1 2 3 0 0 0 1\n"
        f"VERTEX_SE3:QUAT 9 1 2 4 0 0 0.7071068 0.7071068\nEDGE_SE3:QUAT 7 9 0 0 1 0 0 0 -1 {upper}\n"
    )
    (tmp_path / "a.g2o").write_text(text)
    poses, edges = read_g2o(tmp_path / "a.g2o")
    assert np.allclose(poses[9][:3, :3], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-7)
    assert np.allclose(edges[0].covariance, np.diag([0.25, 0.25, 0.25, 1, 1, 1]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no VERTEX_SE3:QUAT"),
        ("VERTEX_SE3:QUAT 0 1 2 3 0 0 0", "line 1.*7 finite"),
        ("VERTEX_SE3:QUAT 0 1 2 3 0 0 0 0", "norm 0"),
        ("VERTEX_SE3:QUAT 0 1 nan 3 0 0 0 1", "finite"),
        ("VERTEX_SE3:QUAT zero 1 2 3 0 0 0 1", "not a number"),
        ("EDGE_SE3:QUAT 0 1 0 0 0 0 0 0 1 " + " ".join(["0"] * 21), "positive definite"),
    ],
)
def test_bad_files_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.g2o").write_text(text)
    with pytest.raises(DataError, match=message):
        read_g2o(tmp_path / "a.g2o")


def test_a_missing_file_and_an_unknown_keyframe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_g2o(tmp_path / "none.g2o")
    with pytest.raises(DataError, match="no keyframe 99"):
        write_g2o(tmp_path / "a.g2o", POSES, [Edge(0, 99, np.eye(4), np.eye(6))])
