"""A network small enough to test with, and clips to run it on."""

from __future__ import annotations

import torch
from torch import Tensor

from remov3r.models.boxes import NetworkConfig
from remov3r.models.dense_readout import DenseReadoutConfig
from remov3r.models.depth_anything import DepthAnythingConfig
from remov3r.models.depth_prior import DepthPriorConfig
from remov3r.models.dinov2 import Dinov2EncoderConfig
from remov3r.models.dpt_heads import DptHeadsConfig
from remov3r.models.encoder import EncoderConfig
from remov3r.models.fusion import FusionConfig
from remov3r.models.global_state import GlobalStateConfig
from remov3r.models.heads import HeadsConfig
from remov3r.models.keyframes import KeyframeConfig
from remov3r.models.local_state import LocalStateConfig
from remov3r.models.network import Remov3rNetwork
from remov3r.models.pointmap_encoder import PointmapEncoderConfig


def tiny_config(threshold: float = 2.1, max_window: int = 4, max_keyframes: int = 3) -> NetworkConfig:
    """All boxes, few channels; with the default threshold only the window length makes keyframes."""
    return NetworkConfig(
        encoder=EncoderConfig(freeze_stages=3),
        depth_prior=DepthPriorConfig(context_dim=16, context_heads=2, channels=(16, 12, 8)),
        pointmap_encoder=PointmapEncoderConfig(dim=16, depth=1, heads=2),
        fusion=FusionConfig(dim=24, depth=1, heads=2),
        heads=HeadsConfig(channels=(16, 12, 8)),
        keyframes=KeyframeConfig(threshold=threshold, max_window=max_window),
        local_state=LocalStateConfig(heads=2, hidden=32),
        global_state=GlobalStateConfig(heads=2, hidden=32, max_keyframes=max_keyframes),
    )


def switched_on(config: NetworkConfig) -> NetworkConfig:
    """The same network with everything beyond the paper switched on."""
    dense = DenseReadoutConfig(dim=16, depth=2, heads=2)
    local = config.local_state.model_copy(update={"dense": dense, "covariance": True})
    return config.model_copy(update={"local_state": local, "scale_shift": True})


def transformer_config(threshold: float = 2.1, max_window: int = 4, max_keyframes: int = 3) -> NetworkConfig:
    """The boxes of the small and the paper network, a few channels wide."""
    return tiny_config(threshold, max_window, max_keyframes).model_copy(
        update={
            "encoder": Dinov2EncoderConfig(size="tiny"),
            "depth_prior": DepthAnythingConfig(size="tiny"),
            "pointmap_encoder": PointmapEncoderConfig(
                patch=14, dim=16, depth=2, heads=2, position="rope", trainable_blocks=1
            ),
            "fusion": FusionConfig(dim=24, depth=4, heads=2),
            "heads": DptHeadsConfig(channels=8),
        }
    )


def tiny_network(config: NetworkConfig | None = None) -> Remov3rNetwork:
    """A network with fixed random weights whose readouts are far from identity."""
    torch.manual_seed(0)
    network = Remov3rNetwork(config or tiny_config())
    with torch.no_grad():
        for state in (network.local_state, network.global_state):
            torch.nn.init.normal_(state.readout.mlp[2].weight, std=0.5)  # type: ignore[arg-type]
            torch.nn.init.normal_(state.attention.lag_bias_HL)
    return network.eval()


def clip(batch: int, frames: int, height: int = 64, width: int = 64) -> tuple[Tensor, Tensor]:
    """Random images and one camera."""
    generator = torch.Generator().manual_seed(1)
    rgb = torch.rand(batch, frames, 3, height, width, generator=generator)
    # Whole frames of one tint each, so that pose embeddings differ between frames.
    rgb = 0.3 * rgb + 0.7 * torch.rand(batch, frames, 3, 1, 1, generator=generator)
    K = torch.tensor([[60.0, 0, width / 2 - 0.5], [0, 60, height / 2 - 0.5], [0, 0, 1]])
    return rgb, K.expand(batch, frames, 3, 3)
