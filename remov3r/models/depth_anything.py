"""Depth prior Depth Anything V2, metric and for indoor scenes, through transformers.

Shapes: B batch, H W image size (multiples of 14), h w = H/2 W/2.
References: Yang et al. 2024 (Depth Anything V2), section 7.3 (metric depth); paper 3.1.1 and 4.2.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.config import Config
from remov3r.models.depth_prior import LOG_DEPTH_RANGE
from remov3r.models.dinov2 import (
    VIT_SIZES,
    ImageNetNormalise,
    Size,
    freeze_all_but_last,
    patch_grid,
    vit_options,
)
from remov3r.models.features import VisualFeatures
from remov3r.models.transformers_import import load_transformers

MAX_DEPTH_M = 20  # of the indoor checkpoints: depth = 20 m · sigmoid

# channels of the four maps of the DPT neck, channels of its fusion, ViT blocks whose tokens it takes (from 1)
DPT_SIZES: dict[Size, tuple[list[int], int, list[int]]] = {
    "tiny": ([8, 8, 12, 12], 8, [1, 2, 3, 4]),
    "small": ([48, 96, 192, 384], 64, [3, 6, 9, 12]),
    "base": ([96, 192, 384, 768], 128, [3, 6, 9, 12]),
    "large": ([256, 512, 1024, 1024], 256, [5, 12, 18, 24]),
}


class DepthAnythingConfig(Config):
    """Depth prior Depth Anything V2.

    Attributes:
        trainable_blocks: all blocks of the ViT but the last so many are frozen, and so are its embeddings; what
            comes after the blocks (norm, neck and head) is trained.
    """

    kind: Literal["depth_anything"] = "depth_anything"
    size: Size = "small"
    trainable_blocks: int = Field(default=2, ge=0)

    @property
    def hub_name(self) -> str:
        """Repository of the published weights."""
        return f"depth-anything/Depth-Anything-V2-Metric-Indoor-{self.size.capitalize()}-hf"


class DepthAnythingPrior(nn.Module):
    """Metric depth of single images; the weights are random until `load_pretrained`.

    The depth is the model's own: it does not look at the intrinsics, so it is right only for cameras like those
    it was trained with. What the focal length and the scene ask for beyond that is the scale-shift head's task.
    """

    def __init__(self, config: DepthAnythingConfig) -> None:
        """Build the model.

        Raises:
            ConfigError: more blocks are to be trained than there are.
            MissingDependencyError: transformers is not installed.
        """
        super().__init__()
        self.config = config
        self.normalise = ImageNetNormalise()
        self.model = load_transformers().DepthAnythingForDepthEstimation(_hub_config(config.size))
        freeze_all_but_last(self.model.backbone, config.trainable_blocks)
        # The deepest map has nothing to be added to: these convolutions are stored but never run.
        self.model.neck.fusion_stage.layers[0].residual_layer1.requires_grad_(False)

    def forward(
        self, rgb_B3HW: Float[Tensor, "b 3 H W"], features: VisualFeatures, K_B33: Float[Tensor, "b 3 3"]
    ) -> Float[Tensor, "b h w"]:
        """Predict log depth in metres at half the size, float32; features and intrinsics are not looked at.

        Raises:
            ShapeError: the size is not a multiple of 14.
        """
        grid = patch_grid(rgb_B3HW)
        maps = self.model.neck(self.model.backbone(self.normalise(rgb_B3HW)).feature_maps, *grid)
        # Before the sigmoid, bfloat16 would round depth to steps of 1 %.
        with torch.autocast(rgb_B3HW.device.type, enabled=False):
            dtype = self.model.head.conv1.weight.dtype
            depth_BHW = self.model.head([x.to(dtype) for x in maps], *grid).float()
        lowest, highest = LOG_DEPTH_RANGE
        log_BHW = depth_BHW.clamp(min=torch.finfo(torch.float32).tiny).log().clamp(lowest, highest)
        return F.avg_pool2d(log_BHW, 2)

    def metres(self, log_depth_Bhw: Tensor, K_B33: Tensor) -> Tensor:
        """Turn log depth into metres; the same for every camera."""
        return log_depth_Bhw.exp()


def _hub_config(size: Size) -> Any:
    transformers = load_transformers()
    neck_channels, fusion_channels, blocks = DPT_SIZES[size]
    backbone = transformers.Dinov2Config(
        **vit_options(size), out_indices=blocks, apply_layernorm=True, reshape_hidden_states=False
    )
    return transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=VIT_SIZES[size].dim,
        neck_hidden_sizes=neck_channels,
        fusion_hidden_size=fusion_channels,
        depth_estimation_type="metric",
        max_depth=MAX_DEPTH_M,
    )
