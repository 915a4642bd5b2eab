"""Renders training clips (colour, depth, poses) from a textured indoor model along given camera paths.

The model's z axis points up. Each clip gets its own light, ceiling, wall and floor covering, focal length and
small changes of the path, so that a few paths through one house go a long way.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from remov3r.backends.mesh_render import RayCaster, RayHits, to_bytes
from remov3r.backends.textured_mesh import TexturedMesh, load_textured_mesh
from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.errors import DataError
from remov3r.training.shards import Clips, write_shard
from remov3r.types import Image, Pose

logger = logging.getLogger(__name__)

DEPTH_SIZE = (128, 96)


class HouseConfig(Config):
    """What is rendered and how it varies from clip to clip."""

    clips: int = 400
    frames: int = 3
    stride_min: int = 20
    stride_max: int = 40
    yaw_rad: float = 0.9
    pitch_rad: float = 0.15
    focal_min_px: float = 190.0
    focal_max_px: float = 300.0
    clips_per_shard: int = 100
    width: int = 256
    height: int = 192
    seed: int = 0


@dataclass(frozen=True)
class RenderedClip:
    """Frames rendered together."""

    rgb: UInt8[np.ndarray, "t h w 3"]
    depth_m: Float[np.ndarray, "t hd wd"]
    K: Float[np.ndarray, "3 3"]
    T_world_cam: Float[np.ndarray, "t 4 4"]


@dataclass(frozen=True)
class Lighting:
    """Lamps at points, ambient light, and how bright the camera makes the clip on average."""

    lamps_m: Float[np.ndarray, "l 3"]
    lamp_rgb: Float[np.ndarray, "l 3"]
    ambient_rgb: Float[np.ndarray, " 3"]
    mean_brightness: float


def read_path(file: Path) -> Float[np.ndarray, "n 4 4"]:
    """Read camera-to-world poses, one row-major 4×4 per line.

    Raises:
        DataError: the file is missing or is not such a list.
    """
    try:
        return np.loadtxt(file).reshape(-1, 4, 4)
    except (OSError, ValueError) as error:
        raise DataError(f"path {file}: {error}") from error


def varied_path(
    path: Float[np.ndarray, "n 4 4"], config: HouseConfig, rng: np.random.Generator
) -> Float[np.ndarray, "t 4 4"]:
    """Pick frames of a path at a random stride, direction, height, yaw and pitch, with a little jitter."""
    reach = min(config.stride_max, (len(path) - 1) // (config.frames - 1)) if config.frames > 1 else 1
    stride = int(rng.integers(min(config.stride_min, reach), reach + 1))
    start = int(rng.integers(len(path) - stride * (config.frames - 1)))
    poses = path[start + stride * np.arange(config.frames)].copy()
    if rng.random() < 0.5:
        poses = poses[::-1].copy()
    height = rng.uniform(1.2, 1.6) - poses[:, 2, 3].mean()
    yaw, pitch = (
        rng.uniform(-config.yaw_rad, config.yaw_rad),
        rng.uniform(-config.pitch_rad, config.pitch_rad),
    )
    jitter = rng.normal(0, 0.01 * min(1.0, stride / 10), (config.frames, 3))
    for pose, (a, b, c) in zip(poses, jitter):
        turn = _rotation([0, 0, yaw]) @ pose[:3, :3] @ _rotation([pitch + a, b, c])
        pose[:3, :3] = turn
    poses[:, 2, 3] += height
    return poses


def dressed(house: TexturedMesh, coverings: list[Image], rng: np.random.Generator) -> TexturedMesh:
    """Give the house a ceiling, tints for all of its parts, and mostly other walls and floors."""
    size = house.textures.shape[1]
    textures = house.textures.astype(np.float32) * rng.uniform(0.75, 1.0, (len(house.textures), 1, 1, 3))
    walls, floor = _large_parts(house)
    for part in (*walls, floor):
        if coverings and rng.random() < 0.6:
            photo = coverings[rng.integers(len(coverings))].astype(np.float32)
            # Walls keep a mostly plain look: a faint pattern on a random light colour.
            strength = rng.uniform(0.1, 0.6) if part in walls else 1.0
            base = rng.uniform(120, 245) * rng.uniform(0.85, 1.0, 3)
            textures[part] = base + strength * (photo - photo.mean((0, 1)))
    low, high = house.vertices_m.min(0), house.vertices_m.max(0)
    z = rng.uniform(2.6, min(3.0, high[2]) - 0.01)
    corners = np.array(
        [[low[0], low[1], z], [low[0], high[1], z], [high[0], high[1], z], [high[0], low[1], z]]
    )
    noise = cv2.resize(rng.normal(0, 3, (16, 16, 3)).astype(np.float32), (size, size))
    ceiling = np.clip(rng.uniform(200, 250) * rng.uniform(0.9, 1.0, 3) + noise, 0, 255).astype(np.uint8)
    painted = replace(house, textures=np.clip(textures, 0, 255).astype(np.uint8))
    return painted.with_quad(corners, ceiling, repeats=8.0)


def random_lighting(poses: Float[np.ndarray, "t 4 4"], rng: np.random.Generator) -> Lighting:
    """Hang two lamps near the cameras, tint the light and vary its strength."""
    centre = poses[:, :3, 3].mean(0)
    offsets = np.column_stack([rng.uniform(-2, 2, (2, 2)), rng.uniform(0.5, 1.0, 2)])
    warmth = rng.uniform(-0.12, 0.12, (3, 1)) * np.array([1.0, 0.1, -1.0]) + 1
    strength = rng.uniform(0.3, 1.0, (2, 1))
    return Lighting(
        centre + offsets, strength * warmth[:2], rng.uniform(0.3, 0.6) * warmth[2], rng.uniform(0.25, 0.5)
    )


def shade(
    colors: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    hits: RayHits,
    caster: RayCaster,
    light: Lighting,
) -> Float[np.ndarray, "n 3"]:
    """Light Lambertian surfaces by the lamps (with shadows) and the ambient light."""
    total = np.broadcast_to(light.ambient_rgb, colors.shape).copy()
    for lamp, rgb in zip(light.lamps_m, light.lamp_rgb):
        to_lamp = lamp - hits.points_m
        distance = np.linalg.norm(to_lamp, axis=1, keepdims=True)
        cosine = np.maximum((normals * to_lamp).sum(1, keepdims=True) / distance, 0)
        # Half of a lamp's light also reaches its shadow, by way of the walls.
        visible = 0.5 + 0.5 * caster.sees(hits.points_m + 0.01 * normals, lamp)[:, None]
        total += rgb * (0.25 + 0.75 * cosine) * visible / (1 + (distance / 3) ** 2)
    return colors * total


def render_clip(
    house: TexturedMesh, poses: Float[np.ndarray, "t 4 4"], camera: Camera, light: Lighting
) -> RenderedClip | None:
    """Render the frames of a clip; None when a camera stands too close to something or sees too little."""
    caster = RayCaster(house.vertices_m, house.triangles, threads=1)
    depths = [caster.cast(camera.resized(*DEPTH_SIZE), pose).depth_m for pose in poses]
    for depth in depths:
        if (depth > 0).mean() < 0.9 or np.percentile(depth, 5) < 0.35 or np.median(depth) < 0.8:
            return None
    radiance = np.stack([render_view(house, caster, camera, pose, light) for pose in poses])
    exposed = radiance * light.mean_brightness / radiance.mean()
    # A soft shoulder in place of hard clipping, as cameras have it.
    rgb = np.where(exposed < 0.7, exposed, 0.7 + 0.3 * np.tanh((exposed - 0.7) / 0.3))
    return RenderedClip(to_bytes(rgb), np.stack(depths), camera.K, poses)


def render_clips(
    model: Path, paths: list[Path], textures: list[Path], out: Path, config: HouseConfig
) -> list[Path]:
    """Render all clips and write them as shards into `out`.

    Returns:
        the shard files.
    """
    rng = np.random.default_rng(config.seed)
    house = load_textured_mesh(model)
    routes = [read_path(file) for file in paths]
    coverings = [_mirrored_tile(file, house.textures.shape[1]) for file in textures]
    lengths = np.array([len(route) for route in routes], dtype=np.float64)
    written: list[Path] = []
    clips: list[RenderedClip] = []
    done = 0
    while done < config.clips:
        poses = varied_path(routes[rng.choice(len(routes), p=lengths / lengths.sum())], config, rng)
        focal = rng.uniform(config.focal_min_px, config.focal_max_px)
        centre = np.array([config.width - 1, config.height - 1]) / 2 + rng.uniform(-4, 4, 2)
        camera = Camera(config.width, config.height, focal, focal, float(centre[0]), float(centre[1]))
        clip = render_clip(dressed(house, coverings, rng), poses, camera, random_lighting(poses, rng))
        if clip is None:
            continue
        clips.append(clip)
        done += 1
        if len(clips) == config.clips_per_shard or done == config.clips:
            written.append(out / f"house-{len(written):05d}.npz")
            write_shard(written[-1], as_shard(clips))
            logger.info("%d of %d clips, %s", done, config.clips, written[-1])
            clips = []
    return written


def as_shard(clips: list[RenderedClip]) -> Clips:
    """Pack clips in the layout of training shards."""
    frames = len(clips[0].rgb)
    return Clips(
        rgb=np.stack([c.rgb for c in clips]),
        depth_mm=np.stack([np.rint(np.clip(c.depth_m, 0, 65) * 1000).astype(np.uint16) for c in clips]),
        K=np.stack([np.tile(c.K.astype(np.float32), (frames, 1, 1)) for c in clips]),
        T_world_cam=np.stack([c.T_world_cam.astype(np.float32) for c in clips]),
    )


def render_view(
    house: TexturedMesh, caster: RayCaster, camera: Camera, pose: Pose, light: Lighting
) -> Float[np.ndarray, "h w 3"]:
    """Return the light that reaches each pixel, the mean of 2×2 rays."""
    hits = caster.cast(camera.resized(2 * camera.width, 2 * camera.height), pose)
    normals = hits.interpolate(house.normals, house.triangles)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    normals *= np.where((normals * hits.normals).sum(1, keepdims=True) < 0, -1, 1)
    lit = shade(house.colors_at(hits), normals, hits, caster, light)
    fine = hits.fill(lit, np.full(3, 0.8))
    return np.asarray(fine.reshape(camera.height, 2, camera.width, 2, 3).mean((1, 3)))


def _large_parts(house: TexturedMesh) -> tuple[list[int], int]:
    """The parts that are walls (tall, and wide in both directions) and the one that is the floor."""
    low, high = house.vertices_m.min(0), house.vertices_m.max(0)
    extents = []
    for part in range(len(house.textures)):
        corners = house.vertices_m[house.triangles[house.part == part].ravel()]
        extents.append(corners.max(0) - corners.min(0))
    wide = [k for k, e in enumerate(extents) if (e[:2] > 0.8 * (high - low)[:2]).all()]
    floor = min(wide, key=lambda k: extents[k][2])
    return [k for k in wide if k != floor], floor


def _mirrored_tile(file: Path, size: int) -> Image:
    pixels = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise DataError(f"texture {file}: cannot be read")
    tile = cv2.resize(pixels, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
    row = np.concatenate([tile, tile[:, ::-1]], 1)
    return np.concatenate([row, row[::-1]], 0).astype(np.uint8)


def _rotation(axis_angle: list[float] | Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    return np.asarray(cv2.Rodrigues(np.asarray(axis_angle, dtype=np.float64))[0])


def main() -> None:
    """Run from the command line: `python -m remov3r.pipelines.render_house --house DIR --out DIR`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--house", type=Path, required=True, help="folder with small_house.glb and path_*.txt"
    )
    parser.add_argument("--textures", type=Path, help="folder of photo tiles for walls and floors")
    parser.add_argument("--out", type=Path, required=True)
    for name, info in HouseConfig.model_fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(info.default), default=info.default)
    given = vars(parser.parse_args())
    house, textures, out = given.pop("house"), given.pop("textures"), given.pop("out")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    files = sorted(textures.rglob("*.jpg")) if textures else []
    paths = sorted(house.glob("path_*.txt"))
    render_clips(house / "small_house.glb", paths, files, out, HouseConfig(**given))


if __name__ == "__main__":
    main()
