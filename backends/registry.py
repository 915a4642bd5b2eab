"""The backends by name."""

from __future__ import annotations

from collections.abc import Callable

from remov3r.backends.bundle import BundleBackend, BundleConfig
from remov3r.backends.none import FrontEndOnlyBackend
from remov3r.backends.pose_graph import PoseGraphBackend, PoseGraphConfig
from remov3r.config import Config
from remov3r.errors import ConfigError
from remov3r.protocols import Backend


def _bundle(config: Config | None) -> Backend:
    if config is not None and not isinstance(config, BundleConfig):
        raise ConfigError(f"backend 'bundle' takes a BundleConfig, got {type(config).__name__}")
    return BundleBackend(config)


def _pose_graph(config: Config | None) -> Backend:
    if config is not None and not isinstance(config, PoseGraphConfig):
        raise ConfigError(f"backend 'pose_graph' takes a PoseGraphConfig, got {type(config).__name__}")
    return PoseGraphBackend(config)


def _none(config: Config | None) -> Backend:
    return FrontEndOnlyBackend()


BACKENDS: dict[str, Callable[[Config | None], Backend]] = {
    "bundle": _bundle,
    "none": _none,
    "pose_graph": _pose_graph,
}


def create_backend(name: str, config: Config | None = None) -> Backend:
    """Make a backend.

    Raises:
        ConfigError: there is no backend of that name, or the configuration is another one's.
    """
    if name not in BACKENDS:
        raise ConfigError(f"backend {name!r}: no such backend; there are: {', '.join(sorted(BACKENDS))}")
    return BACKENDS[name](config)
