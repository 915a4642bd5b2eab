"""Augmentation keeps images, depth, intrinsics and poses consistent with one another."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float, UInt16

from remov3r.data.synthetic.sensor import streak_kernel
from remov3r.training.augment import PLAIN, AugmentConfig, augment, recolour
from remov3r.training.shards import Clips

K0 = np.array([[300.0, 0, 165], [0, 310, 118], [0, 0, 1]], np.float32)
NORMAL, OFFSET_M = np.array([0.2, -0.3, 1.0]), 2.5  # the plane NORMAL · X = OFFSET_M in camera coordinates
GEOMETRY = AugmentConfig(**{**PLAIN.model_dump(), "zoom": 1.5, "flip": 0.5, "roll_deg": 8.0})


def half_size(K: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    out = K.astype(np.float64)
    out[:2] /= 2
    out[:2, 2] = (K[:2, 2] + 0.5) / 2 - 0.5
    return out


def rays(K: Float[np.ndarray, "3 3"], width: int, height: int) -> Float[np.ndarray, "h w 3"]:
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(K).T


def plane_clip() -> Clips:
    """Two frames 360x240 of one plane, in colours that encode the point's camera x and y."""
    view = rays(K0, 360, 240)
    X = view * (OFFSET_M / (view @ NORMAL))[..., None]
    rgb = np.clip(
        np.stack([X[..., 0] * 60 + 128, X[..., 1] * 60 + 128, np.full((240, 360), 90.0)], -1), 0, 255
    )
    half = rays(half_size(K0), 180, 120)
    depth = (1000 * OFFSET_M / (half @ NORMAL)).round().astype(np.uint16)
    poses = np.stack([np.eye(4), np.eye(4)]).astype(np.float32)
    poses[1, :3, 3] = [0.1, -0.2, 0.3]
    twice = np.stack([rgb.round().astype(np.uint8)] * 2)
    return Clips(twice[None], np.stack([depth] * 2)[None], np.stack([K0] * 2)[None], poses[None])


def unprojected(
    depth_mm: UInt16[np.ndarray, "h w"], K: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "h w 3"]:
    h, w = depth_mm.shape
    return rays(half_size(K), w, h) * (depth_mm[..., None] / 1000)


@pytest.mark.parametrize("seed", range(6))
def test_plane_stays_a_plane_under_the_new_intrinsics(seed: int) -> None:
    """Unprojecting the new depth with the new K gives points of the same plane, turned or mirrored."""
    clip = plane_clip()
    out = augment(clip, 256, 192, GEOMETRY, np.random.default_rng(seed))
    assert out.rgb.shape == (1, 2, 192, 256, 3)
    assert out.depth_mm.shape == (1, 2, 96, 128)
    valid = out.depth_mm[0, 0] > 0
    assert valid.mean() > 0.9
    X = unprojected(out.depth_mm[0, 0], out.K[0, 0])[valid]
    # the new camera's axes: the second frame's translation shows where the old axes went
    moved = out.T_world_cam[0, 1, :3, 3] - out.T_world_cam[0, 0, :3, 3]
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm([0.1, -0.2, 0.3]), abs=1e-6)
    fit, *_ = np.linalg.lstsq(X, np.ones(len(X)), rcond=None)
    assert fit @ [0, 0, 1] == pytest.approx(1 / OFFSET_M, rel=0.01)
    assert np.linalg.norm(fit[:2]) == pytest.approx(np.linalg.norm(NORMAL[:2]) / OFFSET_M, rel=0.03)
    assert np.abs(X @ fit - 1).max() < 0.02
    # dot products between the motion and the plane's normal survive any orthogonal change of axes
    assert moved @ fit == pytest.approx(np.array([0.1, -0.2, 0.3]) @ NORMAL / OFFSET_M, abs=0.002)


def test_colours_follow_the_geometry() -> None:
    """A mirrored and zoomed image shows each point where the new K projects it."""
    config = AugmentConfig(**{**PLAIN.model_dump(), "zoom": 1.3, "flip": 1.0})
    out = augment(plane_clip(), 256, 192, config, np.random.default_rng(3))
    X = unprojected(out.depth_mm[0, 0], out.K[0, 0])
    shown = out.rgb[0, 0].reshape(96, 2, 128, 2, 3).mean((1, 3))
    assert np.abs(shown[..., 0] - np.clip(-X[..., 0] * 60 + 128, 0, 255))[4:-4, 4:-4].max() < 2.5
    assert np.abs(shown[..., 1] - np.clip(X[..., 1] * 60 + 128, 0, 255))[4:-4, 4:-4].max() < 2.5


def test_plain_is_the_centre_cut() -> None:
    clip = plane_clip()
    out = augment(clip, 320, 240, PLAIN, np.random.default_rng(0))
    assert np.array_equal(out.rgb[0, 0], clip.rgb[0, 0, :, 20:340])
    assert np.array_equal(out.depth_mm[0, 0], clip.depth_mm[0, 0, :, 10:170])
    assert out.K[0, 0, 0, 2] == pytest.approx(K0[0, 2] - 20)
    assert np.allclose(out.T_world_cam, clip.T_world_cam)


def test_flip_mirrors_poses_and_keeps_them_proper() -> None:
    config = AugmentConfig(**{**PLAIN.model_dump(), "flip": 1.0})
    out = augment(plane_clip(), 320, 240, config, np.random.default_rng(0))
    assert np.allclose(out.T_world_cam[0, 1, :3, 3], [-0.1, -0.2, 0.3], atol=1e-6)
    assert np.linalg.det(out.T_world_cam[0, 1, :3, :3].astype(np.float64)) == pytest.approx(1, abs=1e-6)
    assert out.K[0, 0, 0, 2] == pytest.approx(320 - 1 - (K0[0, 2] - 20), abs=1e-4)


def test_unknown_poses_stay_unknown() -> None:
    clip = plane_clip()
    clip.T_world_cam[:] = np.nan
    assert np.isnan(augment(clip, 256, 192, GEOMETRY, np.random.default_rng(0)).T_world_cam).any()


def test_recolour_is_deterministic_and_shared_by_the_frames() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
    rgb[1] = rgb[0]
    smooth = AugmentConfig(noise=0, jpeg=0, erase=0, motion_blur=0)
    once, again = (recolour(rgb, smooth, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(once, again)
    assert np.array_equal(once[0], once[1])
    assert not np.array_equal(once[0], rgb[0])
    everything = AugmentConfig(jpeg=1, erase=1, noise=0.05)
    assert recolour(rgb, everything, np.random.default_rng(5)).shape == rgb.shape


def test_a_streak_is_even_and_straight() -> None:
    kernel = streak_kernel(20.0, 0.0)
    assert np.allclose(kernel[10], 1 / 21)
    assert kernel.sum() == pytest.approx(1)
    assert np.array_equal(streak_kernel(20.0, np.pi / 2), kernel.T)
    assert np.array_equal(streak_kernel(0.0, 0.3), [[1]])


def test_motion_blur_hits_some_frames_of_a_clip() -> None:
    one = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    config = AugmentConfig(**{**PLAIN.model_dump(), "motion_blur": 0.3})
    out = recolour(np.repeat(one[None], 40, axis=0), config, np.random.default_rng(1))
    assert 4 <= sum(not np.array_equal(image, one) for image in out) <= 18
    even = np.full((2, 24, 32, 3), 77, np.uint8)
    assert np.array_equal(recolour(even, config, np.random.default_rng(1)), even)
