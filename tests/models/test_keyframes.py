from __future__ import annotations

import pytest
import torch

from remov3r.errors import ShapeError
from remov3r.models.keyframes import KeyframeConfig, checked_keyframes, divergence, select_keyframes


def embeddings(degrees: list[float]) -> torch.Tensor:
    angle = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angle.cos(), angle.sin()], -1)


def test_divergence_is_one_minus_cosine() -> None:
    found = divergence(embeddings([60.0, 180.0, 0.0]), embeddings([0.0, 0.0, 0.0]))
    torch.testing.assert_close(found, torch.tensor([0.5, 2.0, 0.0]))


def test_a_turn_beyond_the_threshold_starts_a_window() -> None:
    config = KeyframeConfig(threshold=0.5, max_window=10)  # 60 degrees
    turns = embeddings([0, 30, 59, 61, 90, 120, 122])[None]
    assert select_keyframes(turns, config).tolist() == [[0, 0, 0, 3, 3, 3, 6]]


def test_the_window_length_is_bounded_per_clip() -> None:
    config = KeyframeConfig(threshold=0.5, max_window=3)
    both = torch.stack([embeddings([0.0] * 7), embeddings([0, 90, 90, 90, 90, 90, 0])])
    assert select_keyframes(both, config).tolist() == [[0, 0, 0, 3, 3, 3, 6], [0, 1, 1, 1, 4, 4, 6]]


@pytest.mark.parametrize("bad", [[0, 0, 1], [0, 2, 2], [-1, 0, 0], [1, 1, 1], [0, 1, 0], [0, 7, 7]])
def test_keyframes_out_of_order_are_refused(bad: list[int]) -> None:
    with pytest.raises(ShapeError, match="keyframe_index"):
        checked_keyframes(torch.tensor([bad]), KeyframeConfig())


def test_too_long_a_window_is_refused() -> None:
    with pytest.raises(ShapeError, match="max_window = 2"):
        checked_keyframes(torch.tensor([[0, 0, 0]]), KeyframeConfig(max_window=2))
