from __future__ import annotations

from pathlib import Path

import pytest
import torch

from remov3r.errors import DataError
from remov3r.models.network import Remov3rNetwork
from remov3r.models.weights import save_network
from remov3r.training.checkpoint import load_boxes
from remov3r.training.options import RunOptions, mean_state, new_network
from tests.models.tiny import switched_on, tiny_config, tiny_network
from tests.training.runs import run_config


def test_parts_that_do_not_fit_start_anew() -> None:
    state = tiny_network().state_dict()
    network = Remov3rNetwork(switched_on(tiny_config()))
    before = network.local_state.state_dict()["readout.mlp.2.weight"].clone()
    assert load_boxes(network, state, "here") == ["scale_shift", "local_state"]
    assert torch.equal(network.fusion.pose_token_D, state["fusion.pose_token_D"])
    assert torch.equal(network.local_state.state_dict()["readout.mlp.2.weight"], before)


def test_weights_of_another_kind_are_refused() -> None:
    with pytest.raises(DataError, match="no part"):
        load_boxes(tiny_network(), {"model.x": torch.zeros(1)}, "here")


def test_a_run_starts_from_shipped_weights_too(tmp_path: Path) -> None:
    saved = tiny_network()
    save_network(saved, tmp_path / "a.safetensors", version="1", sigma_factor=1.0, dtype=torch.float32)
    options = RunOptions(tmp_path, tmp_path, "depth", max_steps=1, init=(tmp_path / "a.safetensors",))
    network = new_network(run_config(), options, resumes=False)
    assert torch.equal(network.fusion.pose_token_D, saved.fusion.pose_token_D)


def test_a_run_starts_from_the_mean_of_several_weights(tmp_path: Path) -> None:
    networks = [tiny_network(), tiny_network()]
    with torch.no_grad():
        for weight in networks[1].parameters():
            weight.mul_(3)
    for name, network in zip("ab", networks, strict=True):
        save_network(
            network, tmp_path / f"{name}.safetensors", version="1", sigma_factor=1.0, dtype=torch.float32
        )
    mean = mean_state([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
    for name, weight in networks[0].named_parameters():
        torch.testing.assert_close(mean[name], 2 * weight.detach())
    assert {name: t.dtype for name, t in mean.items()} == {
        n: t.dtype for n, t in networks[0].state_dict().items()
    }


def test_weights_of_different_networks_have_no_mean(tmp_path: Path) -> None:
    save_network(tiny_network(), tmp_path / "a.safetensors", version="1", sigma_factor=1.0)
    other = Remov3rNetwork(switched_on(tiny_config()))
    save_network(other, tmp_path / "b.safetensors", version="1", sigma_factor=1.0)
    with pytest.raises(DataError, match=r"b.safetensors: is of another network than .*a.safetensors"):
        mean_state([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
