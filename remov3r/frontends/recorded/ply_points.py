"""The positions in a binary PLY file of any writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from remov3r.errors import DataError

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"},
}


def read_ply_points(file: Path) -> Float[np.ndarray, "n 3"]:
    """Read x, y, z of the vertices, which come first in the file, in single precision.

    Raises:
        DataError: missing, cut off, not binary little endian, or without x, y, z.
    """
    try:
        head, _, body = file.read_bytes().partition(b"end_header\n")
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    lines = [line.split() for line in head.decode("ascii", "replace").splitlines()]
    if ["format", "binary_little_endian", "1.0"] not in lines:
        raise DataError(f"{file}: not a binary little-endian PLY file")
    elements = [i for i, line in enumerate(lines) if line[:1] == ["element"]]
    first = lines[elements[0]] if elements else []
    if first[1:2] != ["vertex"] or not first[2:] or not first[2].isdigit():
        raise DataError(f"{file}: its first element is not the vertices")
    end = elements[1] if len(elements) > 1 else len(lines)
    fields = [
        (line[2], "<" + _TYPES.get(line[1], "V")) for line in lines[elements[0] + 1 : end] if len(line) == 3
    ]
    if not {"x", "y", "z"} <= {name for name, _ in fields} or any(kind == "<V" for _, kind in fields):
        raise DataError(f"{file}: the vertices have no x, y, z of a known type")
    vertex, count = np.dtype(fields), int(first[2])
    if len(body) < count * vertex.itemsize:
        raise DataError(
            f"{file}: cut off: {count} vertices need {count * vertex.itemsize} bytes, got {len(body)}"
        )
    vertices = np.frombuffer(body, vertex, count)
    return np.stack([vertices[axis].astype(np.float32) for axis in "xyz"], 1)
