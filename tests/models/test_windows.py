from __future__ import annotations

import torch

from remov3r.models.windows import scene_padding, window_padding

KEYS = torch.tensor([[0, 0, 0, 3, 3], [0, 1, 1, 1, 4]])


def test_windows_are_padded_to_the_longest_allowed() -> None:
    x = torch.arange(10.0).view(2, 5, 1) + 1
    rows = window_padding(KEYS, 4).pad(x)[..., 0]
    assert rows.tolist() == [
        [1, 2, 3, 0],
        [4, 5, 0, 0],
        [0, 0, 0, 0],  # the first clip has two windows, the second three
        [6, 0, 0, 0],
        [7, 8, 9, 0],
        [10, 0, 0, 0],
    ]


def test_scenes_hold_their_keyframes_only() -> None:
    x = torch.arange(10.0).view(2, 5, 1) + 1
    padding = scene_padding(KEYS)
    assert padding.pad(x)[..., 0].tolist() == [[1, 4, 0], [6, 7, 10]]
    assert padding.unpad(padding.pad(x))[..., 0].tolist() == [[1, 1, 1, 4, 4], [6, 7, 7, 7, 10]]


def test_windows_come_back_as_they_went() -> None:
    x = torch.randn(2, 5, 3)
    padding = window_padding(KEYS, 5)
    assert torch.equal(padding.unpad(padding.pad(x)), x)
