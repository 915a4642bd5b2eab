from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.errors import DataError
from remov3r.models.align3r import (
    WITHOUT_COUNTERPART,
    align3r_config,
    converted,
    key_map,
    load_align3r,
    read_align3r,
)
from remov3r.models.pointmap_encoder import PointmapEncoder, PointmapEncoderConfig, boxed_points
from remov3r.models.rays import ray_map

TINY = PointmapEncoderConfig(dim=24, depth=2, heads=2, mlp_ratio=4, position="rope", trainable_blocks=1)

# What the published checkpoint (ViT-L encoder, base decoder, 512, DPT) holds for pointmaps.
PUBLISHED_BLOCK = {
    "norm1.weight": (768,),
    "norm1.bias": (768,),
    "attn.qkv.weight": (2304, 768),
    "attn.qkv.bias": (2304,),
    "attn.proj.weight": (768, 768),
    "attn.proj.bias": (768,),
    "norm2.weight": (768,),
    "norm2.bias": (768,),
    "mlp.fc1.weight": (3072, 768),
    "mlp.fc1.bias": (3072,),
    "mlp.fc2.weight": (768, 3072),
    "mlp.fc2.bias": (768,),
}
REST_OF_ALIGN3R = (
    "mask_token",
    "patch_embed.proj.weight",
    "enc_blocks.0.attn.qkv.weight",
    "enc_norm.weight",
    "decoder_embed.weight",
    "dec_blocks.0.cross_attn.projq.weight",
    "dec_blocks2.11.norm_y.bias",
    "dec_norm.bias",
    "downstream_head1.dpt.head.0.weight",
    "downstream_head2.dpt.head.4.bias",
    "zero_convs.4.0.weight",
)


def published() -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed_point_cloud.proj.weight": (768, 3, 16, 16),
        "patch_embed_point_cloud.proj.bias": (768,),
    }
    for i in range(4):
        shapes |= {f"dec_blocks_pc.{i}.{name}": shape for name, shape in PUBLISHED_BLOCK.items()}
    shapes |= {name: (1,) for name in REST_OF_ALIGN3R}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def tiny() -> dict[str, Tensor]:
    """A random checkpoint in Align3R's names, 32 times smaller, with two blocks."""
    generator = torch.Generator().manual_seed(3)
    checkpoint = {}
    for name, tensor in published().items():
        if name.startswith(("dec_blocks_pc.2", "dec_blocks_pc.3")):
            continue
        shape = [size // 32 if size >= 768 else size for size in tensor.shape]
        checkpoint[name] = torch.randn(shape, generator=generator) * (0.02 if "proj" in name else 0.2)
    return checkpoint


def reference(checkpoint: dict[str, Tensor], points_B3HW: Tensor, heads: int) -> Tensor:
    """The last block's tokens, from the formulas, on a pointmap of full size."""
    embedding = F.conv2d(
        points_B3HW,
        checkpoint["patch_embed_point_cloud.proj.weight"],
        checkpoint["patch_embed_point_cloud.proj.bias"],
        stride=16,
    )
    h, w = embedding.shape[2:]
    x = embedding.flatten(2).transpose(1, 2)
    batch, n, dim = x.shape
    quarter = dim // heads // 4
    place = torch.stack([torch.arange(n) // w, torch.arange(n) % w], 1)
    turn = torch.exp(1j * place[:, :, None] * 100.0 ** (-torch.arange(quarter) / quarter))  # n 2 quarter

    def turned(t: Tensor) -> Tensor:
        parts = t.reshape(batch, heads, n, 2, 2, quarter)
        z = torch.complex(parts[..., 0, :], parts[..., 1, :]) * turn
        return torch.stack([z.real, z.imag], -2).reshape(t.shape)

    for i in range(2):
        p = {k.removeprefix(f"dec_blocks_pc.{i}."): v for k, v in checkpoint.items()}
        y = F.layer_norm(x, (dim,), p["norm1.weight"], p["norm1.bias"], 1e-6)
        qkv = F.linear(y, p["attn.qkv.weight"], p["attn.qkv.bias"]).view(batch, n, 3, heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = turned(q) @ turned(k).transpose(-1, -2) / (dim // heads) ** 0.5
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, n, dim)
        x = x + F.linear(y, p["attn.proj.weight"], p["attn.proj.bias"])
        y = F.layer_norm(x, (dim,), p["norm2.weight"], p["norm2.bias"], 1e-6)
        y = F.gelu(F.linear(y, p["mlp.fc1.weight"], p["mlp.fc1.bias"]))
        x = x + F.linear(y, p["mlp.fc2.weight"], p["mlp.fc2.bias"])
    assert (h, w) == (2, 3)
    return x


def write(path: Path, checkpoint: dict[str, Tensor]) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(checkpoint, path)
    else:
        args = argparse.Namespace(model="AsymmetricCroCo3DStereo(pos_embed='RoPE100')", epochs=50)
        torch.save({"args": args, "model": checkpoint, "epoch": 49}, path)
    return path


def test_published_names_and_shapes_fill_the_encoder() -> None:
    with torch.device("meta"):
        encoder = PointmapEncoder(align3r_config())
    state, found = encoder.state_dict(), converted(published(), align3r_config())
    assert {k: v.shape for k, v in found.items()} == {
        k: v.shape for k, v in state.items() if k not in WITHOUT_COUNTERPART
    }
    assert set(state) == set(found) | set(WITHOUT_COUNTERPART)
    theirs = {name for name, _ in key_map(4).values()}
    assert theirs == set(published()) - set(REST_OF_ALIGN3R)
    assert sum(v.numel() for v in found.values()) == pytest.approx(28.5e6, rel=1e-2)


@pytest.mark.parametrize("name", ["align3r_depthanything.pth", "model.safetensors"])
def test_loaded_encoder_computes_what_align3r_does(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    encoder = PointmapEncoder(TINY)
    load_align3r(encoder, write(tmp_path / name, tiny()))
    encoder.double()  # the exact GELU and the norm's epsilon show only here
    depth_m = 1 + torch.rand(2, 16, 24, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    K = torch.tensor([[60.0, 0, 23.5], [0, 60, 15.5], [0, 0, 1]], dtype=torch.float64).expand(2, 3, 3)
    points, _ = boxed_points(depth_m, ray_map(K, 16, 24, 2))
    checkpoint = {k: v.double() for k, v in tiny().items()}
    expected = reference(checkpoint, F.interpolate(points, scale_factor=2, mode="nearest"), 2)
    assert 0.1 < float(expected.std()) < 2
    with torch.no_grad():
        torch.testing.assert_close(encoder(depth_m, K), F.layer_norm(expected, (24,)), atol=4e-7, rtol=0)
    frozen = {n.split(".")[1] for n, p in encoder.named_parameters() if "blocks" in n and not p.requires_grad}
    assert frozen == {"0"}


def test_trained_readout_is_kept(tmp_path: Path) -> None:
    encoder = PointmapEncoder(TINY)
    nn.init.constant_(encoder.norm.weight, 2.0)
    load_align3r(encoder, write(tmp_path / "model.safetensors", tiny()))
    assert bool((encoder.norm.weight == 2).all())
    loaded = encoder.state_dict()["blocks.1.attention.out.bias"]
    torch.testing.assert_close(loaded, tiny()["dec_blocks_pc.1.attn.proj.bias"])


def test_every_kind_of_misfit_is_named(tmp_path: Path) -> None:
    checkpoint = tiny()
    del checkpoint["dec_blocks_pc.1.attn.proj.bias"]
    checkpoint["dec_blocks_pc.2.norm1.weight"] = torch.zeros(24)
    checkpoint["something.else"] = torch.zeros(1)
    checkpoint["patch_embed_point_cloud.proj.weight"] = torch.zeros(24, 3, 14, 14)
    path = write(tmp_path / "align3r_x.pth", checkpoint)
    encoder = PointmapEncoder(TINY)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    with pytest.raises(DataError) as caught:
        load_align3r(encoder, path)
    said = str(caught.value)
    assert "align3r_x.pth" in said
    assert "1 missing: dec_blocks_pc.1.attn.proj.bias" in said
    assert "2 not known: dec_blocks_pc.2.norm1.weight, something.else" in said
    assert "proj.weight (24, 3, 14, 14) instead of (24, 3, 16, 16)" in said
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_dust3r_alone_has_no_depth_encoder() -> None:
    dust3r = {name: torch.zeros(1) for name in REST_OF_ALIGN3R if "zero_convs" not in name}
    with pytest.raises(DataError, match=r"26 missing: patch_embed_point_cloud.* and 20 more"):
        converted(dust3r, TINY)


def test_encoder_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match=r"2 blocks, dim 24.*24 not known.*of another shape"):
        converted(published(), TINY)


@pytest.mark.parametrize("name", ["align3r_x.pth", "model.safetensors"])
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"not a checkpoint" * 20)
    with pytest.raises(DataError, match=name):
        read_align3r(path)
    if path.suffix == ".pth":
        others: tuple[object, ...] = ({"weights": {}}, [1, 2], {"model": None})
        for content in others:
            torch.save(content, path)
            with pytest.raises(DataError, match="not a checkpoint of Align3R"):
                read_align3r(path)
    write(path, tiny())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="damaged"):
        read_align3r(path)
