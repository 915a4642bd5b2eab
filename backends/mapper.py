"""The map that follows its keyframes: what moved is taken out and fused again where it is now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float

from remov3r.backends.fusion import FusionConfig, Measurement, TsdfVolume, prepare
from remov3r.backends.keyframe_store import camera_from_text, camera_text
from remov3r.backends.spilling import Codec, SpillingMap, load_arrays, save_arrays
from remov3r.camera import Camera
from remov3r.errors import DataError
from remov3r.geometry import pixel_rays, transform
from remov3r.types import DensePrediction, Image, Mesh, PointCloud, Pose

SAMPLES = 16  # pixels per side of the grid by which moves are judged
MEASUREMENTS_IN_MEMORY = 16
LEAST_WEIGHT_RATIO = 0.5  # a pixel whose weight changed by more counts as moved


@dataclass(frozen=True)
class View:
    """A keyframe as the map takes it.

    Attributes:
        dense: depth and sigma as they are to be fused (aligned, doubtful pixels masked).
        rgb: the image with the same field of view, of any size.
    """

    frame_index: int
    T_world_cam: Pose
    dense: DensePrediction
    rgb: Image


@dataclass(frozen=True)
class MapUpdate:
    """What an update did, by frame index.

    Attributes:
        left_out: could not be used; one that was in the map before stays there as it was.
    """

    added: tuple[int, ...] = ()
    moved: tuple[int, ...] = ()
    unchanged: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Sketch:
    """A few pixels of a view, with which a later one of the same keyframe is compared."""

    camera: Camera
    points_m: Float[np.ndarray, "n 3"]  # in the world
    sigma_m: Float[np.ndarray, " n"]  # infinite where depth is missing


@dataclass(frozen=True)
class _Fused:
    """What is in the volume now: what it takes to take it out again."""

    T_world_cam: Pose
    seen: Measurement


class Mapper:
    """Keeps a TSDF volume at its keyframes' latest poses and depths.

    The volume equals, to the last bit, one built anew from the views as each was last fused. A view counts as
    changed when more than `moved_share` of its pixels moved by more than `moved_voxels`, or came, went or
    changed their weight by more than a factor of 2; with both at 0 every change counts.
    """

    def __init__(self, config: FusionConfig | None = None, spill_folder: Path | None = None) -> None:
        """Prepare an empty map.

        Args:
            spill_folder: where temporary folders may be made for what memory does not hold; None for the
                system's place for those.
        """
        self._config = config or FusionConfig()
        self.volume = TsdfVolume(self._config, spill_folder)
        self._fused: SpillingMap[int, _Fused] = SpillingMap(CODEC, MEASUREMENTS_IN_MEMORY, spill_folder)
        self._sketches: dict[int, _Sketch] = {}
        self._complaints: dict[int, str] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, in words."""
        notes = list(self.volume.notes)
        if self._fused.trouble:
            notes.append(f"fused depth maps stay in memory: {self._fused.trouble}")
        if self._complaints:
            index, why = next(iter(self._complaints.items()))
            notes.append(
                f"{len(self._complaints)} keyframes could not be fused where they are now; "
                f"the first is keyframe {index}: {why}"
            )
        return tuple(notes)

    def update(self, views: Iterable[View], final: bool = False) -> MapUpdate:
        """Bring the map to these views: fuse new ones, move those that changed, take out those not named.

        Args:
            views: all keyframes that the map is to hold, read one after the other.
            final: no update follows; what it would take to move new views is then not kept.
        Raises:
            ShapeError: depth, sigma and camera of a view differ in size.
        """
        done: dict[str, list[int]] = {"added": [], "moved": [], "unchanged": [], "left_out": []}
        named = set()
        for view in views:
            named.add(view.frame_index)
            try:
                what = self._place(view, keep=not final)
                self._complaints.pop(view.frame_index, None)
            except DataError as error:
                what = "left_out"
                self._complaints[view.frame_index] = str(error)
            done[what].append(view.frame_index)
        removed = []
        for index in set(self._fused) - named:
            try:
                self._take_out(index)
                removed.append(index)
            except DataError as error:
                self._complaints[index] = str(error)
        return MapUpdate(removed=tuple(sorted(removed)), **{k: tuple(v) for k, v in done.items()})

    def mesh(self) -> Mesh | None:
        """Extract the surface; None where nothing was seen well enough."""
        return self.volume.mesh()

    def cloud(self) -> PointCloud | None:
        """Return the points of the surface; None where there is none."""
        return self.volume.cloud()

    def close(self) -> None:
        """Forget the map and remove its temporary folders."""
        self.volume.close()
        self._fused.close()
        self._sketches.clear()

    def _place(self, view: View, keep: bool) -> str:
        index = view.frame_index
        sketch = _sketch(view)
        known = index in self._fused
        if known and not self._changed(self._sketches[index], sketch):
            return "unchanged"
        seen = prepare(view.dense, view.rgb, self._config)
        if known:
            self._take_out(index)
        self.volume.update(seen, view.T_world_cam, sign=1)
        if keep:
            self._fused[index] = _Fused(view.T_world_cam.copy(), seen)
            self._sketches[index] = sketch
        return "moved" if known else "added"

    def _take_out(self, index: int) -> None:
        fused = self._fused[index]
        self.volume.update(fused.seen, fused.T_world_cam, sign=-1)
        del self._fused[index], self._sketches[index]

    def _changed(self, old: _Sketch, new: _Sketch) -> bool:
        if old.camera != new.camera:
            return True
        seen = np.isfinite(old.sigma_m) | np.isfinite(new.sigma_m)
        if not seen.any():
            return False
        shift_m = np.linalg.norm(new.points_m - old.points_m, axis=1)
        low, high = np.minimum(old.sigma_m, new.sigma_m), np.maximum(old.sigma_m, new.sigma_m)
        with np.errstate(invalid="ignore"):
            other_weight = (low / high) ** 2 < LEAST_WEIGHT_RATIO
        moved = (shift_m > self._config.moved_voxels * self._config.voxel_m) | other_weight
        return float(moved[seen].mean()) > self._config.moved_share


def _sketch(view: View) -> _Sketch:
    """Take pixels spread over a view.

    Raises:
        DataError: the pose holds NaN or infinite values.
    """
    T = view.T_world_cam
    if T.shape != (4, 4) or not np.isfinite(T).all():
        raise DataError("its pose holds NaN or infinite values, or is not 4x4")
    camera = view.dense.camera
    rows = np.linspace(0, camera.height - 1, min(SAMPLES, camera.height)).round().astype(int)[:, None]
    columns = np.linspace(0, camera.width - 1, min(SAMPLES, camera.width)).round().astype(int)
    depth_m = view.dense.depth_m[rows, columns].astype(np.float64)
    points = pixel_rays(camera)[rows, columns] * depth_m[..., None]
    sigma_m = np.where(depth_m > 0, view.dense.sigma_m[rows, columns], np.inf)
    points_m = transform(T.astype(np.float64), points.reshape(-1, 3)).astype(np.float32)
    return _Sketch(camera, points_m, sigma_m.astype(np.float32).ravel())


def _save(file: BinaryIO, fused: _Fused) -> None:
    seen = fused.seen
    arrays = {
        "T_world_cam": fused.T_world_cam,
        "camera": np.array(camera_text(seen.camera)),
        "depth_m": seen.depth_m,
        "weight": seen.weight,
        "rgb": seen.rgb,
    }
    save_arrays(file, arrays)


def _load(file: BinaryIO) -> _Fused:
    a = load_arrays(file)
    camera = camera_from_text(str(a["camera"]))
    seen = Measurement(camera, a["depth_m"], a["weight"], a["rgb"])
    return _Fused(a["T_world_cam"], seen)


CODEC: Codec[int, _Fused] = Codec(lambda index: f"{index:08d}.npz", _save, _load)
