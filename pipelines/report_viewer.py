"""A mesh, a point cloud and camera paths that can be turned, in a canvas, without any library."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from remov3r.types import Mesh, PointCloud

MAX_POINTS = 30_000
MAX_TRIANGLES = 60_000
_LOOKS = {"estimate": ("#7ba7ff", False), "reference": ("#f0985a", True)}

Points = Float[np.ndarray, "n 3"]


def viewer_html(mesh: Mesh | None, cloud: PointCloud | None, paths: Mapping[str, Points]) -> str:
    """Return a canvas with its data and script.

    Args:
        mesh: in the world frame; one of more than 60,000 triangles is shown coarser.
        cloud: in the world frame; of more than 30,000 points an even choice is shown.
        paths: "estimate" and, where it is known, "reference": camera centres in the world frame.
    """
    step = 1 if cloud is None else max(1, -(-len(cloud.points_m) // MAX_POINTS))
    points = np.zeros((0, 3)) if cloud is None else cloud.points_m[::step]
    shown = None if mesh is None else thinned(mesh)
    solid = points if shown is None else shown.vertices_m
    parts = [part for part in (solid, *paths.values()) if len(part)]
    limits = np.array(
        [np.percentile(part, [1, 99], axis=0) for part in parts]
    )  # strays must not shrink the scene
    low, high = limits[:, 0].min(0), limits[:, 1].max(0)
    center, scale = (low + high) / 2, max(float((high - low).max()) * 0.75, 0.1)
    scene = {
        "mesh": None if shown is None else _packed_mesh(shown, center, scale),
        "points": None if cloud is None else _packed_points(points, cloud.colors[::step], center, scale),
        "scale": scale,
        "center": center.tolist(),
        "paths": [
            {"xyz": np.round(xyz, 4).tolist(), "color": _LOOKS[name][0], "dashed": _LOOKS[name][1]}
            for name, xyz in paths.items()
        ],
    }
    script = resources.files("remov3r.pipelines").joinpath("report_viewer.js").read_text()
    buttons = ""
    if mesh is not None and cloud is not None:
        buttons = (
            "<div class='choice'><button value='mesh' aria-pressed='true'>mesh</button>"
            "<button value='points' aria-pressed='false'>points</button></div>"
        )
    return (
        f'<div class="viewer">{buttons}<canvas id="viewer" tabindex="0" role="img" aria-label="reconstruction and '
        'camera path; drag or arrow keys to turn, scroll or + and - to zoom"></canvas></div>'
        f'<script type="application/json" id="scene">{json.dumps(scene)}</script><script>{script}</script>'
    )


def thinned(mesh: Mesh, most: int = MAX_TRIANGLES) -> Mesh:
    """Merge the vertices within cubes, as small as leaves no more than so many triangles."""
    if len(mesh.triangles) <= most:
        return mesh
    a, b, c = (mesh.vertices_m[mesh.triangles[:, k]] for k in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    cell = float(np.sqrt(area / most))
    while len((coarse := _merged(mesh, cell)).triangles) > most:
        cell *= 1.15
    return coarse


def _merged(mesh: Mesh, cell: float) -> Mesh:
    """Replace the vertices within each cube by their mean; triangles that collapse are dropped."""
    cubes = np.floor((mesh.vertices_m - mesh.vertices_m.min(0)) / cell).astype(np.int64)
    sizes = cubes.max(0) + 1
    keys = (cubes[:, 0] * sizes[1] + cubes[:, 1]) * sizes[2] + cubes[:, 2]
    _, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
    triangles = place[mesh.triangles]
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (c != a)]
    vertices, colors, normals = (
        _means(place, counts, values) for values in (mesh.vertices_m, mesh.colors, mesh.normals)
    )
    return Mesh(vertices, triangles, colors, normals)


def _means(
    place: Int[np.ndarray, " v"], counts: Int[np.ndarray, " n"], values: Float[np.ndarray, "v 3"]
) -> Float[np.ndarray, "n 3"]:
    sums = [np.bincount(place, values[:, k], len(counts)) for k in range(3)]
    return np.stack(sums, 1) / counts[:, None]


def _packed_points(
    points: Points, colors: Points, center: Float[np.ndarray, " 3"], scale: float
) -> dict[str, Any]:
    inside = (np.abs(points - center) <= scale).all(1)
    xyz = np.rint((points[inside] - center) / scale * 32767).astype("<i2")
    return {"xyz": _text(xyz), "rgb": _text(np.rint(np.clip(colors[inside], 0, 1) * 255).astype(np.uint8))}


def _packed_mesh(mesh: Mesh, center: Float[np.ndarray, " 3"], scale: float) -> dict[str, Any]:
    """What lies outside the scene is left out, vertices that no triangle uses too."""
    inside = (np.abs(mesh.vertices_m - center) <= scale).all(1)
    used, renamed = np.unique(mesh.triangles[inside[mesh.triangles].all(1)], return_inverse=True)
    wide = len(used) > 2**16
    triangles = renamed.astype("<u4" if wide else "<u2")
    packed = _packed_points(mesh.vertices_m[used], mesh.colors[used], center, scale)
    return {**packed, "triangles": _text(triangles), "wide": wide}


def _text(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
