"""The configuration of the whole pipeline: one tree of the components' own classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator

from remov3r.backends.bundle import BundleConfig
from remov3r.backends.consistency import ConsistencyConfig
from remov3r.backends.depth_alignment import AlignmentConfig
from remov3r.backends.fusion import FusionConfig
from remov3r.backends.pose_graph import PoseGraphConfig
from remov3r.config import Config, build, read_toml, with_overrides
from remov3r.frontends.network import NetworkFrontEndConfig
from remov3r.frontends.recorded import RecordedConfig
from remov3r.frontends.sensor import SensorConfig
from remov3r.pipelines.session_files import SessionConfig

RECORDED = "recorded:"  # before the folder of a recording


class PipelineConfig(Config):
    """Everything that can be set.

    Attributes:
        front_end: "network" sees RGB alone; "sensor" takes the data set's depth in its place; "recorded:DIR" repeats
            what another front end wrote (docs/recorded.md).
        backend: a name of `remov3r.backends.registry`.
        mesh: fuse the keyframes' depth into a mesh and a cloud.
        live_map_keyframes: after so many keyframes each the map follows while the run goes on (`Slam.mesh`); 0 fuses
            at the end alone.
        threads: of torch; 0 for half the cores. More do harm where other work shares the cores.
        record: folder for a recording of what the front end says; none if empty.
        keyframe_width: keyframes are kept for fusion and export at most so many pixels wide.
    """

    front_end: str = "network"
    record: str = ""
    backend: str = "bundle"
    mesh: bool = True
    live_map_keyframes: int = Field(0, ge=0)
    threads: int = Field(0, ge=0)
    keyframe_width: int = Field(320, ge=16)
    network: NetworkFrontEndConfig = NetworkFrontEndConfig()
    sensor: SensorConfig = SensorConfig()
    recorded: RecordedConfig = RecordedConfig()
    bundle: BundleConfig = BundleConfig()
    pose_graph: PoseGraphConfig = PoseGraphConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    consistency: ConsistencyConfig = ConsistencyConfig()
    fusion: FusionConfig = FusionConfig()
    session: SessionConfig = SessionConfig()

    @field_validator("front_end")
    @classmethod
    def _known_front_end(cls, name: str) -> str:
        if name not in ("network", "sensor") and not name.startswith(RECORDED):
            raise ValueError("no such front end; use network, sensor, recorded:DIR or recorded:LAYOUT:DIR")
        return name


def load_config(name_or_path: str | Path = "lite", assignments: Sequence[str] = ()) -> PipelineConfig:
    """Read a configuration by name or path, with `section.key=value` assignments on top.

    Raises:
        ConfigError: no such file, a misspelt key, or a value out of range; names the key.
    """
    tree = with_overrides(read_toml(name_or_path), assignments)
    return build(PipelineConfig, tree, f"config {name_or_path}")
