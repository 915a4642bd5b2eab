"""Named, versioned protocols: which frames of which sequences are measured, and how (configs/protocols/*.toml)."""

from __future__ import annotations

import hashlib
import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from remov3r.config import Config, build
from remov3r.data.splits import Part
from remov3r.errors import ConfigError
from remov3r.eval.depth import DepthEvalConfig
from remov3r.eval.metrics import EvalConfig
from remov3r.eval.trajectory import Align, TrajectoryEvalConfig

Metric = Literal["trajectory", "depth", "map"]


class ProtocolSequence(Config):
    """One sequence, or several that a pattern names.

    Attributes:
        path: below the data folder; may hold * and ?.
        dataset: its layout (`remov3r run --dataset`); None for the protocol's.
        rendered_s: seconds of a synthetic room in place of a path.
        room: which one; None for the demo's.
        house_path: of the walks through the house model in the folder `path`, in place of a sequence there.
        note: shown beside its name, such as "validation".
    """

    path: str = ""
    dataset: str | None = None
    rendered_s: PositiveFloat | None = None
    room: NonNegativeInt | None = None
    house_path: PositiveInt | None = None
    note: str = ""

    @model_validator(mode="after")
    def _one_origin(self) -> ProtocolSequence:
        if bool(self.path) == (self.rendered_s is not None):
            raise ValueError("give either path or rendered_s")
        if (self.room is not None and self.rendered_s is None) or (self.house_path and not self.path):
            raise ValueError("room goes with rendered_s, house_path with path")
        return self


class Protocol(Config):
    """What is measured; nothing that depends on a method.

    Attributes:
        version: raised whenever a figure could change.
        description, source: for readers; the paper or page that the choices come from.
        dataset: layout of the sequences.
        camera: intrinsics in place of the data set's own, fx,fy,cx,cy.
        split: which part of each sequence: "test" is its last fifth.
        start: frames left out at its beginning; stride: every n-th from there; frames: at most so many.
        align: of the ATE that the protocol's tables are about; both are always given.
        truth_mesh: the map is judged by this mesh beside the sequence's folder in place of the fused depth, {sequence}
            standing for that folder's name; "" for the depth.
        max_depth_m: ground-truth depth beyond it is left out.
        depth_align: the depth that the protocol's tables are about: of each frame by itself, or of all frames
            after one scale, or one scale and shift, for the sequence.
    """

    name: str
    version: PositiveInt
    description: str
    source: str = ""
    dataset: str
    sequences: tuple[ProtocolSequence, ...]
    camera: str | None = None
    split: Part = "all"
    start: NonNegativeInt = 0
    stride: PositiveInt = 1
    frames: PositiveInt | None = None
    align: Align
    metrics: tuple[Metric, ...]
    truth_mesh: str = ""
    tolerance_s: PositiveFloat = 0.01
    max_depth_m: PositiveFloat = 10.0
    depth_align: Literal["frame", "sequence"] = "frame"

    @property
    def hash(self) -> str:
        """Identify the protocol's contents."""
        return digest(self.model_dump(mode="json"))

    @property
    def evaluation(self) -> EvalConfig:
        """Return the settings of the evaluation."""
        depth = DepthEvalConfig(max_m=self.max_depth_m)
        return EvalConfig(trajectory=TrajectoryEvalConfig(tolerance_s=self.tolerance_s), depth=depth)


def digest(tree: object) -> str:
    """Return twelve hexadecimal digits of a JSON tree."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:12]


def load_protocol(name_or_path: str) -> Protocol:
    """Read a protocol by its name, or a TOML file.

    Raises:
        ConfigError: no such protocol, not TOML, or a misspelt key.
    """
    shipped = resources.files("remov3r.configs") / "protocols"
    file = Path(name_or_path) if name_or_path.endswith(".toml") else shipped / f"{name_or_path}.toml"
    if not file.is_file():
        raise ConfigError(
            f"protocol {name_or_path!r}: no such file; shipped are: {', '.join(protocol_names())}"
        )
    try:
        tree = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"protocol {name_or_path!r}: not valid TOML: {error}") from error
    return build(Protocol, tree, f"protocol {name_or_path}")


def protocol_names() -> list[str]:
    """List the shipped protocols."""
    folder = resources.files("remov3r.configs") / "protocols"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))
