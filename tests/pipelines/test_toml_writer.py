"""What is written must be read back by the standard library as the same tree."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remov3r.errors import ConfigError
from remov3r.pipelines.toml_writer import dump_toml

text = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | text
values = scalars | st.lists(scalars, max_size=3)
trees = st.recursive(
    st.dictionaries(text, values, max_size=3), lambda t: st.dictionaries(text, values | t, max_size=3)
)


@given(trees)
def test_round_trip(tree: dict[str, object]) -> None:
    assert tomllib.loads(dump_toml(tree)) == tree


def test_layout_and_none() -> None:
    tree = {"bundle": {"window": 8, "kernel": {"px": 1e-06}}, "mesh": True, "weights": None, "size": (3, 4)}
    expected = "mesh = true\nsize = [3, 4]\n\n[bundle]\nwindow = 8\n\n[bundle.kernel]\npx = 1e-06\n"
    assert dump_toml(tree) == expected


def test_other_kinds_are_refused() -> None:
    with pytest.raises(ConfigError, match="object"):
        dump_toml({"a": object()})
