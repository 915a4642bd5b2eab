from __future__ import annotations

import torch

from remov3r.models.dense_readout import (
    DenseReadout,
    DenseReadoutConfig,
    FrameTokens,
    MatchingBlock,
    token_places,
)


def test_places_are_rays_and_log_depth() -> None:
    K = torch.tensor([[[50.0, 0, 31.5], [0, 100, 31.5], [0, 0, 1]]])
    place = token_places(torch.full((1, 32, 32), 2.0), K, 16)
    assert place.shape == (1, 16, 3)
    torch.testing.assert_close(place[0, :, 2], torch.full((16,), 2.0).log())
    torch.testing.assert_close(place[0, 0, :2], torch.tensor([(7.5 - 31.5) / 50, (7.5 - 31.5) / 100]))
    torch.testing.assert_close(place[0, 1, 0], torch.tensor((23.5 - 31.5) / 50))  # row by row


def test_a_sharp_match_measures_its_displacement() -> None:
    """Tokens that recognise exactly one key report how far away it lies."""
    block = MatchingBlock(DenseReadoutConfig(dim=8, depth=1, heads=1))
    with torch.no_grad():
        block.query.weight.copy_(40 * torch.eye(8))
        block.key_value.weight[:8].copy_(torch.eye(8))
        for bias in (block.query.bias, block.key_value.bias):
            bias.zero_()
    features = torch.eye(8)[None]
    order = torch.tensor([3, 0, 7, 1, 2, 6, 5, 4])
    place, key_place = torch.randn(1, 8, 3), torch.randn(1, 8, 3)
    _, moved = block(features[:, order], place, features, key_place)
    torch.testing.assert_close(moved, key_place[:, order] - place, atol=1e-3, rtol=0)


def test_the_readout_sees_a_shift() -> None:
    """The same tokens at other places give another vector; the order of the keys does not matter."""
    torch.manual_seed(0)
    readout = DenseReadout(DenseReadoutConfig(dim=16, depth=2, heads=2), 12).eval()
    frame = FrameTokens(torch.randn(1, 20, 12), torch.randn(1, 20, 3))
    key = FrameTokens(torch.randn(1, 20, 12), torch.randn(1, 20, 3))
    base = readout(frame, key)
    shifted = readout(FrameTokens(frame.scf_BNC, frame.place_BN3 + 0.1), key)
    assert (base - shifted).abs().max() > 1e-3
    order = torch.randperm(20)
    mixed = readout(frame, FrameTokens(key.scf_BNC[:, order], key.place_BN3[:, order]))
    torch.testing.assert_close(mixed, base, atol=1e-5, rtol=1e-4)


def test_tokens_of_another_frame() -> None:
    x = torch.arange(12.0).view(2, 3, 2, 1)
    taken = FrameTokens(x, x.expand(-1, -1, -1, 3)).of(torch.tensor([[0, 0, 2], [0, 1, 1]]))
    assert taken.scf_BNC[:, :, 0, 0].tolist() == [[0, 0, 4], [6, 8, 8]]
