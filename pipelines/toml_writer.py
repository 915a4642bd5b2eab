"""Write a configuration tree as TOML; `tomllib` in the standard library only reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from remov3r.errors import ConfigError


def dump_toml(tree: Mapping[str, Any]) -> str:
    """Return a tree of tables, strings, numbers, booleans and lists as TOML; keys with None are left out.

    Raises:
        ConfigError: a value of another kind.
    """
    return "\n".join(_lines(tree, ())).lstrip("\n") + "\n"


def _lines(tree: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    values = {k: v for k, v in tree.items() if v is not None and not isinstance(v, Mapping)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in values.items()]
    if path and (lines or not tree):
        lines.insert(0, f"\n[{'.'.join(map(_key, path))}]")
    for key, value in tree.items():
        if isinstance(value, Mapping):
            lines += _lines(value, (*path, key))
    return lines


def _key(key: str) -> str:
    bare = key and all(c.isascii() and (c.isalnum() or c in "_-") for c in key)
    return key if bare else _text(key)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON leaves DEL as it is


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)  # TOML spells inf and nan as Python does
    if isinstance(value, Sequence):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    raise ConfigError(f"cannot write {value!r} ({type(value).__name__}) as TOML")
