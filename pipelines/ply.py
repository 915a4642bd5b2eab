"""Meshes and point clouds as binary PLY files, written and read in one piece by numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from remov3r.errors import DataError
from remov3r.types import Mesh, PointCloud

VERTEX = np.dtype(
    [(f"{name}", "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    + [(name, "u1") for name in ("red", "green", "blue")]
)
FACE = np.dtype([("count", "u1"), ("vertex_indices", "<i4", (3,))])
KINDS = {"<f4": "float", "|u1": "uchar"}


def write_ply(path: Path, shape: Mesh | PointCloud) -> None:
    """Write a mesh (with faces) or a cloud (without): positions in metres, normals and 8-bit colours."""
    points = shape.vertices_m if isinstance(shape, Mesh) else shape.points_m
    vertices = np.zeros(len(points), VERTEX)
    for names, values in ((("x", "y", "z"), points), (("nx", "ny", "nz"), shape.normals)):
        for column, name in enumerate(names):
            vertices[name] = values[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        vertices[name] = np.rint(np.clip(shape.colors[:, column], 0, 1) * 255)
    header = ["ply", "format binary_little_endian 1.0", "comment world frame, metres"]
    header.append(f"element vertex {len(vertices)}")
    header += [f"property {KINDS[VERTEX[name].str]} {name}" for name in VERTEX.names or ()]
    body = vertices.tobytes()
    if isinstance(shape, Mesh):
        faces = np.zeros(len(shape.triangles), FACE)
        faces["count"], faces["vertex_indices"] = 3, shape.triangles
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        body += faces.tobytes()
    path.write_bytes("\n".join([*header, "end_header\n"]).encode() + body)


def read_ply(path: Path) -> Mesh | PointCloud:
    """Read back a file of `write_ply`.

    Raises:
        DataError: no such file, or not laid out as `write_ply` does.
    """
    try:
        head, _, body = path.read_bytes().partition(b"end_header\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    lines = head.decode("ascii", "replace").splitlines()
    counts = {parts[1]: int(parts[2]) for line in lines if (parts := line.split())[:1] == ["element"]}
    properties = [line.split()[-1] for line in lines if line.startswith("property") and "list" not in line]
    vertex_bytes = counts.get("vertex", 0) * VERTEX.itemsize
    expected = vertex_bytes + counts.get("face", 0) * FACE.itemsize
    if properties != list(VERTEX.names or ()) or len(body) != expected:
        raise DataError(f"{path}: not a complete PLY file written by remov3r")
    v = np.frombuffer(body[:vertex_bytes], VERTEX)
    points, normals = (np.stack([v[name] for name in names], 1) for names in ("xyz", ("nx", "ny", "nz")))
    colors = np.stack([v[name] for name in ("red", "green", "blue")], 1) / 255.0
    if "face" not in counts:
        return PointCloud(points, colors, normals)
    return Mesh(points, np.frombuffer(body[vertex_bytes:], FACE)["vertex_indices"].copy(), colors, normals)
