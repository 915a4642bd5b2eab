"""Are frames and poses in the order of time? Neighbours differ little, and 10 does not come before 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from remov3r.data.findings import Finding, Level
from remov3r.geometry import inverse, rotation_angle_rad

_SHORTER = 0.85  # a path this much shorter in another order shows that the other order is right
_SHUFFLED = 0.7  # neighbours nearly as different as frames drawn at random
_STILL = 0.05  # metres + radians, or share of the grey range: differences below say nothing
_FIX = "order by number, not by name (sorted(files, key=lambda f: int(f.stem)) when exporting, or pad names with zeros)"


@dataclass(frozen=True)
class Order:
    """How two signals run through the sequence: "in order", "lexicographic", "shuffled" or "unknown"."""

    images: str
    poses: str


def check_order(
    images: Float[np.ndarray, "n p"], T_world_cam: Float[np.ndarray, "n 4 4"] | None, names: Sequence[str]
) -> tuple[list[Finding], bool]:
    """Look for names sorted as text, and for shuffled frames.

    Args:
        images: small grey pictures of all frames, 0..1, in the order in which the reader delivers them.
        T_world_cam: poses in the same order; NaN where unknown.
        names: of the frames.
    Returns:
        findings, and whether images and poses are in different orders, so that they do not belong together.
    """
    order = Order(
        _order(_between_images(images), names),
        "unknown" if T_world_cam is None else _order(_between_poses(T_world_cam), names),
    )
    apart = order.poses != "unknown" and order.images != "unknown" and order.images != order.poses
    sorted_as_text = [what for what, how in vars(order).items() if how == "lexicographic"]
    if sorted_as_text:
        both = " and ".join(sorted_as_text)
        said = f"{both} run smoothly once frames 0, 1, 10, 11 ... 2, 20 ... are put into numeric order"
        return [Finding("error", "file order", said, f"{both} were listed by name as text", _FIX)], apart
    shuffled = [what for what, how in vars(order).items() if how == "shuffled"]
    if not shuffled:
        return [], False
    said = f"{' and '.join(shuffled)}: neighbours are as far apart as frames drawn at random"
    cause = "the files were shuffled, or these are single pictures and not a video"
    level: Level = "warning" if T_world_cam is None else "error"
    return [
        Finding(level, "file order", said, cause, "restore the order, or use it for single frames only")
    ], apart


Distance = Callable[[Int[np.ndarray, " m"], Int[np.ndarray, " m"]], Float[np.ndarray, " m"]]


def _order(apart: Distance, names: Sequence[str]) -> str:
    count = len(names)

    def mean_step(order: Int[np.ndarray, " n"]) -> float:
        return _mean(apart(order[:-1], order[1:]))

    first, second = np.random.default_rng(0).integers(count, size=(2, 1000))
    step, random = mean_step(np.arange(count)), _mean(apart(first, second)[first != second])
    if count < 4 or not random > _STILL or not np.isfinite(step):
        return "unknown"
    if any(mean_step(order) < _SHORTER * step for order in _numeric_orders(names)):
        return "lexicographic"
    return "shuffled" if step > _SHUFFLED * random else "in order"


def _numeric_orders(names: Sequence[str]) -> list[np.ndarray]:
    """If the frames came sorted as text, where those of increasing number would lie."""
    n = len(names)
    numberings = [np.arange(n), np.arange(1, n + 1)]
    if all(name.isdigit() for name in names):
        numberings.append(np.array(sorted(int(name) for name in names)))
    orders = []
    for numbers in numberings:
        as_text = np.argsort(numbers.astype(str), kind="stable")
        if (as_text != np.arange(n)).any():
            orders.append(np.argsort(as_text))
    return orders


def _mean(distances: Float[np.ndarray, " m"]) -> float:
    known = distances[np.isfinite(distances)]
    return float(known.mean()) if len(known) else np.nan


def _between_images(images: Float[np.ndarray, "n p"]) -> Distance:
    level = images - images.mean(1, keepdims=True)
    return lambda i, j: np.abs(level[i] - level[j]).mean(1)


def _between_poses(T_world_cam: Float[np.ndarray, "n 4 4"]) -> Distance:
    """Metres plus radians; NaN where a pose is unknown."""
    known = np.isfinite(T_world_cam).all((1, 2))
    T = np.where(known[:, None, None], T_world_cam, np.eye(4))

    def apart(i: Int[np.ndarray, " m"], j: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        between = inverse(T[i]) @ T[j]
        far = np.linalg.norm(between[:, :3, 3], axis=1) + rotation_angle_rad(between)
        return np.where(known[i] & known[j], far, np.nan)

    return apart
