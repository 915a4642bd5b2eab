"""Recognise places seen before: loops between keyframes, and the pose of a frame that has lost its way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice

import numpy as np
from jaxtyping import Float, Shaped
from pydantic import Field

from remov3r.backends.features import Describer, Descriptors, FeatureConfig, Gray
from remov3r.backends.loop_geometry import (
    LoopView,
    Pixels,
    VerificationConfig,
    ViewTransform,
    measure_transform,
    view_features,
    view_with_depth,
)
from remov3r.backends.map_reuse import thumbnail
from remov3r.backends.place_index import PlaceIndex
from remov3r.camera import Camera
from remov3r.config import Config
from remov3r.errors import DataError, ShapeError
from remov3r.geometry import inverse, rotation_angle_rad
from remov3r.types import DensePrediction, PoseKind, RelativePose

Descriptor = Float[np.ndarray, " _d"]  # lengths differ between kinds


class LoopConfig(Config):
    """Loop closure.

    Attributes:
        recent: so many of the latest keyframes before the new one are no loops.
        candidates: places that are looked at closely, for each kind of descriptor.
        loops: given out for one keyframe at most.
        neighbours: keyframes on either side of a place that may confirm a loop to it.
        support_deg, support_depths: how far the way over a neighbour may lie from the direct one, in degrees
            and as a share of the place's median depth.
        exact_up_to: places beyond which the approximate index takes over.
    """

    recent: int = Field(10, ge=1)
    candidates: int = Field(3, ge=1)
    loops: int = Field(2, ge=1)
    neighbours: int = Field(1, ge=1)
    support_deg: float = Field(3.0, gt=0)
    support_depths: float = Field(0.05, gt=0)
    exact_up_to: int = Field(20_000, ge=1)
    features: FeatureConfig = FeatureConfig()
    verification: VerificationConfig = VerificationConfig()


class LoopCloser:
    """Keeps of each keyframe a descriptor and its features with depth, about 60 kB; adds in order."""

    def __init__(self, camera: Camera, config: LoopConfig | None = None) -> None:
        """Start without any place.

        Args:
            camera: of the images, undistorted.
        """
        self._camera, self._config = camera, config or LoopConfig()
        self._describer = Describer(self._config.features)
        self._indices: list[int] = []
        self._views: list[LoopView] = []
        self._images = PlaceIndex(self._config.exact_up_to)
        self._front_ends = PlaceIndex(self._config.exact_up_to)

    def __len__(self) -> int:
        """Return the number of keyframes."""
        return len(self._views)

    def add(
        self, keyframe_index: int, gray: Gray, dense: DensePrediction, descriptor: Descriptor | None
    ) -> None:
        """Remember a keyframe.

        Args:
            descriptor: the front end's own of the whole image, if it has one; always of the same length.
        Raises:
            ShapeError: the image is not of the camera's size, or the descriptor's length has changed.
            DataError: the index does not follow those before, or the descriptor is not finite.
        """
        if self._indices and keyframe_index <= self._indices[-1]:
            raise DataError(f"loop closure: keyframe {keyframe_index} comes after {self._indices[-1]}")
        pixels, descriptors = self._features(gray)
        self._front_ends.add(descriptor)
        self._images.add(thumbnail(gray))
        self._views.append(view_with_depth(pixels, descriptors, dense, self._camera))
        self._indices.append(keyframe_index)

    def detect(self) -> tuple[RelativePose, ...]:
        """Find the loops of the keyframe last added: transforms from older keyframes to it, verified.

        A loop is given out when the matches' geometry holds and the way over a neighbouring keyframe, of the
        old one or of the new one, leads to the same place. The transform's length is that of the older
        keyframe's depth; the covariance says how far that is to be trusted.
        """
        new = len(self) - 1
        if new < 0:
            return ()
        view = self._views[new]
        alike = self._images.descriptor(new), self._front_ends.descriptor(new)
        before, most = new - self._config.recent, self._config.loops
        found = self._search(view.pixels, view.descriptors, alike, before, (new - 1,), most)
        return tuple(self._loop(place, self._indices[new], m) for place, m in found)

    def relocalise(self, gray: Gray, descriptor: Descriptor | None) -> RelativePose | None:
        """Find where an image was taken, from the keyframe that says so best; `to_index` is -1.

        Raises:
            ShapeError, DataError: as `add`.
        """
        pixels, descriptors = self._features(gray)
        alike = thumbnail(gray), descriptor
        found = self._search(pixels, descriptors, alike, len(self), (), 1)
        return self._loop(found[0][0], -1, found[0][1]) if found else None

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that was added, as arrays to save."""
        views = self._views
        return {
            "keyframe_index": np.array(self._indices, np.int64),
            "features": np.array([len(v.pixels) for v in views], np.int64),
            "pixels": np.concatenate([np.empty((0, 2), np.float32), *(v.pixels for v in views)]),
            "descriptors": np.concatenate([np.empty((0, 128), np.uint8), *(v.descriptors for v in views)]),
            "depth_m": np.concatenate([np.empty(0, np.float32), *(v.depth_m for v in views)]),
            "sigma_m": np.concatenate([np.empty(0, np.float32), *(v.sigma_m for v in views)]),
            "scale_sigma": np.array([v.scale_sigma for v in views], np.float64),
            "thumbnail": self._images.values(),
            "front_end_descriptor": self._front_ends.values(),
        }

    @classmethod
    def restore(
        cls, camera: Camera, state: Mapping[str, Shaped[np.ndarray, "..."]], config: LoopConfig | None = None
    ) -> LoopCloser:
        """Make a closer from what `state` returned; it goes on as the one that was saved.

        Raises:
            DataError: an array is missing, or the arrays do not fit together.
        """
        closer = cls(camera, config)
        try:
            ends = np.cumsum(state["features"])[:-1]
            parts = [np.split(state[k], ends) for k in ("pixels", "descriptors", "depth_m", "sigma_m")]
            scales = state["scale_sigma"].tolist()
            closer._indices = state["keyframe_index"].tolist()
            images, front_ends = state["thumbnail"], state["front_end_descriptor"]
        except KeyError as error:
            raise DataError(f"state of loop closure: no array {error.args[0]!r}") from error
        count = len(closer._indices)
        rows = {len(state[k]) for k in ("pixels", "descriptors", "depth_m", "sigma_m")}
        if {len(scales), len(images), len(front_ends), len(state["features"])} != {count} or rows != {
            int(state["features"].sum())
        }:
            raise DataError(f"state of loop closure: arrays do not fit {count} keyframes")
        closer._views = [LoopView(p, d, z, s, c) for p, d, z, s, c in zip(*parts, scales)] if count else []
        closer._images = PlaceIndex.restore(images, closer._config.exact_up_to)
        closer._front_ends = PlaceIndex.restore(front_ends, closer._config.exact_up_to)
        return closer

    def __getstate__(self) -> tuple[Camera, LoopConfig, dict[str, np.ndarray]]:
        """Return what a pickle keeps."""
        return self._camera, self._config, self.state()

    def __setstate__(self, saved: tuple[Camera, LoopConfig, dict[str, np.ndarray]]) -> None:
        """Take what `__getstate__` returned."""
        camera, config, state = saved
        self.__dict__.update(vars(LoopCloser.restore(camera, state, config)))

    def _features(self, gray: Gray) -> tuple[Pixels, Descriptors]:
        c = self._camera
        if gray.shape != (c.height, c.width):
            raise ShapeError(f"loop closure: image {gray.shape} does not fit the camera {c.height}x{c.width}")
        return view_features(gray, self._config.features, self._describer)

    def _search(
        self,
        pixels: Pixels,
        descriptors: Descriptors,
        alike: tuple[Descriptor, Descriptor | None],
        before: int,
        beside: tuple[int, ...],
        most: int,
    ) -> list[tuple[int, ViewTransform]]:
        """Return the places that a view was taken near, with the transforms to it, most inliers first.

        Args:
            alike: the view's descriptors: of the image, and of the front end.
            before: places from this number on are too recent.
            beside: places next to the view itself, that may confirm as well.
        """

        def measure(old: int) -> ViewTransform | None:
            if old not in measured:
                measured[old] = measure_transform(
                    self._views[old], pixels, descriptors, self._camera, self._config.verification
                )
            return measured[old]

        measured: dict[int, ViewTransform | None] = {}
        places = self._candidates(alike, before)
        hits = [(place, m) for place in places if (m := measure(place)) is not None]
        hits.sort(key=lambda hit: -hit[1].inliers)
        supported = (
            (place, m)
            for place, m in hits[: most + 1]
            if any(self._supports(place, m, k, measure) for k in self._neighbours(place, before, beside))
        )
        return list(islice(supported, most))

    def _candidates(self, alike: tuple[Descriptor, Descriptor | None], before: int) -> list[int]:
        """Return the places that look most alike by either descriptor, without repetition."""
        found: list[int] = []
        for index, descriptor in zip((self._images, self._front_ends), alike):
            if descriptor is not None:
                found += index.nearest(descriptor, self._config.candidates, before)[0].tolist()
        return list(dict.fromkeys(found))

    def _neighbours(self, place: int, before: int, beside: tuple[int, ...]) -> list[int]:
        """Return what may confirm a loop to a place, nearest first."""
        steps = range(1, self._config.neighbours + 1)
        around = [place + side * step for step in steps for side in (-1, 1)]
        return [*(k for k in around if 0 <= k < before), *beside]

    def _supports(
        self, place: int, direct: ViewTransform, via: int, measure: Callable[[int], ViewTransform | None]
    ) -> bool:
        """Whether the way from a place over another keyframe leads to where the direct one does."""
        old, between = self._views[place], self._views[via]
        second = measure(via)
        if second is None:
            return False
        first = measure_transform(
            old, between.pixels, between.descriptors, self._camera, self._config.verification
        )
        if first is None:
            return False
        gap = inverse(direct.T_old_new) @ first.T_old_new @ second.T_old_new
        lengths = [float(np.linalg.norm(m.T_old_new[:3, 3])) for m in (first, second)]
        scale = float(np.hypot(old.scale_sigma, between.scale_sigma))
        allowed = self._config.support_depths * float(np.nanmedian(old.depth_m)) + 2 * scale * sum(lengths)
        turned = float(np.rad2deg(rotation_angle_rad(gap)))
        return turned < self._config.support_deg and float(np.linalg.norm(gap[:3, 3])) < allowed

    def _loop(self, place: int, to_index: int, m: ViewTransform) -> RelativePose:
        return RelativePose(
            self._indices[place], to_index, m.T_old_new, PoseKind.LOOP, m.covariance, m.inliers
        )
