"""The heavy boxes of a network run by an engine, and the choice between engines.

The modules handed over are `encode`, `heads` and `match` (dense local readout); in bfloat16, `encode` is two: `start`
(first stages of the visual encoder), which stays in float32, and `rest`. What remains is small: the two states.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from pathlib import Path
from typing import Literal, cast

from torch import Tensor, nn

from remov3r.errors import ConfigError
from remov3r.models.dense_readout import DenseReadout, FrameTokens
from remov3r.models.depth_prior import DepthPrior
from remov3r.models.encoder import Encoder
from remov3r.models.engine import Engine, engine_version
from remov3r.models.features import VisualFeatures
from remov3r.models.local_state import LocalState
from remov3r.models.network import DepthOutput, FrameFeatures, Remov3rNetwork
from remov3r.models.recorded import Boxes, TorchBoxes

logger = logging.getLogger(__name__)

EngineName = Literal["auto", "torch", "openvino"]


def choose_boxes(
    network: Remov3rNetwork,
    engine: EngineName = "auto",
    compiled: bool = False,
    bfloat16: bool | None = False,
) -> Boxes:
    """Choose what runs a network's heavy boxes.

    Args:
        network: in evaluation mode, on the device of the frames to come.
        engine: "auto" takes OpenVINO for networks of the small encoder on a CPU, where it is installed.
        compiled: use torch.compile; of torch alone.
        bfloat16: compute in that precision: all in torch, all but the first stages in OpenVINO. None: in OpenVINO
            where the CPU has it, not in torch.
    Raises:
        ConfigError: OpenVINO is asked for on a GPU or with torch.compile.
        MissingDependencyError: it is asked for and not installed.
    """
    on_cpu = next(network.parameters()).device.type == "cpu"
    fits = on_cpu and not compiled
    if engine == "openvino" and not fits:
        raise ConfigError(
            'network.engine = "openvino" runs on CPUs without torch.compile; set network.engine = "torch", or '
            'network.device = "cpu" and network.compiled = false'
        )
    if engine == "openvino":
        return EngineBoxes(network, bfloat16 is not False)
    if engine == "auto" and fits and isinstance(network.encoder, Encoder):
        if engine_version() is not None:
            return EngineBoxes(network, bfloat16 is not False)
        logger.info("network: runs in torch; faster after: pip install 'remov3r[engine]'")
    return TorchBoxes(network, compiled, bool(bfloat16))


class EngineBoxes:
    """The boxes of a network on the CPU, run by OpenVINO; see `Boxes`."""

    def __init__(self, network: Remov3rNetwork, bfloat16: bool = False) -> None:
        """Take the weights as they are now.

        Args:
            bfloat16: compute in that precision where the CPU has it. Not so the first stages of the visual encoder,
                because rounding there moves the depth by percents, nor encoders other than the small one.
        Raises:
            MissingDependencyError: OpenVINO is not installed.
        """
        self._engine = Engine(fingerprint(network))
        self._bfloat16 = bfloat16 = bfloat16 and self._engine.has_bfloat16
        self._encode, self._maps = _Encode(network), len(network.encoder.channels)
        self._parts: tuple[_Start, _Rest] | None = None  # one call is faster where both compute in float32
        if bfloat16 and isinstance(network.encoder, Encoder) and isinstance(network.depth_prior, DepthPrior):
            self._parts = _Start(network, network.encoder), _Rest(network, network.encoder)
        self._heads = _Heads(network)
        self._local_state = network.local_state
        if network.local_state.dense is not None:
            self._local_state = copy.deepcopy(network.local_state)
            readout = _EngineReadout(self._engine, network.local_state.dense, bfloat16)
            self._local_state.dense = cast(DenseReadout, readout)

    @property
    def local_state(self) -> LocalState:
        """The network's local state with its dense readout in the engine."""
        return self._local_state

    def encode(self, rgb_B3HW: Tensor, K_B33: Tensor) -> FrameFeatures:
        """Encode; each input size is compiled when it first appears."""
        rgb_BHW3 = rgb_B3HW.permute(0, 2, 3, 1)
        if self._parts is None:
            flat = self._engine.run("encode", self._encode, (rgb_BHW3, K_B33), False)
        else:
            start, rest = self._parts
            (x_BhwC,) = self._engine.run("start", start, (rgb_BHW3,), False)
            flat = self._engine.run("rest", rest, (x_BhwC, K_B33), True)
        prior_Bhw, pose_BD, *others = flat
        maps = tuple(x.permute(0, 3, 1, 2) for x in others[: self._maps])
        return FrameFeatures(K_B33, VisualFeatures(maps), prior_Bhw, tuple(others[self._maps :]), pose_BD)

    def dense(self, features: FrameFeatures) -> DepthOutput:
        """Run the dense heads."""
        maps_BhwC = (x.permute(0, 2, 3, 1) for x in features.visual.maps)
        inputs = features.log_prior_Bhw, features.K_B33, *maps_BhwC, *features.scf
        return DepthOutput(*self._engine.run("heads", self._heads, inputs, self._bfloat16))


class _Encode(nn.Module):
    """`encode` with plain tensors in and out; maps have their channels last, as both engines store them."""

    def __init__(self, network: Remov3rNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb_BHW3: Tensor, K_B33: Tensor) -> tuple[Tensor, ...]:
        """Return the log prior, the pose embedding, the feature maps and the SCF levels."""
        return self._flat(*self.network.see(rgb_BHW3.permute(0, 3, 1, 2), K_B33), K_B33)

    def _flat(self, visual: VisualFeatures, log_prior_Bhw: Tensor, K_B33: Tensor) -> tuple[Tensor, ...]:
        scf, pose_BD = self.network.fuse(visual, log_prior_Bhw, K_B33)
        return log_prior_Bhw, pose_BD, *(x.permute(0, 2, 3, 1) for x in visual.maps), *scf


class _Start(nn.Module):
    """The first stages of the small encoder."""

    def __init__(self, network: Remov3rNetwork, encoder: Encoder) -> None:
        super().__init__()
        self.network, self.encoder = network, encoder

    def forward(self, rgb_BHW3: Tensor) -> tuple[Tensor, ...]:
        """Return their map."""
        rgb_B3HW = rgb_BHW3.permute(0, 3, 1, 2)
        self.network.check_size(rgb_B3HW)
        return (self.encoder.start(rgb_B3HW).permute(0, 2, 3, 1),)


class _Rest(_Encode):
    """What follows `_Start` in `_Encode`."""

    def __init__(self, network: Remov3rNetwork, encoder: Encoder) -> None:
        super().__init__(network)
        self.encoder = encoder

    def forward(self, x_BhwC: Tensor, K_B33: Tensor) -> tuple[Tensor, ...]:
        """Return what `_Encode` does."""
        visual = self.encoder.rest(x_BhwC.permute(0, 3, 1, 2))
        return self._flat(visual, self.network.prior(None, visual, K_B33), K_B33)


class _Heads(nn.Module):
    """`dense` with plain tensors in and out."""

    def __init__(self, network: Remov3rNetwork) -> None:
        super().__init__()
        self.network = network
        self.maps = len(network.encoder.channels)

    def forward(self, log_prior_Bhw: Tensor, K_B33: Tensor, *maps_and_scf: Tensor) -> tuple[Tensor, ...]:
        """Return the fields of `DepthOutput`."""
        maps = tuple(x.permute(0, 3, 1, 2) for x in maps_and_scf[: self.maps])
        scf = maps_and_scf[self.maps :]
        pose_BD = scf[-1][:, 0]  # not looked at
        d = self.network.dense(FrameFeatures(K_B33, VisualFeatures(maps), log_prior_Bhw, scf, pose_BD))
        return d.prior_depth_m, d.depth_m, d.depth_confidence, d.points_cam, d.points_confidence


class _Match(nn.Module):
    """The dense local readout with plain tensors in and out."""

    def __init__(self, readout: nn.Module) -> None:
        super().__init__()
        self.readout = readout

    def forward(self, *tokens: Tensor) -> tuple[Tensor, ...]:
        """Compare frame and keyframe, each given as SCF tokens and places."""
        return (self.readout(FrameTokens(*tokens[:2]), FrameTokens(*tokens[2:])),)


class _EngineReadout(nn.Module):
    """Stands in for the dense local readout."""

    def __init__(self, engine: Engine, readout: nn.Module, bfloat16: bool) -> None:
        super().__init__()
        self._engine, self._match, self._bfloat16 = engine, _Match(readout), bfloat16

    def forward(self, frame: FrameTokens, keyframe: FrameTokens) -> Tensor:
        """Compare a frame with its keyframe."""
        inputs = frame.scf_BNC, frame.place_BN3, keyframe.scf_BNC, keyframe.place_BN3
        return self._engine.run("match", self._match, inputs, self._bfloat16)[0]


def fingerprint(network: Remov3rNetwork) -> str:
    """Digest what a network computes with: weights, configuration and the code of this folder."""
    digest = hashlib.sha256(network.config.model_dump_json().encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().numpy().tobytes())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
