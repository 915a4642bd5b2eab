from __future__ import annotations

import pytest
import torch

from remov3r.errors import ConfigError
from remov3r.losses import LossConfig
from remov3r.models.keyframes import KeyframeConfig
from remov3r.models.network import Remov3rNetwork
from remov3r.models.sizes import network_config
from remov3r.models.streaming import StreamingNetwork
from remov3r.models.weights import read_card
from remov3r.training.objective import Truth, clip_objective
from tests.models.tiny import clip


@pytest.mark.parametrize(
    ("name", "low", "high"), [("lite", 6e6, 8e6), ("small", 70e6, 90e6), ("paper", 700e6, 900e6)]
)
def test_sizes_have_about_the_stated_parameters(name: str, low: float, high: float) -> None:
    with torch.device("meta"):
        network = Remov3rNetwork(network_config(name))
    assert low < sum(p.numel() for p in network.parameters()) < high


def test_unknown_size_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="network_small"):
        network_config("huge")


def test_shipped_weights_are_of_the_lite_size() -> None:
    card, lite = read_card("lite").config, network_config("lite")
    assert card.model_copy(update={"keyframes": lite.keyframes}) == lite


def test_light_decoders_refuse_an_encoder_with_one_map() -> None:
    config = network_config("small").model_copy(update={"heads": network_config("lite").heads})
    with pytest.raises(ConfigError, match="four maps"), torch.device("meta"):
        Remov3rNetwork(config)


def truth_of(rgb: torch.Tensor, K: torch.Tensor, keys: torch.Tensor) -> Truth:
    B, T, _, H, W = rgb.shape
    pose = torch.eye(4).repeat(B, T, 1, 1)
    pose[:, :, 0, 3] = 0.1 * torch.arange(T)
    depth = torch.full((B, T, H // 2, W // 2), 2.0)
    return Truth((rgb.movedim(2, -1) * 255).byte(), depth, depth > 0, K, pose, keys)


@pytest.mark.parametrize("name", ["small", "paper"])
def test_a_size_streams_and_takes_a_training_step(name: str) -> None:
    """Random weights, on a CPU: streaming equals batch, then a step changes what is trained and nothing else."""
    torch.manual_seed(0)
    rule = KeyframeConfig(threshold=2.1, max_window=16)  # never fires
    network = Remov3rNetwork(network_config(name).model_copy(update={"keyframes": rule})).eval()
    rgb, K = clip(1, 3, network.size_multiple, network.size_multiple)
    keys = torch.tensor([[0, 0, 2]])
    streaming = StreamingNetwork(network)
    with torch.no_grad():
        batch = network(rgb, K, keys)
    for t in range(3):
        estimate = streaming.push(streaming.encode(rgb[0, t], K[0, t]))
        if t == 2:
            estimate = streaming.promote()
        torch.testing.assert_close(estimate.T_key_cam, batch.T_key_cam[0, t], atol=1e-4, rtol=0)
        torch.testing.assert_close(estimate.T_world_key, batch.T_world_key[0, t], atol=1e-4, rtol=0)
    assert estimate.dense is not None
    torch.testing.assert_close(estimate.dense.depth_m[0], batch.depth_m[0, 2], atol=1e-4, rtol=1e-4)
    trained = [p for p in network.train().parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-4)
    loss = clip_objective(network(rgb, K, keys), truth_of(rgb, K, keys), LossConfig()).total()
    torch.autograd.backward(loss)
    before = [p.detach().clone() for p in network.heads.parameters()]
    frozen = [p.detach().clone() for p in network.encoder.parameters() if not p.requires_grad][:5]
    optimizer.step()
    assert all(bool(p.isfinite().all()) for p in network.heads.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, network.heads.parameters(), strict=True))
    still = [p for p in network.encoder.parameters() if not p.requires_grad][:5]
    assert all(torch.equal(a, b) for a, b in zip(frozen, still, strict=True))


def test_what_the_paper_does_not_have_is_off_in_its_size() -> None:
    paper, small = network_config("paper"), network_config("small")
    assert paper.local_state.dense is None
    assert not paper.local_state.covariance
    assert not paper.scale_shift
    assert small.local_state.dense is not None
    assert small.local_state.covariance
    assert small.scale_shift
