from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from remov3r.errors import TrackingError
from remov3r.models.boxes import NetworkConfig
from remov3r.models.keyframes import KeyframeConfig
from remov3r.models.network import Remov3rNetwork
from remov3r.models.streaming import StreamEstimate, StreamingNetwork
from tests.models.tiny import clip, switched_on, tiny_config, tiny_network, transformer_config

FRAMES = 14


def stream(network: Remov3rNetwork, promoted: set[int]) -> list[StreamEstimate]:
    rgb, K = clip(1, FRAMES, network.size_multiple, network.size_multiple)
    streaming, estimates = StreamingNetwork(network), []
    for t in range(FRAMES):
        estimate = streaming.push(streaming.encode(rgb[0, t], K[0, t]))
        estimates.append(streaming.promote() if t in promoted else estimate)
    return estimates


def mean_divergence(network: Remov3rNetwork) -> float:
    """A threshold at which about half of the clip's frames become keyframes."""
    with torch.no_grad():
        e = network(*clip(1, FRAMES, network.size_multiple, network.size_multiple)).pose_embedding[0]
    return 1.003 * float((1 - torch.cosine_similarity(e[1:], e[:-1], dim=-1)).median())  # no tie


@pytest.mark.parametrize("boxes", [tiny_config, transformer_config])
@pytest.mark.parametrize(
    ("by_rule", "promoted", "switches"),
    [
        (False, set(), False),
        (True, set(), True),
        (False, {2, 3, 9}, True),
        (True, {1, 2, 8, 12}, False),
    ],
)
def test_streaming_equals_batch_for_every_prefix(
    boxes: Callable[..., NetworkConfig], by_rule: bool, promoted: set[int], switches: bool
) -> None:
    config = boxes(max_window=4, max_keyframes=3)
    config = switched_on(config) if switches else config
    if by_rule:
        rule = KeyframeConfig(threshold=mean_divergence(tiny_network(config)), max_window=4)
        config = config.model_copy(update={"keyframes": rule})
    network = tiny_network(config)
    estimates = stream(network, promoted)
    keys = torch.tensor([[e.keyframe for e in estimates]])
    assert len({e.keyframe for e in estimates}) > 3  # more keyframes than the global cache holds
    rgb, K = clip(1, FRAMES, network.size_multiple, network.size_multiple)
    for prefix in range(1, FRAMES + 1):
        # A forced keyframe changes only the frames after it, so the batch needs to be told where they are.
        given = keys[:, :prefix] if promoted else None
        with torch.no_grad():
            out = network(rgb[:, :prefix], K[:, :prefix], given)
        assert out.keyframe_index[0].tolist() == keys[0, :prefix].tolist()
        last, t = estimates[prefix - 1], prefix - 1
        torch.testing.assert_close(last.pose_embedding, out.pose_embedding[0, t], atol=1e-4, rtol=0)
        torch.testing.assert_close(last.T_key_cam, out.T_key_cam[0, t], atol=1e-4, rtol=0)
        torch.testing.assert_close(last.T_world_key, out.T_world_key[0, t], atol=1e-4, rtol=0)
        if last.local_cholesky is not None:
            assert out.local_cholesky is not None
            torch.testing.assert_close(last.local_cholesky, out.local_cholesky[0, t], atol=1e-4, rtol=0)
        assert (last.local_cholesky is not None) == (switches and last.keyframe != t)
        assert (last.dense is not None) == (last.keyframe == t)
        if last.dense is not None:
            torch.testing.assert_close(last.dense.depth_m[0], out.depth_m[0, t], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(last.dense.points_cam[0], out.points_cam[0, t], atol=1e-4, rtol=1e-4)


def test_caches_stay_bounded() -> None:
    network = tiny_network(tiny_config(max_window=3, max_keyframes=2))
    streaming = StreamingNetwork(network)
    rgb, K = clip(1, FRAMES, 32, 32)
    sizes = []
    for t in range(FRAMES):
        streaming.push(streaming.encode(rgb[0, t], K[0, t]))
        sizes.append(streaming.cached_tokens)
    assert max(s[0] for s in sizes) == 3
    assert max(s[1] for s in sizes) == 1 + 2  # the memory token and the last keyframes
    assert sizes[-1][1] == 3


def test_promoting_a_keyframe_changes_nothing() -> None:
    network = tiny_network()
    rgb, K = clip(1, 2)
    streaming = StreamingNetwork(network)
    first = streaming.push(streaming.encode(rgb[0, 0], K[0, 0]))
    assert streaming.promote() is first
    assert streaming.cached_tokens == (1, 2)


def test_promoting_nothing_is_refused() -> None:
    with pytest.raises(TrackingError, match="push"):
        StreamingNetwork(tiny_network()).promote()


def test_a_frame_that_breaks_the_network_leaves_no_trace() -> None:
    network = tiny_network()
    rgb, K = clip(1, 3)
    clean, broken = StreamingNetwork(network), StreamingNetwork(network)
    for streaming in (clean, broken):
        streaming.push(streaming.encode(rgb[0, 0], K[0, 0]))
    with pytest.raises(TrackingError, match="not finite"):
        broken.push(broken.encode(torch.full_like(rgb[0, 1], torch.nan), K[0, 1]))
    expected, found = (
        clean.push(clean.encode(rgb[0, 2], K[0, 2])),
        broken.push(broken.encode(rgb[0, 2], K[0, 2])),
    )
    assert torch.equal(found.T_key_cam, expected.T_key_cam)
    assert found.frame == expected.frame
