"""The report's parts: the thinned mesh, the timeline, reliability, areas, and the files beside the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from remov3r.data.sources import open_source
from remov3r.pipelines.output_folder import OutputFolder
from remov3r.pipelines.report import ReportInput, report_html
from remov3r.pipelines.report_files import PLOTS, put_report
from remov3r.pipelines.report_keyframes import reliability_html
from remov3r.pipelines.report_paths import paths_html
from remov3r.pipelines.report_plots import Area, Series, plot
from remov3r.pipelines.report_reliability import keyframe_reliability, reliability
from remov3r.pipelines.report_timeline import events, stretches, timeline_html
from remov3r.pipelines.report_viewer import thinned, viewer_html
from remov3r.types import DensePrediction, Mesh, TrackingState
from tests.data.helpers import write_posed
from tests.pipelines.results import mesh, reconstruction, trajectory

OK, WEAK, LOST = TrackingState.OK, TrackingState.WEAK, TrackingState.LOST


def sheet(n: int) -> Mesh:
    """A flat square metre of 2 n² triangles, red along x."""
    v, u = np.mgrid[: n + 1, : n + 1].reshape(2, -1) / n
    vertices = np.stack([u, v, np.ones_like(u)], 1)
    corner = (np.arange(n)[:, None] * (n + 1) + np.arange(n)).ravel()
    triangles = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + n + 2], 1),
            np.stack([corner, corner + n + 2, corner + n + 1], 1),
        ]
    )
    colors = np.stack([u, 0 * u, 0 * u], 1)
    return Mesh(vertices, triangles, colors, np.tile([0.0, 0.0, -1.0], (len(u), 1)))


def area_of(shape: Mesh) -> float:
    a, b, c = (shape.vertices_m[shape.triangles[:, k]] for k in range(3))
    return float(0.5 * np.cross(b - a, c - a)[:, 2].sum())


def test_a_thinned_mesh_is_the_same_surface() -> None:
    fine = sheet(100)
    coarse = thinned(fine, 3000)
    assert 1000 < len(coarse.triangles) <= 3000
    assert abs(area_of(coarse)) == pytest.approx(1, abs=0.08)
    assert area_of(coarse) * area_of(fine) > 0  # no triangle is turned over
    np.testing.assert_allclose(coarse.colors[:, 0], coarse.vertices_m[:, 0], atol=1e-9)
    assert thinned(fine, 20_000) is fine


def test_a_viewer_without_anything_but_a_path() -> None:
    html = viewer_html(None, None, {"estimate": np.zeros((1, 3))})
    assert '"mesh": null' in html
    assert "button value" not in html
    assert "NaN" not in html


def test_strays_do_not_shrink_the_scene() -> None:
    shape = sheet(20)
    far = replace(shape, vertices_m=shape.vertices_m.copy())
    far.vertices_m[0] = 1e4
    html = viewer_html(far, None, {"estimate": np.zeros((1, 3))})
    scale = float(html.split('"scale": ')[1].split(",")[0])
    assert scale < 2


def test_stretches_cover_the_run() -> None:
    path = trajectory()
    found = stretches(path)
    assert [s.state for s in found] == [OK, WEAK, OK, LOST, OK]
    assert found[0].start == 0
    assert found[-1].end == pytest.approx(11 / 15)
    assert (found[3].start, found[3].end) == pytest.approx((7 / 15, 8 / 15))


def test_events_are_sorted_by_what_notes_say() -> None:
    notes = (
        "frame 4: optimisation rejected; the last good state was kept",
        "frame 14: tracking lost",
        "frame 18: found again from keyframe 2",
        "frame 999: tracking lost",
        "48 of 158 loops contradict the rest and were left out",
        "frame 6: a covariance was flat; the transform was not used (first at frame 6)",
    )
    found = events(notes, trajectory())
    assert [e.kind for e in found] == ["rejected", "lost", "loop", "rejected"]
    assert [e.at for e in found] == pytest.approx([2 / 15, 7 / 15, 9 / 15, 3 / 15])


def test_a_timeline_escapes_notes() -> None:
    html = timeline_html(trajectory(), ("frame 4: 'a' <b> was rejected",))
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


def test_true_deviations_lie_on_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 5, (200, 300))
    sigma = rng.uniform(0.02, 0.3, truth.shape)
    depth = truth + sigma * rng.normal(size=truth.shape)
    true = reliability([(depth, sigma, truth)])
    assert true is not None
    np.testing.assert_allclose(true.error_m, true.sigma_m, rtol=0.12)
    assert (true.within_1, true.within_2) == pytest.approx((0.683, 0.954), abs=0.02)
    half = reliability([(depth, sigma / 2, truth)])
    assert half is not None
    np.testing.assert_allclose(half.error_m / half.sigma_m, 2 * true.error_m / true.sigma_m, rtol=1e-6)


def test_reliability_needs_known_pixels() -> None:
    nothing = np.zeros((20, 20))
    assert reliability([(nothing + 1, np.full((20, 20), np.inf), nothing + 1)]) is None
    assert reliability([(nothing + 1, nothing + 0.1, nothing)]) is None
    assert reliability([]) is None


def test_an_area_with_a_gap_is_two_polygons() -> None:
    x = np.arange(6.0)
    low = np.array([0, 0, np.nan, 0, 0, 0])
    svg = plot([Series("a", "estimate", x, x)], "x", "y", areas=[Area("b", "spread", x, low, low + 9)])
    assert svg.count("<polygon") == 2
    assert "nan" not in svg


def test_covariances_are_shown() -> None:
    result, reference = reconstruction(), trajectory(seed=2)
    known = replace(
        result, trajectory=replace(result.trajectory, covariances=np.tile(np.eye(6) * 1e-4, (12, 1, 1)))
    )
    assert "two standard deviations" not in paths_html(result, None, None)
    alone = paths_html(known, None, None)
    assert alone.count("<polygon") == 3  # x, y, z
    assert paths_html(known, None, reference).count("<polygon") >= 1


def test_plots_lie_beside_the_page(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    result = reconstruction(meshed=False)
    put_report(folder, ReportInput(result, "room", "version", ""))
    assert not any((tmp_path / name).exists() for name in PLOTS)
    put_report(folder, ReportInput(result, "room", "version", "", None, trajectory(seed=2)))
    for name in PLOTS:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_the_small_mesh_is_packed_whole() -> None:
    html = viewer_html(mesh(), None, {"estimate": np.zeros((1, 3))})
    assert '"wide": false' in html


def test_keyframes_are_compared_with_the_depth_of_their_own_frames(tmp_path: Path) -> None:
    truth = open_source(write_posed(tmp_path / "room", 3), "posed", sensor=True)
    keyframes = []
    for frame, template in zip(truth.frames([0, 1, 2]), reconstruction().keyframes):
        assert frame.depth_m is not None
        true = frame.depth_m
        spread = np.where(true > 0, 0.1, np.inf)
        one, points = np.ones_like(true), np.zeros((*true.shape, 3))
        dense = DensePrediction(frame.camera, true, one, points, one, spread)
        off = replace(dense, depth_m=np.where(true > 0, true + 0.15, 0))  # one and a half deviations
        keyframes.append(replace(template, frame_index=frame.index, dense=dense, aligned=off))
    predicted, aligned = keyframe_reliability(keyframes, truth)
    assert predicted is not None
    assert aligned is not None
    assert (predicted.within_1, aligned.within_1, aligned.within_2) == (1, 0, 1)
    np.testing.assert_allclose(aligned.error_m, 0.15, rtol=1e-5)
    html = reliability_html(keyframes, truth)
    assert "aligned to landmarks, 0% are within one deviation and 100% within two" in html
    assert reliability_html(keyframes, None) == ""


def test_many_notes_are_folded() -> None:
    result = replace(reconstruction(meshed=False), notes=tuple(f"note {n}" for n in range(30)))
    html = report_html(ReportInput(result, "room", "version", ""))
    assert html.count("<li>note") == 30
    assert "<summary>26 more</summary>" in html
