"""Visual encoder DINOv2: a ViT with patches of 14 pixels, through transformers.

Shapes: B batch, H W image size (multiples of 14), C channels, h w = H/14 W/14, N = h w tokens.
References: Oquab et al. 2023 (DINOv2); paper 3.1.1 and 4.2.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from remov3r.config import Config
from remov3r.errors import ConfigError, ShapeError
from remov3r.models.features import VisualFeatures
from remov3r.models.transformers_import import load_transformers

PATCH = 14
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Size = Literal["tiny", "small", "base", "large"]


class VitSize(NamedTuple):
    """Dimensions of a ViT; `image_size` is that of the stored position table."""

    dim: int
    layers: int
    heads: int
    image_size: int


VIT_SIZES: dict[Size, VitSize] = {
    "tiny": VitSize(24, 4, 2, 56),  # for tests; nobody publishes weights of it
    "small": VitSize(384, 12, 6, 518),
    "base": VitSize(768, 12, 12, 518),
    "large": VitSize(1024, 24, 16, 518),
}


class Dinov2EncoderConfig(Config):
    """Visual encoder DINOv2.

    Attributes:
        trainable_blocks: all blocks but the last so many are frozen, and so are the embeddings; the final norm
            is trained.
    """

    kind: Literal["dinov2"] = "dinov2"
    size: Size = "small"
    trainable_blocks: int = Field(default=2, ge=0)

    @property
    def hub_name(self) -> str:
        """Repository of the published weights."""
        return f"facebook/dinov2-{self.size}"


class Dinov2Encoder(nn.Module):
    """Images to one map of final, normed patch tokens; the weights are random until `load_pretrained`."""

    strides: tuple[int, ...] = (PATCH,)

    def __init__(self, config: Dinov2EncoderConfig) -> None:
        """Build the encoder.

        Raises:
            ConfigError: more blocks are to be trained than there are.
            MissingDependencyError: transformers is not installed.
        """
        super().__init__()
        self.config = config
        transformers = load_transformers()
        self.normalise = ImageNetNormalise()
        self.model = transformers.Dinov2Model(transformers.Dinov2Config(**vit_options(config.size)))
        self.channels: tuple[int, ...] = (VIT_SIZES[config.size].dim,)
        freeze_all_but_last(self.model, config.trainable_blocks)

    def forward(self, rgb_B3HW: Float[Tensor, "b 3 H W"]) -> VisualFeatures:
        """Encode images with values 0..1.

        Raises:
            ShapeError: the size is not a multiple of 14.
        """
        h, w = patch_grid(rgb_B3HW)
        tokens_BNC = self.model(self.normalise(rgb_B3HW)).last_hidden_state[:, 1:]  # the first is the class
        return VisualFeatures((tokens_BNC.transpose(1, 2).unflatten(2, (h, w)),))


class ImageNetNormalise(nn.Module):
    """Shift and scale values 0..1 to the mean 0 and deviation 1 of ImageNet's channels."""

    mean_311: Tensor
    std_311: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean_311", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std_311", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, rgb_B3HW: Tensor) -> Tensor:
        """Normalise."""
        return (rgb_B3HW - self.mean_311) / self.std_311


def vit_options(size: Size) -> dict[str, Any]:
    """Give the options of transformers' Dinov2Config for one of DINOv2's sizes."""
    vit = VIT_SIZES[size]
    return {
        "hidden_size": vit.dim,
        "num_hidden_layers": vit.layers,
        "num_attention_heads": vit.heads,
        "image_size": vit.image_size,
        "patch_size": PATCH,
    }


def patch_grid(rgb_B3HW: Tensor) -> tuple[int, int]:
    """Count the patches down and across.

    Raises:
        ShapeError: the size is not a multiple of 14 (transformers would cut the rest off without a word).
    """
    height, width = int(rgb_B3HW.shape[2]), int(rgb_B3HW.shape[3])
    if height % PATCH or width % PATCH or not height * width:
        raise ShapeError(f"image of {height}x{width}: DINOv2 needs multiples of {PATCH}")
    return height // PATCH, width // PATCH


def freeze_all_but_last(vit: Any, trainable_blocks: int) -> None:
    """Freeze the embeddings and all but the last blocks of transformers' DINOv2 (paper 4.2).

    Nothing in front of a frozen block requires a gradient, so none of its activations are kept.

    Raises:
        ConfigError: more blocks are to be trained than there are.
    """
    blocks = vit.encoder.layer
    if trainable_blocks > len(blocks):
        raise ConfigError(f"trainable_blocks = {trainable_blocks}: this ViT has {len(blocks)} blocks")
    for frozen in (vit.embeddings, *blocks[: len(blocks) - trainable_blocks]):
        frozen.requires_grad_(False)
