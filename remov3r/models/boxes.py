"""Which boxes a network is made of, and how each is built; the only place that knows the alternatives."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from remov3r.config import Config
from remov3r.errors import ConfigError
from remov3r.models.depth_anything import DepthAnythingConfig, DepthAnythingPrior
from remov3r.models.depth_prior import DepthPrior, DepthPriorConfig
from remov3r.models.dinov2 import Dinov2Encoder, Dinov2EncoderConfig
from remov3r.models.dpt_heads import LEVELS, DptHeads, DptHeadsConfig
from remov3r.models.encoder import Encoder, EncoderConfig
from remov3r.models.fusion import FusionConfig
from remov3r.models.global_state import GlobalStateConfig
from remov3r.models.heads import DenseHeads, HeadsConfig
from remov3r.models.keyframes import KeyframeConfig
from remov3r.models.local_state import LocalStateConfig
from remov3r.models.pointmap_encoder import PointmapEncoderConfig


def _kind(default: str) -> Discriminator:
    def kind(value: Any) -> str:
        found = value.get("kind", default) if isinstance(value, dict) else getattr(value, "kind", default)
        return str(found)

    return Discriminator(kind)


AnyEncoder = Annotated[
    Annotated[EncoderConfig, Tag("efficientnet_lite0")] | Annotated[Dinov2EncoderConfig, Tag("dinov2")],
    _kind("efficientnet_lite0"),
]
AnyPrior = Annotated[
    Annotated[DepthPriorConfig, Tag("light")] | Annotated[DepthAnythingConfig, Tag("depth_anything")],
    _kind("light"),
]
AnyHeads = Annotated[
    Annotated[HeadsConfig, Tag("light")] | Annotated[DptHeadsConfig, Tag("dpt")], _kind("light")
]


class NetworkConfig(Config):
    """The whole network.

    Attributes:
        scale_shift: correct the depth prior by one scale and one shift per image.
    """

    encoder: AnyEncoder = EncoderConfig()
    depth_prior: AnyPrior = DepthPriorConfig()
    scale_shift: bool = False
    pointmap_encoder: PointmapEncoderConfig = PointmapEncoderConfig()
    fusion: FusionConfig = FusionConfig()
    heads: AnyHeads = HeadsConfig()
    keyframes: KeyframeConfig = KeyframeConfig()
    local_state: LocalStateConfig = LocalStateConfig()
    global_state: GlobalStateConfig = GlobalStateConfig()


def build_encoder(config: EncoderConfig | Dinov2EncoderConfig) -> Encoder | Dinov2Encoder:
    """Build the visual encoder, with random weights."""
    return Dinov2Encoder(config) if isinstance(config, Dinov2EncoderConfig) else Encoder(config)


def build_prior(
    config: DepthPriorConfig | DepthAnythingConfig, channels: tuple[int, ...]
) -> DepthPrior | DepthAnythingPrior:
    """Build the depth prior for an encoder of such channels, with random weights."""
    if isinstance(config, DepthAnythingConfig):
        return DepthAnythingPrior(config)
    _needs_four_maps(config.kind, channels)
    return DepthPrior(config, channels)


def head_levels(config: HeadsConfig | DptHeadsConfig, fusion_depth: int) -> tuple[int, ...]:
    """Choose the fusion blocks whose tokens the heads see: the last, or LEVELS evenly spread ones."""
    if isinstance(config, HeadsConfig):
        return (fusion_depth - 1,)
    if fusion_depth < LEVELS:
        raise ConfigError(f"heads.kind = dpt needs fusion.depth of at least {LEVELS}, got {fusion_depth}")
    return tuple(fusion_depth * (i + 1) // LEVELS - 1 for i in range(LEVELS))


def build_heads(
    config: HeadsConfig | DptHeadsConfig, dim: int, channels: tuple[int, ...]
) -> DenseHeads | DptHeads:
    """Build the dense heads, with random weights."""
    if isinstance(config, DptHeadsConfig):
        return DptHeads(config, dim)
    _needs_four_maps(config.kind, channels)
    return DenseHeads(config, dim, channels)


def _needs_four_maps(kind: str, channels: tuple[int, ...]) -> None:
    if len(channels) != 4:
        raise ConfigError(
            f"the {kind!r} decoders need an encoder with four maps (efficientnet_lite0), "
            f"this one has {len(channels)}; use depth_anything and dpt"
        )
