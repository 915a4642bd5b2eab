from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.errors import ConfigError, ShapeError
from remov3r.models.depth_anything import DepthAnythingConfig, DepthAnythingPrior
from remov3r.models.depth_prior import LOG_DEPTH_RANGE
from remov3r.models.dinov2 import Size
from remov3r.models.features import VisualFeatures

pytest.importorskip("transformers")

NO_FEATURES = VisualFeatures(())


@pytest.fixture
def prior() -> DepthAnythingPrior:
    torch.manual_seed(0)
    made = DepthAnythingPrior(DepthAnythingConfig(size="tiny"))
    for parameter in made.parameters():  # the model's own start is so small that depth is the same everywhere
        nn.init.normal_(parameter, std=0.2)
    return made


def image(height: int = 56, width: int = 84, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def cameras(focal_px: float = 100.0, batch: int = 2) -> Tensor:
    return torch.tensor([[focal_px, 0, 41.5], [0, focal_px, 27.5], [0, 0, 1]]).expand(batch, 3, 3)


def test_depth_is_the_models_at_half_the_size(prior: DepthAnythingPrior) -> None:
    rgb = image()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        theirs = prior.model(((rgb.movedim(1, -1) - mean) / std).movedim(-1, 1)).predicted_depth
        ours = prior(rgb, NO_FEATURES, cameras())
    assert ours.shape == (2, 28, 42)
    assert float(theirs.std()) > 0.1
    torch.testing.assert_close(ours[:, 3, 7], theirs[:, 6:8, 14:16].log().mean((1, 2)))
    torch.testing.assert_close(ours, F.avg_pool2d(theirs.log(), 2))


def test_metres_undo_the_logarithm_for_every_camera(prior: DepthAnythingPrior) -> None:
    log = torch.tensor([[[0.0, math.log(2.5)]]])
    for focal_px in (50.0, 500.0):
        torch.testing.assert_close(prior.metres(log, cameras(focal_px, 1)), torch.tensor([[[1.0, 2.5]]]))
    with torch.no_grad():
        first, second = (prior(image(28, 28), NO_FEATURES, cameras(f)) for f in (50.0, 500.0))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("bias", "log_depth"), [(0.0, math.log(10)), (1e4, math.log(20)), (-1e4, LOG_DEPTH_RANGE[0])]
)
def test_sigmoid_of_twenty_metres_within_bounds(
    prior: DepthAnythingPrior, bias: float, log_depth: float
) -> None:
    nn.init.zeros_(prior.model.head.conv3.weight)
    nn.init.constant_(prior.model.head.conv3.bias, bias)
    found = prior(image(28, 28), NO_FEATURES, cameras())
    torch.testing.assert_close(found, torch.full_like(found, log_depth))
    found.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in prior.parameters() if p.grad is not None)


def test_head_keeps_float32_under_autocast(prior: DepthAnythingPrior) -> None:
    dtypes = []
    for layer in (prior.model.head.conv3, prior.model.neck.convs[0]):
        layer.register_forward_hook(lambda _m, _i, out: dtypes.append(out.dtype))
    with torch.no_grad():
        full = prior(image(), NO_FEATURES, cameras())
        with torch.autocast("cpu", torch.bfloat16):
            half = prior(image(), NO_FEATURES, cameras())
    assert dtypes[2:] == [torch.bfloat16, torch.float32]
    assert (full.dtype, half.dtype) == (torch.float32, torch.float32)
    assert 0 < float((full - half).abs().mean()) < 0.05


def test_exactly_what_is_trainable_gets_a_gradient(prior: DepthAnythingPrior) -> None:
    prior(image(28, 28), NO_FEATURES, cameras()).square().sum().backward()
    for name, parameter in prior.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    trained = {n.removeprefix("model.") for n, p in prior.named_parameters() if p.requires_grad}
    blocks = {n.split(".")[3] for n in trained if n.startswith("backbone.encoder.")}
    assert blocks == {"2", "3"}
    assert {n.split(".")[1] for n in trained if n.startswith("backbone.")} == {"encoder", "layernorm"}
    assert {n.split(".")[0] for n in trained} == {"backbone", "neck", "head"}


def test_bad_input_is_refused(prior: DepthAnythingPrior) -> None:
    with pytest.raises(ShapeError, match="32x56"):
        prior(image(32, 56), NO_FEATURES, cameras())
    with pytest.raises(ConfigError, match="trainable_blocks = 5"):
        DepthAnythingPrior(DepthAnythingConfig(size="tiny", trainable_blocks=5))


@pytest.mark.parametrize(("size", "millions"), [("small", 24.8), ("base", 97.5), ("large", 335.3)])
def test_full_sizes_have_the_published_number_of_parameters(size: Size, millions: float) -> None:
    config = DepthAnythingConfig(size=size)
    with torch.device("meta"):
        made = DepthAnythingPrior(config)
    assert sum(p.numel() for p in made.parameters()) == pytest.approx(millions * 1e6, rel=2e-3)
    assert config.hub_name == f"depth-anything/Depth-Anything-V2-Metric-Indoor-{size.capitalize()}-hf"
