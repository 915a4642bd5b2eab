from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from remov3r.errors import ConfigError, MissingDependencyError, ShapeError
from remov3r.models.dinov2 import Dinov2Encoder, Dinov2EncoderConfig, Size

pytest.importorskip("transformers")


def encoder(trainable_blocks: int = 2) -> Dinov2Encoder:
    torch.manual_seed(0)
    made = Dinov2Encoder(Dinov2EncoderConfig(size="tiny", trainable_blocks=trainable_blocks))
    nn.init.normal_(made.model.embeddings.position_embeddings)  # zero in a new model: would hide mistakes
    return made


def image(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("height", "width"), [(56, 56), (28, 84), (70, 56)]
)  # 56: that of the position table
def test_map_holds_the_models_patch_tokens_row_by_row(height: int, width: int) -> None:
    ours, rgb = encoder(), image(height, width, 2)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = ((rgb.movedim(1, -1) - mean) / std).movedim(-1, 1)
    with torch.no_grad():
        found = ours(rgb).maps
        tokens = ours.model(normalised).last_hidden_state
    h, w = height // 14, width // 14
    assert [tuple(x.shape) for x in found] == [(2, 24, h, w)]
    assert (ours.channels, ours.strides) == ((24,), (14,))
    for i, j in ((0, 0), (0, w - 1), (h - 1, 1)):
        torch.testing.assert_close(found[0][:, :, i, j], tokens[:, 1 + i * w + j])


def test_position_matters() -> None:
    ours = encoder()
    with torch.no_grad():
        flat = ours(torch.full((1, 3, 28, 84), 0.5)).maps[0]
    assert float((flat - flat[:, :, :1, :1]).abs().amax()) > 0.1


@pytest.mark.parametrize(("height", "width"), [(50, 56), (56, 57), (0, 56)])
def test_other_sizes_are_refused(height: int, width: int) -> None:
    with pytest.raises(ShapeError, match=f"{height}x{width}.*14"):
        encoder()(torch.zeros(1, 3, height, width))


def trained_blocks(model: nn.Module) -> Iterator[tuple[str, bool]]:
    for name, parameter in model.named_parameters():
        place = name.split("encoder.layer.")[-1].split(".")[0] if "encoder.layer." in name else name
        yield place, parameter.grad is not None
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize("blocks", [0, 2, 4])
def test_only_the_last_blocks_and_the_norm_train(blocks: int) -> None:
    ours = encoder(blocks)
    ours(image(28, 28)).maps[0].square().sum().backward()
    trained = {place for place, trains in trained_blocks(ours.model) if trains}
    assert trained == {str(i) for i in range(4 - blocks, 4)} | {"layernorm.weight", "layernorm.bias"}


def test_frozen_part_keeps_no_graph() -> None:
    ours, needs_grad = encoder(), []
    for block in ours.model.encoder.layer:
        block.register_forward_hook(lambda _m, _i, out: needs_grad.append(out.requires_grad))
    ours(image(28, 28))
    assert needs_grad == [False, False, True, True]


def test_too_many_trainable_blocks_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainable_blocks = 5.*4 blocks"):
        encoder(5)


def test_training_mode_is_deterministic_and_autocast_stays_near() -> None:
    ours, rgb = encoder().train(), image(28, 42)
    first = ours(rgb).maps[0].detach()
    assert torch.equal(first, ours(rgb).maps[0])
    with torch.autocast("cpu", torch.bfloat16):
        half = ours(rgb).maps[0].float().detach()
    assert 0 < float((half - first).norm() / first.norm()) < 0.02


@pytest.mark.parametrize(("size", "millions"), [("small", 22.1), ("base", 86.6), ("large", 304.4)])
def test_full_sizes_have_the_published_number_of_parameters(size: Size, millions: float) -> None:
    config = Dinov2EncoderConfig(size=size)
    with torch.device("meta"):
        made = Dinov2Encoder(config)
    assert sum(p.numel() for p in made.parameters()) == pytest.approx(millions * 1e6, rel=2e-3)
    assert config.hub_name == f"facebook/dinov2-{size}"


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"remov3r\[paper\]"):
        Dinov2Encoder(Dinov2EncoderConfig(size="tiny"))
