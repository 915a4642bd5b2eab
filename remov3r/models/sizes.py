"""The sizes of the network: configs/network_<name>.toml."""

from __future__ import annotations

from typing import Any

from remov3r.config import build, read_toml
from remov3r.models.boxes import NetworkConfig

SIZES = ("lite", "small", "paper")


def network_table(name: str) -> dict[str, Any]:
    """Read the settings of a size as they stand in its file.

    Args:
        name: one of SIZES, or the path of a TOML file.
    Raises:
        ConfigError: there is no such file.
    """
    return read_toml(name if name.endswith(".toml") else f"network_{name}")


def network_config(name: str) -> NetworkConfig:
    """Read the configuration of a size; see `network_table`.

    Raises:
        ConfigError: there is no such file, or a key in it is wrong.
    """
    return build(NetworkConfig, network_table(name), f"network {name}")
