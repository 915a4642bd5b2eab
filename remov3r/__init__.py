"""ReMov3r: RGB video with known intrinsics in; metric poses, pointmaps with confidence and a mesh out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remov3r.data.sources import open_source
    from remov3r.pipelines.config import load_config
    from remov3r.pipelines.export import save_reconstruction
    from remov3r.pipelines.load import load_reconstruction
    from remov3r.pipelines.output_folder import OutputFolder
    from remov3r.pipelines.reconstruct import Slam, reconstruct
    from remov3r.pipelines.relocalise import relocalise

__version__ = "0.1.0"
__all__ = [
    "OutputFolder",
    "Slam",
    "load_config",
    "load_reconstruction",
    "open_source",
    "reconstruct",
    "relocalise",
    "save_reconstruction",
]

_HOMES = {
    "OutputFolder": "remov3r.pipelines.output_folder",
    "Slam": "remov3r.pipelines.reconstruct",
    "load_config": "remov3r.pipelines.config",
    "load_reconstruction": "remov3r.pipelines.load",
    "open_source": "remov3r.data.sources",
    "reconstruct": "remov3r.pipelines.reconstruct",
    "relocalise": "remov3r.pipelines.relocalise",
    "save_reconstruction": "remov3r.pipelines.export",
}


def __getattr__(name: str) -> Any:
    """Import the front doors only when they are used, so that `import remov3r` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'remov3r' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
