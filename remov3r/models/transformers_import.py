"""The only place that imports transformers and its hub client."""

from __future__ import annotations

import importlib
from typing import Any

from remov3r.errors import MissingDependencyError


def load_transformers() -> Any:
    """Import transformers.

    Raises:
        MissingDependencyError: it is not installed; names the extra that brings it.
    """
    return _load("transformers")


def load_hub() -> Any:
    """Import huggingface_hub, which comes with transformers.

    Raises:
        MissingDependencyError: it is not installed; names the extra that brings it.
    """
    return _load("huggingface_hub")


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingDependencyError(
            f"{name} is not installed; DINOv2 and Depth Anything need it: pip install 'remov3r[paper]'"
        ) from error
