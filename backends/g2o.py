"""Pose graphs as g2o text files, which GTSAM, g2o, Ceres' and SE-Sync's examples and others read.

Lines: `VERTEX_SE3:QUAT id x y z qx qy qz qw` (T_world_key) and `EDGE_SE3:QUAT from to x y z qx qy qz qw` with the
upper triangle of the 6×6 information, row by row, **translation first**, rotation as a rotation vector in the
`to` frame (as GTSAM and Ceres read it). Numbers are written in full, so that a second round trip changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from remov3r.backends.pose_graph_types import Edge
from remov3r.errors import DataError
from remov3r.types import Covariance, Pose

# Between our order (rotation, translation) and g2o's (translation, rotation): the same either way.
_SWAP = np.array([3, 4, 5, 0, 1, 2])
_UPPER = np.triu_indices(6)


def write_g2o(path: Path, T_world_key: Mapping[int, Pose], edges: Sequence[Edge]) -> None:
    """Write keyframes and the measurements between them; the first keyframe is marked as fixed.

    Args:
        edges: in metres; scales are not written, the format has none.
    Raises:
        DataError: an edge names a keyframe that is not there.
    """
    lines = [f"VERTEX_SE3:QUAT {index} {_numbers(_seven(T))}" for index, T in T_world_key.items()]
    lines += [f"FIX {index}" for index in list(T_world_key)[:1]]
    for edge in edges:
        for index in (edge.from_index, edge.to_index):
            if index not in T_world_key:
                raise DataError(f"{path}: edge {edge.from_index} -> {edge.to_index}: no keyframe {index}")
        information = information_translation_first(edge.covariance)[_UPPER]
        values = f"{_numbers(_seven(edge.T_from_to))} {_numbers(information)}"
        lines.append(f"EDGE_SE3:QUAT {edge.from_index} {edge.to_index} {values}")
    path.write_text("".join(f"{line}\n" for line in lines))


def read_g2o(path: Path) -> tuple[dict[int, Pose], list[Edge]]:
    """Read the keyframes and edges of a 3D pose graph; lines of other kinds are passed over.

    Raises:
        DataError: the file is missing, a line is cut short or not numbers, an information is not positive definite,
            or there is no vertex at all.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a g2o file: {error}") from error
    poses: dict[int, Pose] = {}
    edges: list[Edge] = []
    for number, line in enumerate(lines, 1):
        tag, *words = line.split() or [""]
        where = f"{path}, line {number}"
        if tag == "VERTEX_SE3:QUAT":
            index, values = _parsed(words, 1, 7, where)
            poses[index[0]] = _pose(values, where)
        elif tag == "EDGE_SE3:QUAT":
            index, values = _parsed(words, 2, 28, where)
            covariance = covariance_rotation_first(_symmetric(values[7:]), where)
            edges.append(Edge(index[0], index[1], _pose(values[:7], where), covariance))
    if not poses:
        raise DataError(f"{path}: holds no VERTEX_SE3:QUAT line")
    return poses, edges


def information_translation_first(covariance: Covariance) -> Float[np.ndarray, "6 6"]:
    """Turn a covariance, rotation first, into an information, translation first."""
    information = np.linalg.inv(covariance)[np.ix_(_SWAP, _SWAP)]
    return np.asarray((information + information.T) / 2)


def covariance_rotation_first(information: Float[np.ndarray, "6 6"], where: str) -> Covariance:
    """Turn an information, translation first, into a covariance, rotation first.

    Raises:
        DataError: it is not finite and positive definite.
    """
    if not np.isfinite(information).all() or not np.linalg.eigvalsh(information)[0] > 0:
        raise DataError(f"{where}: information is not finite and positive definite")
    covariance = np.linalg.inv(information)[np.ix_(_SWAP, _SWAP)]
    return np.asarray((covariance + covariance.T) / 2)


def _numbers(values: Float[np.ndarray, " n"]) -> str:
    return " ".join(repr(v) for v in values.tolist())


def _seven(T: Pose) -> Float[np.ndarray, " 7"]:
    return np.concatenate([T[:3, 3], Rotation.from_matrix(T[:3, :3]).as_quat(canonical=True)])


def _pose(values: Float[np.ndarray, " 7"], where: str) -> Pose:
    norm = float(np.linalg.norm(values[3:]))
    if not abs(norm - 1) < 1e-2:
        raise DataError(f"{where}: quaternion has norm {norm:.3g}, not 1")
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_quat(values[3:]).as_matrix(), values[:3]
    return T


def _symmetric(upper: Float[np.ndarray, " 21"]) -> Float[np.ndarray, "6 6"]:
    out = np.zeros((6, 6))
    out[_UPPER] = upper
    return out + np.triu(out, 1).T


def _parsed(
    words: list[str], indices: int, count: int, where: str
) -> tuple[list[int], Float[np.ndarray, " n"]]:
    try:
        index, values = [int(w) for w in words[:indices]], np.array([float(w) for w in words[indices:]])
    except ValueError as error:
        raise DataError(f"{where}: not a number: {error}") from error
    if len(index) < indices or len(values) != count or not np.isfinite(values).all():
        raise DataError(f"{where}: need {indices} numbers of keyframes and {count} finite values")
    return index, values
