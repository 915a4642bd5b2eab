from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from remov3r.errors import DataError
from remov3r.models.weights import load_network, load_weights, read_card, save_network
from tests.models.tiny import clip, tiny_config, tiny_network


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "made" / "tiny.safetensors"
    network = tiny_network(tiny_config(threshold=0.25))
    save_network(network, path, version="1", sigma_factor=0.3, figures={"abs_rel": 0.2}, dtype=torch.float32)
    return path


def test_round_trip_in_float32_is_exact(saved: Path) -> None:
    network, loaded = tiny_network(), load_network(saved)
    assert not loaded.training
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert loaded.config.keyframes.threshold == 0.25


def test_card_holds_what_was_saved(saved: Path) -> None:
    card = read_card(saved)
    assert (card.version, card.sigma_factor, card.figures) == ("1", 0.3, {"abs_rel": 0.2})
    assert load_weights(saved).card == card


def test_float16_halves_the_file_and_barely_moves_the_depth(saved: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    save_network(load_network(saved), half, version="1", sigma_factor=0.3)
    assert half.stat().st_size < 0.6 * saved.stat().st_size
    rgb, K = clip(1, 1)
    with torch.no_grad():
        depths = [load_network(p).forward_depth(rgb[0], K[0]).depth_m for p in (saved, half)]
    torch.testing.assert_close(depths[1], depths[0], rtol=1e-2, atol=0)


def test_one_flipped_bit_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-5] ^= 1
    saved.write_bytes(content)
    with pytest.raises(DataError, match=r"sha256.*damaged"):
        load_network(saved)


def test_a_truncated_file_is_noticed(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:1000])
    with pytest.raises(DataError, match="damaged"):
        load_network(saved)


def test_missing_files_say_what_to_do(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="remov3r train"):
        load_network("no_such_weights")
    with pytest.raises(DataError, match=r"nowhere\.safetensors"):
        load_network(tmp_path / "nowhere.safetensors")
    saved.with_suffix(".json").unlink()
    with pytest.raises(DataError, match=r"card .* is missing"):
        load_network(saved)


def test_a_card_that_does_not_fit_is_refused(saved: Path) -> None:
    path = saved.with_suffix(".json")
    card = json.loads(path.read_text())
    card["config"]["fusion"]["dim"] = 32
    path.write_text(json.dumps(card))
    with pytest.raises(DataError, match="do not fit"):
        load_network(saved)
    card["config"]["fusion"]["dims"] = 32
    path.write_text(json.dumps(card))
    with pytest.raises(DataError, match=r"config\.fusion\.dims"):
        load_network(saved)


def test_broken_networks_are_not_saved(tmp_path: Path) -> None:
    network = tiny_network()
    with torch.no_grad():
        network.fusion.pose_token_D[0] = torch.nan
    with pytest.raises(DataError, match="pose_token_D"):
        save_network(network, tmp_path / "x.safetensors", version="1", sigma_factor=1.0)
    with pytest.raises(DataError, match="must end in"):
        save_network(network, tmp_path / "x.pt", version="1", sigma_factor=1.0)
