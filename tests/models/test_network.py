from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from remov3r.errors import ShapeError
from remov3r.models.boxes import NetworkConfig
from remov3r.models.depth_prior import DepthPriorConfig
from remov3r.models.network import ClipOutput, Remov3rNetwork
from tests.models.tiny import clip, switched_on, tiny_config, tiny_network, transformer_config

POSES = ("pose_embedding", "T_key_cam", "T_world_key")
DENSE = ("prior_depth_m", "depth_m", "depth_confidence", "points_cam", "points_confidence")


@pytest.fixture(scope="module")
def network() -> Remov3rNetwork:
    return tiny_network()


def run(network: Remov3rNetwork, *arguments: torch.Tensor) -> ClipOutput:
    with torch.no_grad():
        return network(*arguments)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 32), (96, 64)])
def test_any_multiple_of_32_works(network: Remov3rNetwork, height: int, width: int) -> None:
    out = run(network, *clip(2, 3, height, width))
    for name in DENSE:
        values = getattr(out, name)
        assert values.shape[:4] == (2, 3, height // 2, width // 2)
        assert values.isfinite().all()
    assert out.points_cam.shape[4:] == (3,)
    assert out.depth_m.min() > 0
    assert out.depth_confidence.min() > 0
    assert out.points_confidence.min() > 0
    assert out.pose_embedding.shape == (2, 3, 24)
    for name in ("T_key_cam", "T_world_key"):
        torch.testing.assert_close(getattr(out, name)[..., 3:].norm(dim=-1), torch.ones(2, 3))


def test_other_sizes_are_refused(network: Remov3rNetwork) -> None:
    with pytest.raises(ShapeError, match="60x64: need multiples of 32"):
        run(network, *clip(1, 1, 60, 64))


def test_forward_depth_is_the_dense_part_of_forward(network: Remov3rNetwork) -> None:
    rgb, K = clip(2, 2)
    whole = run(network, rgb, K)
    with torch.no_grad():
        single = network.forward_depth(rgb.flatten(0, 1), K.flatten(0, 1))
    for name in DENSE:
        torch.testing.assert_close(getattr(single, name), getattr(whole, name).flatten(0, 1))


def test_prior_depth_scales_with_focal_length_at_equal_rays(network: Remov3rNetwork) -> None:
    rgb, K = clip(1, 1)
    with torch.no_grad():
        log_depth = network.encode(rgb[0], K[0]).log_prior_Bhw
        near, far = (network.depth_prior.metres(log_depth, K[0] * f) for f in (1.0, 2.0))
    torch.testing.assert_close(far, 2 * near)
    canonical = K[0].clone()
    canonical[:, 0, 0] = DepthPriorConfig().canonical_focal_px
    torch.testing.assert_close(network.depth_prior.metres(log_depth, canonical), log_depth.exp())


def test_untrained_depth_is_about_the_configured_one() -> None:
    torch.manual_seed(0)
    network = Remov3rNetwork()
    rgb, K = clip(1, 1)
    K = K.clone()
    K[..., 0, 0] = DepthPriorConfig().canonical_focal_px
    depth_m = run(network, rgb, K).prior_depth_m
    assert 1.0 < depth_m.median() < 4.0


def test_points_lie_near_their_rays(network: Remov3rNetwork) -> None:
    rgb, K = clip(1, 1)
    out = run(network, rgb, K)
    u = (out.points_cam[..., 0] / out.points_cam[..., 2])[0, 0] * K[0, 0, 0, 0] + K[0, 0, 0, 2]
    expected = (torch.arange(32) + 0.5) * 2 - 0.5
    assert (u - expected).abs().max() < 0.25 * K[0, 0, 0, 0]
    assert (
        out.points_cam[..., 2] / out.depth_m - 1
    ).abs().max() <= network.config.heads.largest_ray_offset + 1e-6


def test_keyframes_are_identity_and_the_world_is_the_first_frame(network: Remov3rNetwork) -> None:
    out = run(network, *clip(1, 10), torch.tensor([[0, 0, 0, 3, 3, 5, 5, 5, 5, 9]]))
    identity = torch.tensor([0.0, 0, 0, 0, 0, 0, 1])
    assert (out.T_key_cam[0, [0, 3, 5, 9]] == identity).all()
    assert (out.T_world_key[0, :3] == identity).all()
    assert not (out.T_key_cam[0, [1, 2, 4, 6]] == identity).all(1).any()
    assert not (out.T_world_key[0, 3:] == identity).all(1).any()
    assert (out.T_world_key[0, 5:9] == out.T_world_key[0, 5]).all()


@pytest.mark.parametrize("changed", [1, 3, 5, 7])
def test_later_frames_never_change_earlier_ones(network: Remov3rNetwork, changed: int) -> None:
    rgb, K = clip(1, 8)
    keys = torch.tensor([[0, 0, 2, 2, 2, 5, 5, 5]])
    before = run(network, rgb, K, keys)
    other = rgb.clone()
    other[:, changed] = 1 - other[:, changed]
    after = run(network, other, K, keys)
    for name in POSES + DENSE:
        torch.testing.assert_close(
            getattr(after, name)[:, :changed], getattr(before, name)[:, :changed], atol=1e-6, rtol=1e-5
        )
    assert not torch.equal(after.pose_embedding[:, changed], before.pose_embedding[:, changed])


def test_windows_do_not_see_each_other(network: Remov3rNetwork) -> None:
    rgb, K = clip(1, 6)
    keys = torch.tensor([[0, 0, 0, 3, 3, 3]])
    before = run(network, rgb, K, keys)
    other = rgb.clone()
    other[:, 1] = 1 - other[:, 1]
    after = run(network, other, K, keys)
    torch.testing.assert_close(after.T_key_cam[:, 3:], before.T_key_cam[:, 3:])
    torch.testing.assert_close(after.T_world_key, before.T_world_key)  # frame 1 is no keyframe
    assert (after.T_key_cam[:, 2] - before.T_key_cam[:, 2]).abs().max() > 1e-6


def test_clips_of_a_batch_are_independent(network: Remov3rNetwork) -> None:
    rgb, K = clip(2, 5)
    keys = torch.tensor([[0, 0, 2, 2, 2], [0, 1, 1, 3, 3]])
    both = run(network, rgb, K, keys)
    for i in range(2):
        alone = run(network, rgb[i : i + 1], K[i : i + 1], keys[i : i + 1])
        for name in POSES:
            torch.testing.assert_close(
                getattr(both, name)[i : i + 1], getattr(alone, name), atol=1e-5, rtol=1e-4
            )


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("boxes", [tiny_config, transformer_config])
def test_gradient_reaches_every_trained_parameter(boxes: Callable[[], NetworkConfig], bfloat16: bool) -> None:
    config = switched_on(boxes())
    network = tiny_network(config).train()
    assert network.scale_shift is not None
    torch.nn.init.normal_(network.scale_shift.mlp[2].weight, std=0.1)  # type: ignore[arg-type]
    rgb, K = clip(1, 4, network.size_multiple * 2, network.size_multiple * 2)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        out = network(rgb, K, torch.tensor([[0, 0, 2, 2]]))
    assert out.local_cholesky is not None
    loss = torch.stack([getattr(out, name).square().mean() for name in POSES + DENSE]).sum()
    loss = loss + out.local_cholesky[0, [1, 3]].square().mean()
    torch.autograd.backward(loss)
    dead = [
        name
        for name, p in network.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.isfinite().all() or not p.grad.any())
    ]
    assert dead == []
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert frozen
    assert config.encoder.kind == "dinov2" or all(
        name.startswith(("encoder.stem", *(f"encoder.stages.{i}." for i in range(3)))) for name in frozen
    )


def test_the_lite_network_keeps_its_size() -> None:
    parameters = sum(p.numel() for p in Remov3rNetwork().parameters())
    assert 6e6 < parameters < 7.5e6  # ≤ 30 MB even in float32


def test_keyframe_rule_decides_when_none_are_given() -> None:
    network = tiny_network(tiny_config(max_window=3))
    assert run(network, *clip(1, 7)).keyframe_index.tolist() == [[0, 0, 0, 3, 3, 3, 6]]
