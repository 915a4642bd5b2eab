"""Camera poses in a room: single views, smooth handheld walks, and scans around a table. World z is up."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from remov3r.config import Config
from remov3r.data.synthetic.rooms import Room
from remov3r.errors import DataError

LOW_SHARE = 0.35  # of the views that are not close: robots, children, cameras on tables
TILTED_SHARE = 0.12  # of all single views: a camera turned about its axis, as hands do
Points = Float[np.ndarray, "_n 3"]  # lengths may differ between arguments and results
Poses = Float[np.ndarray, "_n 4 4"]


class PathConfig(Config):
    """How a handheld camera moves.

    Attributes:
        clearance_m: least distance of the walker's way to any surface; bob and jitter may eat 3 cm of it.
        shake_deg: standard deviation of the small rotations of the hand.
        returning: end where it began, so that the first places are seen again.
    """

    speed_m_s: tuple[float, float] = (0.2, 0.8)
    height_m: tuple[float, float] = (0.9, 1.8)
    clearance_m: float = 0.25
    shake_deg: float = 0.6
    returning: bool = False


def clearance_m(room: Room, points: Points) -> Float[np.ndarray, " n"]:
    """Return the distance of points to the nearest surface, negative inside solids (rounds count as their boxes)."""
    s = room.solids
    center, half, R = s.center_m.cpu().numpy(), s.half_m.cpu().numpy(), s.rotation.cpu().numpy()
    low, high = s.shell_m.cpu().numpy()
    walls = np.minimum(points - low, high - points).min(-1)
    if not len(center):
        return walls
    local = np.einsum("mij,nmi->nmj", R, points[:, None] - center)
    q = np.abs(local) - half
    outside = np.linalg.norm(np.maximum(q, 0), axis=-1)
    return np.minimum((outside + np.minimum(q.max(-1), 0)).min(-1), walls)


def look_along(position: Points, forward: Points, roll_rad: Float[np.ndarray, " n"]) -> Poses:
    """Build poses from positions, viewing directions (not vertical) and roll."""
    z = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)
    y = np.cross(z, x)
    c, s = np.cos(roll_rad)[:, None], np.sin(roll_rad)[:, None]
    out = np.zeros((len(position), 4, 4))
    out[:, :3, 0], out[:, :3, 1], out[:, :3, 2], out[:, :3, 3] = c * x + s * y, c * y - s * x, z, position
    out[:, 3, 3] = 1
    return out


def _free_points(
    room: Room, rng: np.random.Generator, count: int, height_m: tuple[float, float], margin: float
) -> Points:
    low, high = room.solids.shell_m.cpu().numpy().astype(np.float64)
    top = min(height_m[1], high[2] - 0.3)
    points = rng.uniform([low[0], low[1], min(height_m[0], top)], [high[0], high[1], top], (count, 3))
    return points[clearance_m(room, points) > margin]


def candidate_views(room: Room, rng: np.random.Generator, count: int) -> Poses:
    """Draw views as people and robots take them: standing, low over the floor, or close to something."""
    close = int(round(count * 0.4)) if len(room.focus_m) else 0
    low = int(round((count - close) * LOW_SHARE))
    standing = _free_points(room, rng, 3 * count, (0.8, 1.8), 0.25)[: count - close - low]
    lower = _free_points(room, rng, 4 * low, (0.15, 1.0), 0.2)[:low]
    down_deg = np.concatenate([rng.normal(12, 12, len(standing)), rng.normal(2, 10, len(lower))])
    standing = np.concatenate([standing, lower])
    yaw = rng.uniform(0, 2 * np.pi, len(standing))
    down = np.radians(down_deg.clip(-25, 55))
    forward = np.stack([np.cos(yaw) * np.cos(down), np.sin(yaw) * np.cos(down), -np.sin(down)], -1)
    if close:
        target = room.focus_m[rng.integers(len(room.focus_m), size=3 * close)] + rng.normal(
            0, 0.15, (3 * close, 3)
        )
        turn, up = rng.uniform(0, 2 * np.pi, 3 * close), np.radians(rng.uniform(-12, 60, 3 * close))
        away = np.stack([np.cos(turn) * np.cos(up), np.sin(turn) * np.cos(up), np.sin(up)], -1)
        position = target + away * (
            0.35 * 5.0 ** rng.uniform(0, 1, (3 * close, 1))
        )  # nearer ones fill the image: as many each
        free = np.flatnonzero(clearance_m(room, position) > 0.12)[:close]
        standing = np.concatenate([standing, position[free]])
        forward = np.concatenate([forward, -away[free]])
    tilt_deg = np.where(rng.random(len(standing)) < TILTED_SHARE, 45.0, 4.0)
    return look_along(standing, forward, np.radians(rng.normal(0, tilt_deg)))


def _waypoints(room: Room, rng: np.random.Generator, length_m: float, config: PathConfig) -> Points:
    """Walk in random straight legs that keep clear of everything."""
    for margin in (config.clearance_m + 0.08, config.clearance_m * 0.7, config.clearance_m * 0.4):
        free = _free_points(room, rng, 256, config.height_m, margin)
        if len(free):
            break
    else:
        raise DataError(f"room {room.seed}: no place is {margin:.2f} m from every surface; draw another seed")
    way, travelled = [free[0]], 0.0
    for _ in range(400):
        if travelled >= length_m:
            break
        step = rng.normal(0, 1, 3) * [0.6, 0.6, 0.1]
        legs = way[-1] + np.linspace(0, 1, 9)[1:, None] * step
        inside = config.height_m[0] <= legs[-1, 2] <= config.height_m[1]
        if inside and clearance_m(room, legs).min() > margin:
            way.append(legs[-1])
            travelled += float(np.linalg.norm(step))
    return np.array(way)


def _targets(room: Room, rng: np.random.Generator, count: int) -> Points:
    """Draw points worth looking at, at most a moderate turn apart."""
    low, high = room.solids.shell_m.cpu().numpy().astype(np.float64)
    anywhere = rng.uniform([low[0], low[1], 0.2], [high[0], high[1], 1.5], (4 * count, 3))
    pool = np.concatenate([anywhere, np.repeat(room.focus_m, 2, axis=0)])
    targets = [pool[rng.integers(len(pool))]]
    for _ in range(count - 1):
        options = pool[rng.integers(len(pool), size=6)]
        targets.append(options[np.argmin(np.linalg.norm(options - targets[-1], axis=1))])
    return np.array(targets)


def _smooth_noise(rng: np.random.Generator, n: int, dims: int, frames: float) -> Float[np.ndarray, "n d"]:
    """Noise of unit standard deviation that changes over about `frames` frames."""
    raw = gaussian_filter1d(rng.normal(0, 1, (n + int(8 * frames), dims)), frames, axis=0, mode="wrap")
    return (raw / raw.std(0))[:n]


def handheld_path(
    room: Room, seed: int, n_frames: int, fps: float = 30.0, config: PathConfig | None = None
) -> Poses:
    """Walk through the room with a camera in the hand, looking around.

    Args:
        n_frames: length of the path in frames.
    Raises:
        DataError: the room leaves no place to stand.
    """
    config = config or PathConfig()
    rng = np.random.default_rng(seed)
    seconds = max(n_frames / fps, 0.2)
    for attempt in range(12):
        speed = rng.uniform(*config.speed_m_s)
        way = _waypoints(room, rng, speed * seconds * (0.5 if config.returning else 1.0), config)
        position = _along(way, rng, n_frames, fps, speed, config.returning)
        clear = float(clearance_m(room, position).min())
        if clear > config.clearance_m - 0.05 or (attempt > 3 and clear > 0.08):
            break
    else:
        position = np.repeat(way[:1], n_frames, axis=0)  # too narrow to walk: turn on the spot
    if config.returning:  # the same views in reverse order on the way back
        half = _gaze(room, rng, position[: (n_frames + 1) // 2], seconds / 2)
        forward = np.concatenate([half, half[: n_frames // 2][::-1]])
    else:
        forward = _gaze(room, rng, position, seconds)
    t = np.arange(n_frames)[:, None] / fps
    bob = np.sin(2 * np.pi * (1.8 * t + rng.random())) * [[0.0, 0.0, 0.008]]
    position = position + bob + _smooth_noise(rng, n_frames, 3, 6) * 0.003
    shake = np.radians(config.shake_deg) * _smooth_noise(rng, n_frames, 3, 5)
    slow_roll = np.radians(2.0) * _smooth_noise(rng, n_frames, 1, 40)[:, 0]
    forward = forward + np.cross(shake, forward)
    return look_along(position, forward, shake[:, 2] + slow_roll)


def _along(
    way: Points, rng: np.random.Generator, n: int, fps: float, speed: float, returning: bool
) -> Points:
    """Follow waypoints at a smooth, varying speed; there and back when returning."""
    if len(way) < 2:
        return np.repeat(way[:1], n, axis=0)
    if returning:
        way = np.concatenate([way, way[-2::-1]])
    fine = _rounded(way)
    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1))])
    pace = np.clip(1 + 0.35 * _smooth_noise(rng, n, 1, fps * 0.7)[:, 0], 0.3, 2)
    walked = np.concatenate([[0], np.cumsum(pace[:-1])])
    total = s[-1] if returning else min(s[-1], speed * n / fps)
    walked *= total / max(walked[-1], 1e-9)
    return np.stack([np.interp(walked, s, fine[:, k]) for k in range(3)], -1)


def _rounded(way: Points) -> Points:
    """Round the corners of a polyline; stays in its convex hull pieces, so clearances hold."""
    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1))])
    even = np.linspace(0, s[-1], max(int(s[-1] / 0.01), 16))
    line = np.stack([np.interp(even, s, way[:, k]) for k in range(3)], -1)
    return gaussian_filter1d(line, min(12.0, len(line) / 8), axis=0, mode="nearest")


def _gaze(room: Room, rng: np.random.Generator, position: Points, seconds: float) -> Points:
    """Return smooth viewing directions that turn by at most about 50 degrees per second."""
    n = len(position)
    count = max(int(seconds / rng.uniform(2.0, 3.5)) + 2, 3)
    targets = _targets(room, rng, count)
    yaw, down = [], []
    for k, target in enumerate(targets):
        to = target - position[min(k * (n - 1) // (count - 1), n - 1)]
        flat = math.hypot(to[0], to[1])
        yaw.append(math.atan2(to[1], to[0]))
        down.append(float(np.clip(math.atan2(-to[2], max(flat, 0.3)), -0.2, 0.8)))
    angles = np.unwrap(np.array(yaw))
    most = 0.6 * seconds / (count - 1)
    angles = _limited(angles, most)
    down = list(_limited(np.array(down), most / 2))
    knots = np.linspace(0, max(n - 1, 1), count)
    both = CubicSpline(knots, np.stack([angles, down], -1), bc_type="clamped")(np.arange(n))
    a, d = both[:, 0], np.clip(both[:, 1], -0.35, 0.95)
    return np.stack([np.cos(a) * np.cos(d), np.sin(a) * np.cos(d), -np.sin(d)], -1)


def _limited(values: Float[np.ndarray, " n"], most: float) -> Float[np.ndarray, " n"]:
    """Follow a sequence with bounded steps."""
    out = values.copy()
    for k in range(1, len(out)):
        out[k] = out[k - 1] + np.clip(values[k] - out[k - 1], -most, most)
    return out


def desk_scan(room: Room, seed: int, n_frames: int, fps: float = 30.0) -> Poses | None:
    """Circle part of the way around something of interest at 0.5 to 1.5 m; None where nothing leaves room for it."""
    rng = np.random.default_rng(seed)
    for _ in range(24):
        if not len(room.focus_m):
            return None
        target = room.focus_m[rng.integers(len(room.focus_m))]
        radius, up = rng.uniform(0.5, 1.5), np.radians(rng.uniform(12, 55))
        sweep = rng.choice([-1, 1]) * min(rng.uniform(0.2, 0.6) * n_frames / fps / radius, 2.5)
        wobble = _smooth_noise(rng, n_frames, 3, fps * 0.6)
        turn = rng.uniform(0, 2 * np.pi) + sweep * np.linspace(0, 1, n_frames) + 0.02 * wobble[:, 0]
        r = radius * (1 + 0.04 * wobble[:, 1])
        e = up + 0.05 * wobble[:, 2]
        away = np.stack([np.cos(turn) * np.cos(e), np.sin(turn) * np.cos(e), np.sin(e)], -1) * r[:, None]
        if clearance_m(room, target + away).min() > 0.12:
            shake = np.radians(0.7) * _smooth_noise(rng, n_frames, 3, 6)
            return look_along(
                target + away, -away + np.cross(shake, -away), shake[:, 2] + rng.normal(0, 0.05)
            )
    return None
