"""ReMov3r: RGB video with known intrinsics in; metric poses, pointmaps with confidence and a mesh out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remov3r.data.sources import open_source
    from remov3r.pipelines.config import load_config
    from remov3r.pipelines.reconstruct import Slam, reconstruct

__version__ = "0.1.0"
__all__ = ["Slam", "load_config", "open_source", "reconstruct"]

_HOMES = {
    "Slam": "remov3r.pipelines.reconstruct",
    "load_config": "remov3r.pipelines.config",
    "open_source": "remov3r.data.sources",
    "reconstruct": "remov3r.pipelines.reconstruct",
}


def __getattr__(name: str) -> Any:
    """Import the front doors only when they are used, so that `import remov3r` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'remov3r' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
