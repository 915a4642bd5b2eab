"""A triangle mesh of several textured parts, as glTF files hold, and its colours where rays hit it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from remov3r.backends.mesh_render import RayHits
from remov3r.errors import DataError, MissingDependencyError

Textures = UInt8[np.ndarray, "parts size size 3"]


@dataclass(frozen=True)
class TexturedMesh:
    """Parts merged into one mesh; each part has one square texture that repeats over its texture coordinates.

    Attributes:
        uv: texture coordinates, (0, 0) at the lower left corner of the texture.
        part: index of the part that each triangle belongs to.
    """

    vertices_m: Float[np.ndarray, "v 3"]
    triangles: Int[np.ndarray, "t 3"]
    normals: Float[np.ndarray, "v 3"]
    uv: Float[np.ndarray, "v 2"]
    part: Int[np.ndarray, " t"]
    textures: Textures

    def with_quad(
        self, corners_m: Float[np.ndarray, "4 3"], texture: UInt8[np.ndarray, "size size 3"], repeats: float
    ) -> TexturedMesh:
        """Return the mesh with one flat quadrilateral as a further part (a ceiling, a floor)."""
        n, parts = len(self.vertices_m), len(self.textures)
        normal = np.cross(corners_m[1] - corners_m[0], corners_m[3] - corners_m[0])
        normal = normal / np.linalg.norm(normal)
        uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * repeats
        return TexturedMesh(
            np.concatenate([self.vertices_m, corners_m]),
            np.concatenate([self.triangles, np.array([[0, 1, 2], [0, 2, 3]]) + n]),
            np.concatenate([self.normals, np.tile(normal, (4, 1))]),
            np.concatenate([self.uv, uv]),
            np.concatenate([self.part, [parts, parts]]),
            np.concatenate([self.textures, texture[None]]),
        )

    def colors_at(self, hits: RayHits) -> Float[np.ndarray, "n 3"]:
        """Look the texture up bilinearly where rays hit; colours 0..1."""
        size = self.textures.shape[1]
        uv = hits.interpolate(self.uv, self.triangles)
        part = self.part[hits.triangle]
        x, y = uv[:, 0] * size - 0.5, (1 - uv[:, 1]) * size - 0.5
        x0, y0 = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        fx = (x - x0)[:, None].astype(np.float32)
        fy = (y - y0)[:, None].astype(np.float32)

        def texel(column: Int[np.ndarray, " n"], row: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
            return self.textures[part, row % size, column % size].astype(np.float32)

        top = texel(x0, y0) * (1 - fx) + texel(x0 + 1, y0) * fx
        bottom = texel(x0, y0 + 1) * (1 - fx) + texel(x0 + 1, y0 + 1) * fx
        return (top * (1 - fy) + bottom * fy) / 255


def load_textured_mesh(path: Path, texture_size: int = 256) -> TexturedMesh:
    """Read a glTF/GLB file in its own axes; textures are brought to one square size.

    Raises:
        MissingDependencyError: trimesh is not installed.
        DataError: the file is missing or holds no textured triangle.
    """
    try:
        import trimesh
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "trimesh is not installed; install it with: pip install 'remov3r[train]'"
        ) from error
    if not path.is_file():
        raise DataError(f"model {path}: no such file")
    scene = trimesh.load(path, force="scene")
    meshes = []
    for node in scene.graph.nodes_geometry:
        T, name = scene.graph[node]
        geometry = scene.geometry[name]
        if isinstance(geometry, trimesh.Trimesh) and getattr(geometry.visual, "uv", None) is not None:
            meshes.append(geometry.copy().apply_transform(T))
    if not meshes:
        raise DataError(f"model {path}: no triangles with texture coordinates")
    offsets = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    return TexturedMesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + offset for m, offset in zip(meshes, offsets)]),
        np.concatenate([m.vertex_normals for m in meshes]),
        np.concatenate([m.visual.uv for m in meshes]),
        np.concatenate([np.full(len(m.faces), k) for k, m in enumerate(meshes)]),
        np.stack([_texture(m.visual.material, texture_size) for m in meshes]),
    )


def _texture(material: object, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The material's base colour texture, or its plain base colour (grey where it has neither)."""
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if image is None:
        factor = getattr(material, "baseColorFactor", None)
        color = np.full(3, 160) if factor is None else np.asarray(factor)[:3]
        return np.broadcast_to(color.astype(np.uint8), (size, size, 3))
    pixels = np.asarray(image.convert("RGB"))
    return np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)
