"""A folder of small shards with exact geometry, and a configuration that trains on them in no time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from remov3r.geometry import se3_exp
from remov3r.training.config import TrainConfig
from remov3r.training.shards import Clips, write_shard

K = np.array([[60.0, 0, 31.5], [0, 60, 31.5], [0, 0, 1]], np.float32)


def small_clips(count: int, frames: int, seed: int) -> Clips:
    """Slanted planes in colours that vary with depth, seen from cameras on smooth paths; 64×64."""
    rng = np.random.default_rng(seed)
    slope = rng.uniform(0.005, 0.02, (count, frames, 1, 1))
    depth_m = 1.5 + slope * np.arange(32)[:, None] + 0 * np.arange(32)
    grey = np.repeat(np.repeat((60 * depth_m).clip(0, 255), 2, 2), 2, 3)
    rgb = (grey[..., None] + rng.uniform(-10, 10, (count, frames, 64, 64, 3))).clip(0, 255)
    motion = rng.normal(0, 0.1, (count, 1, 6)) * np.arange(frames)[None, :, None]
    return Clips(
        rgb.astype(np.uint8),
        (depth_m * 1000).round().astype(np.uint16),
        np.tile(K, (count, frames, 1, 1)),
        se3_exp(motion).astype(np.float32),
    )


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder with sets `planes` (single frames), `paths` and `val` (clips of 4)."""
    root = tmp_path / "shards"
    write_shard(root / "planes" / "planes-00000.npz", small_clips(6, 1, 0))
    write_shard(root / "paths" / "paths-00000.npz", small_clips(4, 4, 1))
    write_shard(root / "val" / "val-00000.npz", small_clips(2, 4, 2))
    return root


@pytest.fixture
def config() -> TrainConfig:
    """The whole network on 64×64 images, one or two clips a step."""
    return TrainConfig.model_validate(
        {
            "width": 64,
            "height": 64,
            "workers": 0,
            "device": "cpu",
            "log_steps": 1,
            "optimizer": {"warmup_steps": 1},
            "depth": {"sets": {"planes": 1.0}, "batch": 2},
            "clips": {"sets": {"paths": 1.0}, "batch": 1, "frames": 4, "longest_window": 3},
            "validation": {"sets": ["val", "absent"], "frame_step": 2},
        }
    )


@pytest.fixture
def posed_folder(tmp_path: Path) -> Path:
    """A posed folder of six frames."""
    clip, root = small_clips(1, 6, 3), tmp_path / "data"
    for name in ("rgb", "depth"):
        (root / name).mkdir(parents=True)
    for t in range(6):
        depth = cv2.resize(clip.depth_mm[0, t], (64, 64), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(root / "rgb" / f"{t:06d}.jpg"), clip.rgb[0, t, :, :, ::-1])
        cv2.imwrite(str(root / "depth" / f"{t:06d}.png"), depth)
    np.savetxt(root / "poses.txt", clip.T_world_cam[0].reshape(6, 16))
    np.savetxt(root / "intrinsics.txt", [[60, 60, 31.5, 31.5]])
    return root
