"""TUM files: exact round trip, read by evo as well, bad rows named by line."""

from pathlib import Path

import numpy as np
import pytest

from remov3r.data.pose_files import known_trajectory
from remov3r.data.sources import read_reference
from remov3r.data.tum_trajectory import read_tum, write_tum
from remov3r.errors import DataError
from tests.data.helpers import pose

TRUE = known_trajectory(range(5), [1305031102.125 + i / 32 for i in range(5)], [pose(i) for i in range(5)])


def test_round_trip(tmp_path: Path) -> None:
    write_tum(tmp_path / "t.tum", TRUE)
    back = read_tum(tmp_path / "t.tum")
    np.testing.assert_array_equal(back.timestamps_s, TRUE.timestamps_s)
    np.testing.assert_allclose(back.T_world_cam, TRUE.T_world_cam, atol=1e-8)
    assert back.frame_index.tolist() == [0, 1, 2, 3, 4]
    assert back.scale == "metric"


def test_evo_reads_the_same(tmp_path: Path) -> None:
    file_interface = pytest.importorskip("evo.tools.file_interface")
    write_tum(tmp_path / "t.tum", TRUE)
    theirs = file_interface.read_tum_trajectory_file(str(tmp_path / "t.tum"))
    np.testing.assert_allclose(np.stack(theirs.poses_se3), TRUE.T_world_cam, atol=1e-8)
    np.testing.assert_array_equal(theirs.timestamps, TRUE.timestamps_s)


def test_order_of_a_row(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("# comment\n\n2.5 1 2 3 0 0 0.70710678 0.70710678\n")
    trajectory = read_reference(tmp_path / "t.txt")
    assert trajectory.timestamps_s.tolist() == [2.5]
    expected = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(trajectory.T_world_cam[0], expected, atol=1e-7)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2 0 0 0 0 0 1", "need 8 finite numbers"),
        ("2 0 0 nan 0 0 0 1", "need 8 finite numbers"),
        ("2 0 0 inf 0 0 0 1", "need 8 finite numbers"),
        ("2 0 0 zero 0 0 0 1", "not a number"),
        ("2 0 0 0 0 0 0 0", "length is 0, not near 1"),
        ("1 0 0 0 0 0 0 1", "does not come after 1.0"),
        ("0.5 0 0 0 0 0 0 1", "does not come after 1.0"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "bad.tum").write_text(f"1 0 0 0 0 0 0 1\n{row}\n")
    with pytest.raises(DataError, match=rf"bad\.tum, line 2: .*{message}"):
        read_tum(tmp_path / "bad.tum")


def test_empty_missing_and_binary_files(tmp_path: Path) -> None:
    (tmp_path / "empty.tum").write_text("# nothing\n")
    with pytest.raises(DataError, match="holds no pose"):
        read_tum(tmp_path / "empty.tum")
    with pytest.raises(DataError, match="cannot be read"):
        read_tum(tmp_path / "none.tum")
    (tmp_path / "noise.tum").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(DataError, match="not a text file"):
        read_tum(tmp_path / "noise.tum")
