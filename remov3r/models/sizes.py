"""The sizes of the network: configs/network_<name>.toml."""

from __future__ import annotations

from remov3r.config import build, read_toml
from remov3r.models.boxes import NetworkConfig

SIZES = ("lite", "small", "paper")


def network_config(name: str) -> NetworkConfig:
    """Read the configuration of a size.

    Args:
        name: one of SIZES, or the path of a TOML file.
    Raises:
        ConfigError: there is no such file, or a key in it is wrong.
    """
    source = name if name.endswith(".toml") else f"network_{name}"
    return build(NetworkConfig, read_toml(source), source)
