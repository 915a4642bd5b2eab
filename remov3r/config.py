"""Configuration: a frozen pydantic class per component, next to it; TOML files, `--set key=value` on top."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from remov3r.errors import ConfigError


class Config(BaseModel):
    """Base of every component's configuration: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


C = TypeVar("C", bound=Config)


def read_toml(name_or_path: str | Path) -> dict[str, Any]:
    """Read a TOML file, or one of the shipped configurations by name ("lite").

    Raises:
        ConfigError: no such file or name, or not valid TOML.
    """
    path = Path(name_or_path)
    shipped = resources.files("remov3r.configs")
    try:
        if path.suffix == ".toml":
            return tomllib.loads(path.read_text())
        return tomllib.loads(shipped.joinpath(f"{name_or_path}.toml").read_text())
    except (FileNotFoundError, IsADirectoryError) as error:
        names = sorted(p.name.removesuffix(".toml") for p in shipped.iterdir() if p.name.endswith(".toml"))
        raise ConfigError(
            f"config {str(name_or_path)!r}: no such file; shipped are: {', '.join(names)}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {str(name_or_path)!r}: not valid TOML: {error}") from error


def with_overrides(tree: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return the tree with `a.b=value` assignments applied; values are TOML (a bare word is a string).

    Raises:
        ConfigError: an assignment is not of the form key=value.
    """
    out: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in tree.items()}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment!r}: write it as section.key=value")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text
        *sections, last = key.strip().split(".")
        node = out
        for section in sections:
            child = node.get(section, {})
            if not isinstance(child, Mapping):
                raise ConfigError(f"--set {assignment!r}: {section} is a value, not a section")
            node[section] = dict(child)
            node = node[section]
        node[last] = value
    return out


def build(cls: type[C], tree: Mapping[str, Any], where: str) -> C:
    """Validate a tree into a config class.

    Raises:
        ConfigError: names the dotted key, the value and what is allowed, for the first few mistakes.
    """
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        parts = [
            f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']} (got {e['input']!r})"
            for e in error.errors()[:3]
        ]
        raise ConfigError(f"{where}: " + "; ".join(parts)) from error
