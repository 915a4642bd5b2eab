"""Align3R's depth encoder in the pointmap encoder: which of its tensors goes where, and in what form.

In Align3R the pointmap of each image passes one convolution of 16 by 16 pixels (`patch_embed_point_cloud`) and
four ViT blocks with rotary positions (`dec_blocks_pc`); no norm follows, each block's tokens are added to
DUSt3R's decoder through 1x1 convolutions (`zero_convs`). Here the four blocks are read out at the end through a
norm, so `norm` and the zero `box` layer have no counterpart and start as they are built. The zero convolutions
and all of DUSt3R (image encoder, decoders, heads) are left out.

Align3R's convolution sees pointmaps of full size, ours sees them at stride 2: the weights of 2 by 2 pixels are
summed, which is exact for a pointmap whose 2 by 2 pixels are equal.

References: Lu et al. 2024 (Align3R); names and shapes from its public code, none of which is used here. Its code
and weights are CC BY-NC-SA 4.0: not for commercial use.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from remov3r.errors import DataError
from remov3r.models.pointmap_encoder import PointmapEncoder, PointmapEncoderConfig

PATCH_EMBED, BLOCKS = "patch_embed_point_cloud.", "dec_blocks_pc."
LEFT_OUT = (
    *(
        "patch_embed.",
        "enc_blocks.",
        "enc_norm.",
        "mask_token",
        "decoder_embed.",
        "dec_blocks.",
        "dec_blocks2.",
    ),
    *("dec_norm.", "downstream_head1.", "downstream_head2.", "zero_convs."),
)
WITHOUT_COUNTERPART = ("norm.weight", "norm.bias", "box.weight", "box.bias")
NAMED_KEYS = 6  # of each kind in an error

Convert = Callable[[Tensor], Tensor]


def align3r_config(trainable_blocks: int | None = 2) -> PointmapEncoderConfig:
    """Give the size that Align3R's published weights need."""
    return PointmapEncoderConfig(
        patch=16,
        dim=768,
        depth=4,
        heads=12,
        mlp_ratio=4,
        position="rope",
        trainable_blocks=trainable_blocks,
    )


def key_map(depth: int) -> dict[str, tuple[str, Convert]]:
    """Map each name in the pointmap encoder to the name in Align3R and the conversion of the tensor."""
    pairs: dict[str, tuple[str, Convert]] = {
        "patches.weight": (f"{PATCH_EMBED}proj.weight", _halve_patch),
        "patches.bias": (f"{PATCH_EMBED}proj.bias", _as_it_is),
    }
    for i in range(depth):
        ours, theirs = f"blocks.{i}.", f"{BLOCKS}{i}."
        for kind in ("weight", "bias"):
            pairs |= {
                f"{ours}norm.{kind}": (f"{theirs}norm1.{kind}", _as_it_is),
                f"{ours}attention.query.{kind}": (f"{theirs}attn.qkv.{kind}", _first_third),
                f"{ours}attention.key_value.{kind}": (f"{theirs}attn.qkv.{kind}", _last_two_thirds),
                f"{ours}attention.out.{kind}": (f"{theirs}attn.proj.{kind}", _as_it_is),
                f"{ours}mlp_norm.{kind}": (f"{theirs}norm2.{kind}", _as_it_is),
                f"{ours}mlp.0.{kind}": (f"{theirs}mlp.fc1.{kind}", _as_it_is),
                f"{ours}mlp.2.{kind}": (f"{theirs}mlp.fc2.{kind}", _as_it_is),
            }
    return pairs


def needed_shapes(config: PointmapEncoderConfig) -> dict[str, tuple[int, ...]]:
    """Give the names and shapes that a checkpoint of Align3R must have to fit."""
    dim, hidden = config.dim, config.mlp_ratio * config.dim
    shapes: dict[str, tuple[int, ...]] = {
        f"{PATCH_EMBED}proj.weight": (dim, 3, config.patch, config.patch),
        f"{PATCH_EMBED}proj.bias": (dim,),
    }
    for i in range(config.depth):
        block = f"{BLOCKS}{i}."
        for norm in ("norm1", "norm2"):
            shapes |= {f"{block}{norm}.weight": (dim,), f"{block}{norm}.bias": (dim,)}
        for linear, inputs, outputs in (
            ("attn.qkv", dim, 3 * dim),
            ("attn.proj", dim, dim),
            ("mlp.fc1", dim, hidden),
            ("mlp.fc2", hidden, dim),
        ):
            shapes |= {f"{block}{linear}.weight": (outputs, inputs), f"{block}{linear}.bias": (outputs,)}
    return shapes


def converted(checkpoint: Mapping[str, Tensor], config: PointmapEncoderConfig) -> dict[str, Tensor]:
    """Turn a checkpoint of Align3R into the pointmap encoder's tensors.

    Raises:
        DataError: keys are missing, unknown or of another shape; names them.
    """
    needed = needed_shapes(config)
    problems = {
        "missing": [k for k in needed if k not in checkpoint],
        "not known": [k for k in checkpoint if k not in needed and not k.startswith(LEFT_OUT)],
        "of another shape": [
            f"{k} {tuple(checkpoint[k].shape)} instead of {shape}"
            for k, shape in needed.items()
            if k in checkpoint and tuple(checkpoint[k].shape) != shape
        ],
    }
    found = [f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in problems.items() if keys]
    if found:
        raise DataError(
            f"does not fit a pointmap encoder of {config.depth} blocks, dim {config.dim}, "
            f"patch {config.patch}: {'; '.join(found)}"
        )
    return {ours: convert(checkpoint[theirs]) for ours, (theirs, convert) in key_map(config.depth).items()}


def read_align3r(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint of Align3R: the hub's .safetensors, or a .pth of its training script.

    Raises:
        DataError: the file is damaged or something else.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        with torch.serialization.safe_globals([argparse.Namespace]):  # its training options lie beside
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return dict(content["model"])
    except (OSError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError, SafetensorError) as error:
        raise DataError(
            f"Align3R weights {path}: not a checkpoint of Align3R, or damaged: {error!r}"
        ) from error


def load_align3r(encoder: PointmapEncoder, path: Path) -> None:
    """Put Align3R's depth encoder into the pointmap encoder.

    Raises:
        DataError: the file is damaged, or does not fit; names every kind of misfit.
    """
    checkpoint = read_align3r(path)
    try:
        state = converted(checkpoint, encoder.config)
    except DataError as error:
        raise DataError(f"Align3R weights {path}: {error}") from error
    fresh = encoder.state_dict()
    encoder.load_state_dict(state | {k: fresh[k] for k in WITHOUT_COUNTERPART})


def _some(keys: list[str]) -> str:
    rest = len(keys) - NAMED_KEYS
    return ", ".join(keys[:NAMED_KEYS]) + (f" and {rest} more" if rest > 0 else "")


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _first_third(qkv: Tensor) -> Tensor:
    return qkv[: len(qkv) // 3]


def _last_two_thirds(qkv: Tensor) -> Tensor:
    return qkv[len(qkv) // 3 :]


def _halve_patch(weight_D3pp: Tensor) -> Tensor:
    dim, axes, patch, _ = weight_D3pp.shape
    pixels = weight_D3pp.reshape(dim, axes, patch // 2, 2, patch // 2, 2)
    return pixels.sum((3, 5)).flatten(1)
