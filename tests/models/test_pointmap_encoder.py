from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from remov3r.errors import ConfigError
from remov3r.models.pointmap_encoder import PointmapEncoder, PointmapEncoderConfig, boxed_points
from remov3r.models.rays import ray_map
from remov3r.models.rope import RotaryBlock, grid_angles, rotate

ROPE = PointmapEncoderConfig(dim=24, depth=3, heads=2, position="rope")
EXPECTED = [-1.216153, 0.982141, -1.503973, 0.356734]


def camera(batch: int = 1) -> Tensor:
    return torch.tensor([[60.0, 0, 23.5], [0, 60, 15.5], [0, 0, 1]]).expand(batch, 3, 3)


def depth(batch: int = 1, height: int = 16, width: int = 24) -> Tensor:
    return 1 + torch.rand(batch, height, width, generator=torch.Generator().manual_seed(2))


def encoder(config: PointmapEncoderConfig) -> PointmapEncoder:
    torch.manual_seed(0)
    return PointmapEncoder(config)


def test_lite_is_what_it_was() -> None:
    """Names, and numbers of the version that the first shipped weights were trained with."""
    ours = encoder(PointmapEncoderConfig(dim=16, depth=1, heads=2))
    parts = ["patches", *(f"blocks.0.{p}" for p in ("norm", "mlp_norm")), "norm"]
    linears = ["attention.query", "attention.key_value", "attention.out", "mlp.0", "mlp.2"]
    names = [*parts, *(f"blocks.0.{p}" for p in linears)]
    assert set(ours.state_dict()) == {f"{n}.{kind}" for n in names for kind in ("weight", "bias")}
    assert PointmapEncoderConfig() == PointmapEncoderConfig(
        patch=16, dim=128, depth=2, heads=2, mlp_ratio=3, position="rays", trainable_blocks=None
    )
    with torch.no_grad():
        tokens = ours(depth(), camera())
    assert tokens.shape == (1, 2 * 3, 16)
    torch.testing.assert_close(tokens[0, 4, :4], torch.tensor(EXPECTED), atol=2e-5, rtol=0)


@pytest.mark.parametrize("position", ["rays", "rope"])
@pytest.mark.parametrize(("patch", "grid"), [(16, (2, 3)), (8, (4, 6)), (4, (8, 12))])
def test_patch_is_in_pixels_of_the_input(position: str, patch: int, grid: tuple[int, int]) -> None:
    config = PointmapEncoderConfig.model_validate(
        {"patch": patch, "dim": 16, "heads": 2, "position": position}
    )
    ours = encoder(config)
    assert (ours.dim, ours.stride) == (16, patch)
    with torch.no_grad():
        tokens = ours(depth(), camera())
    assert tokens.shape == (1, grid[0] * grid[1], 16)


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 2"):
        PointmapEncoderConfig(patch=15)
    with pytest.raises(ConfigError, match=r"dim = 20 .* 4 x 2 heads"):
        PointmapEncoder(PointmapEncoderConfig(dim=20, heads=2, position="rope"))
    with pytest.raises(ConfigError, match=r"trainable_blocks = 4.*3 blocks"):
        PointmapEncoder(ROPE.model_copy(update={"trainable_blocks": 4}))


def test_rotation_of_pairs_is_a_product_of_complex_numbers() -> None:
    angles = grid_angles(3, 5, 16, torch.device("cpu"))
    assert angles.shape == (15, 2, 4)
    torch.testing.assert_close(angles[2 * 5 + 3, :, 0], torch.tensor([2.0, 3.0]))  # row 2, column 3
    torch.testing.assert_close(angles[8, 1] / 3, torch.tensor([1.0, 100**-0.25, 0.1, 100**-0.75]))
    x = torch.randn(2, 3, 15, 16, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, angles)
    for axis in (0, 1):
        first, second = x[..., 8 * axis :][..., :4], x[..., 8 * axis :][..., 4:8]
        expected = torch.complex(first, second) * torch.exp(1j * angles[:, axis])
        torch.testing.assert_close(turned[..., 8 * axis :][..., :4], expected.real)
        torch.testing.assert_close(turned[..., 8 * axis :][..., 4:8], expected.imag)


def test_scores_depend_on_the_offset_of_tokens_alone() -> None:
    angles = grid_angles(5, 5, 16, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 1, 1, 16, generator=generator).expand(1, 1, 25, 16) for _ in range(2))
    score = (rotate(q, angles) @ rotate(k, angles).transpose(-1, -2))[0, 0].view(5, 5, 5, 5)
    torch.testing.assert_close(score[0, 1, 2, 2], score[2, 3, 4, 4])  # two down, one across
    torch.testing.assert_close(score[3, 3, 1, 4], score[2, 1, 0, 2])
    assert abs(float(score[0, 0, 0, 1] - score[0, 0, 1, 0])) > 1e-3  # rows are not columns


def test_gradients_of_a_rotary_block() -> None:
    torch.manual_seed(0)
    block = RotaryBlock(8, 2, 2).double()
    angles = grid_angles(2, 2, 4, torch.device("cpu")).double()
    x = torch.randn(1, 4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda tokens: block(tokens, angles), (x,))


def test_points_fill_their_box() -> None:
    depth_m, rays = depth(2) * torch.tensor([1.0, 3.0])[:, None, None], ray_map(camera(2), 16, 24, 2)
    points, limits = boxed_points(depth_m, rays)
    torch.testing.assert_close(points.amin((2, 3)), torch.zeros(2, 3))
    torch.testing.assert_close(points.amax((2, 3)), torch.ones(2, 3))
    torch.testing.assert_close(limits[:, 2], depth_m.amin((1, 2)))
    torch.testing.assert_close(limits[:, 5], depth_m.amax((1, 2)))
    lowest, highest = limits[:, :3, None, None], limits[:, 3:, None, None]
    restored = points * (highest - lowest) + lowest
    torch.testing.assert_close(restored[:, 0], rays[:, 0] * depth_m)
    flat, _ = boxed_points(torch.full((1, 16, 24), 2.0), rays[:1])
    assert bool(flat.isfinite().all())
    assert float(flat[:, 2].abs().max()) == 0


def test_scale_enters_a_rotary_encoder_through_the_box_alone() -> None:
    ours = encoder(ROPE)
    with torch.no_grad():
        near, far = (ours(depth() * scale, camera()) for scale in (1.0, 2.0))
        torch.testing.assert_close(near, far)
        nn.init.normal_(ours.box.weight)
        near, far = (ours(depth() * scale, camera()) for scale in (1.0, 2.0))
    assert float((near - far).abs().max()) > 0.1


@pytest.mark.parametrize("blocks", [0, 2, None])
@pytest.mark.parametrize("position", ["rays", "rope"])
def test_what_is_trainable_gets_gradients_and_depth_gets_none(position: str, blocks: int | None) -> None:
    settings = ROPE.model_dump() | {"position": position, "trainable_blocks": blocks}
    ours, depth_m = encoder(PointmapEncoderConfig.model_validate(settings)), depth().requires_grad_()
    (ours(depth_m, camera()) * torch.randn(24)).sum().backward()
    assert depth_m.grad is None
    for name, parameter in ours.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if position == "rope" and name == "box.weight":
            assert parameter.grad is not None
            assert float(parameter.grad.abs().max()) > 0
    trained = {n.split(".")[1] for n, p in ours.named_parameters() if p.requires_grad and "blocks" in n}
    assert trained == {str(i) for i in range(3)[3 - (3 if blocks is None else blocks) :]}
    assert ours.patches.weight.requires_grad == (blocks is None)


def test_rotary_encoder_runs_under_autocast() -> None:
    ours = encoder(ROPE)
    with torch.no_grad():
        full = ours(depth(), camera())
        with torch.autocast("cpu", torch.bfloat16):
            half = ours(depth(), camera()).float()
    assert 0 < float((half - full).norm() / full.norm()) < 0.02
