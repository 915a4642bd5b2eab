"""The map that follows a run: there before the end, and at the end the same as one fused then."""

from __future__ import annotations

import numpy as np

from remov3r.camera import Camera
from remov3r.data.synthetic.source import SyntheticSource
from remov3r.pipelines.config import load_config
from remov3r.pipelines.reconstruct import Slam
from remov3r.types import Mesh

CAMERA = Camera(160, 120, 130.0, 130.0, 79.5, 59.5)
SETTINGS = [
    *("front_end=sensor", "fusion.voxel_m=0.05", "fusion.min_views=1", "fusion.min_component_triangles=0"),
    *("fusion.moved_voxels=1e-9", "fusion.moved_share=1e-9", "bundle.keyframe_frames=6"),
]


def meshes(every: int) -> tuple[list[Mesh | None], Mesh]:
    """Return the live map after each frame, and the final one."""
    live = []
    with Slam.from_config(load_config("lite", [*SETTINGS, f"live_map_keyframes={every}"])) as slam:
        for frame in SyntheticSource(5, 24, CAMERA):
            slam.track(frame)
            live.append(slam.mesh())
        final = slam.finish().mesh
    assert final is not None
    return live, final


def corners(mesh: Mesh) -> np.ndarray:
    """The vertices in an order that does not depend on that of the blocks."""
    rounded = mesh.vertices_m.round(4)
    return rounded[np.lexsort(rounded.T)]


def test_the_live_map_follows_and_ends_where_fusing_at_the_end_does() -> None:
    live, followed = meshes(every=1)
    none, fused = meshes(every=0)
    assert all(mesh is None for mesh in none)
    assert live[0] is not None
    assert live[-1] is not None
    assert len(live[-1].vertices_m) > len(live[0].vertices_m)
    np.testing.assert_allclose(corners(followed), corners(fused), atol=2e-4)
