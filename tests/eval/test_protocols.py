"""The shipped protocols can be read, and a hash tells them apart."""

import pytest

from remov3r.data.sources import SOURCES
from remov3r.errors import ConfigError
from remov3r.eval.protocols import Protocol, ProtocolSequence, load_protocol, protocol_names

PROTOCOL = Protocol(
    name="p",
    version=1,
    description="d",
    dataset="7scenes",
    sequences=(ProtocolSequence(path="a"),),
    align="se3",
    metrics=("trajectory",),
)


@pytest.mark.parametrize("name", protocol_names())
def test_shipped_protocols(name: str) -> None:
    protocol = load_protocol(name)
    assert protocol.name == name
    assert protocol.dataset in SOURCES
    assert protocol.source or name in ("shared-small", "scale")
    assert protocol.evaluation.trajectory.tolerance_s == protocol.tolerance_s


def test_the_protocols_of_the_issue_are_there() -> None:
    assert set(protocol_names()) == {
        "7scenes-seq01", "7scenes-80-20", "scannet-80-20", "scannet-90", "tum-fr1", "replica", "bonn-depth",
        "kitti-depth", "shared-small", "scale",
    }  # fmt: skip


def test_video_depth_is_fitted_by_sequence_as_the_papers_do() -> None:
    by_sequence = {n for n in protocol_names() if load_protocol(n).depth_align == "sequence"}
    assert by_sequence == {"bonn-depth", "kitti-depth"}
    assert load_protocol("bonn-depth").evaluation.depth.max_m == 70
    assert load_protocol("kitti-depth").evaluation.depth.max_m >= 120, "as far as the laser reaches"


def test_the_hash_changes_with_anything() -> None:
    assert PROTOCOL.hash == PROTOCOL.model_copy().hash
    for change in ({"stride": 2}, {"version": 2}, {"tolerance_s": 0.02}):
        assert PROTOCOL.model_copy(update=change).hash != PROTOCOL.hash


def test_unknown_and_misspelt() -> None:
    with pytest.raises(ConfigError, match="shipped are: 7scenes-80-20, "):
        load_protocol("7scenes")
    with pytest.raises(ValueError, match="either path or rendered_s"):
        ProtocolSequence(path="a", rendered_s=1.0)
    with pytest.raises(ValueError, match="house_path with path"):
        ProtocolSequence(rendered_s=1.0, house_path=2)
    with pytest.raises(ValueError, match="strid"):
        Protocol.model_validate({**PROTOCOL.model_dump(), "strid": 2})
