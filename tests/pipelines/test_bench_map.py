"""The time of the map errors: the room has the points asked for, and the page names every step."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from remov3r.errors import ConfigError
from remov3r.pipelines.bench_map import PITCH_M, bench_command, rough_room


def test_a_room_has_six_walls_of_the_points_asked_for() -> None:
    room = rough_room(6 * 50**2, noise_m=0.0)
    assert room.vertices_m.shape == (15_000, 3)
    edges = room.vertices_m[room.triangles[:, 1:]] - room.vertices_m[room.triangles[:, :1]]
    area_m2 = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1).sum() / 2
    assert area_m2 == pytest.approx(6 * (49 * PITCH_M) ** 2, rel=1e-4)


def test_the_page_names_each_step(tmp_path: Path) -> None:
    out = tmp_path / "made" / "map.md"
    assert bench_command(Namespace(points=6000, out=str(out))) == 0
    text = out.read_text()
    assert all(word in text for word in ("draw 6,000", "thin", "errors of", "together"))
    with pytest.raises(ConfigError, match="at least"):
        bench_command(Namespace(points=5, out=None))
