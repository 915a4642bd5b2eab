from __future__ import annotations

import pytest
import torch

from remov3r.camera import Camera
from remov3r.errors import ShapeError
from remov3r.geometry import pixel_rays
from remov3r.models.rays import ray_code, ray_map


@pytest.mark.parametrize("stride", [2, 4, 16, 32])
def test_ray_map_is_that_of_the_resized_camera(stride: int) -> None:
    camera = Camera(96, 64, 70.0, 80.0, 40.0, 33.0)
    rays = ray_map(torch.tensor(camera.K, dtype=torch.float64)[None], 64 // stride, 96 // stride, stride)
    expected = pixel_rays(camera.resized(96 // stride, 64 // stride))
    torch.testing.assert_close(rays[0].permute(1, 2, 0), torch.from_numpy(expected[..., :2].copy()))


def test_ray_code_depends_on_direction_alone() -> None:
    K = torch.tensor([[60.0, 0, 31.5], [0, 60, 31.5], [0, 0, 1]])[None]
    small = ray_code(ray_map(K, 4, 4, 16), 32)
    twice = K * torch.tensor([[2.0], [2], [1]])
    twice[:, :2, 2] += 0.5  # the same view at twice the resolution
    torch.testing.assert_close(ray_code(ray_map(twice, 4, 4, 32), 32), small)
    assert small.shape == (1, 16, 32)
    assert torch.cdist(small[0], small[0]).add(torch.eye(16)).min() > 0.1


def test_ray_code_needs_a_multiple_of_four() -> None:
    with pytest.raises(ShapeError, match="multiple of 4"):
        ray_code(torch.zeros(1, 2, 3, 3), 10)
