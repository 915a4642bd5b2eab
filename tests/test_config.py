"""Configuration: overrides, and mistakes that are named."""

from pathlib import Path

import pytest

from remov3r.config import Config, build, read_toml, with_overrides
from remov3r.errors import ConfigError


class Inner(Config):
    kernel: str = "huber"
    width: float = 1.5


class Outer(Config):
    inner: Inner = Inner()
    threads: int = 1


def test_overrides_are_typed_and_leave_the_input_alone() -> None:
    tree = {"inner": {"width": 2.0}}
    changed = with_overrides(tree, ["inner.kernel=cauchy", "inner.width=1.5e-6", "threads=3"])
    assert build(Outer, changed, "test") == Outer(inner=Inner(kernel="cauchy", width=1.5e-6), threads=3)
    assert tree == {"inner": {"width": 2.0}}


@pytest.mark.parametrize("assignment", ["inner.kernel", "=3", "threads.x=1"])
def test_malformed_overrides_are_refused(assignment: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        with_overrides({"threads": 1}, [assignment])


def test_a_typo_is_named_with_its_dotted_key() -> None:
    with pytest.raises(ConfigError, match=r"inner\.kernal"):
        build(Outer, {"inner": {"kernal": "x"}}, "lite.toml")


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_toml(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("a = = 1")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_toml(broken)
    with pytest.raises(ConfigError, match="shipped are"):
        read_toml("no-such-name")
