"""The map: landmarks, keyframes and which keyframe saw which landmark where, as growing numpy columns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from remov3r.backends.bundle_terms import adjoint
from remov3r.camera import Camera
from remov3r.geometry import inverse
from remov3r.types import Covariance, Pose

Ids = Int[np.ndarray, " n"]


class Column:
    """A numpy array that grows along its first axis by doubling."""

    def __init__(self, dtype: type, *shape: int) -> None:
        self._data: np.ndarray = np.zeros((256, *shape), dtype)
        self._length = 0

    def append(self, rows: np.ndarray) -> None:
        """Add rows at the end."""
        end = self._length + len(rows)
        if end > len(self._data):
            grown = np.zeros((max(end, 2 * len(self._data)), *self._data.shape[1:]), self._data.dtype)
            grown[: self._length] = self._data[: self._length]
            self._data = grown
        self._data[self._length : end] = rows
        self._length = end

    def keep(self, rows: np.ndarray) -> None:
        """Keep some rows (numbers or a mask) and give the memory of the others back."""
        self._data = self.array[rows]
        self._length = len(self._data)

    @property
    def array(self) -> np.ndarray:
        """The rows so far; a view that is valid until the next change of their number."""
        return self._data[: self._length]


@dataclass(frozen=True)
class KeyframeLink:
    """How a keyframe lies to the one before it, as tracking measured it or the front end said it.

    Attributes:
        covariance: rotation first, then translation, in the frame of the later keyframe.
        metric: its lengths are the front end's word, not the map's own.
    """

    T_before_this: Pose
    covariance: Covariance
    metric: bool = False

    def rescaled(self, factor: float) -> KeyframeLink:
        """Return the link with all lengths of the map multiplied."""
        if self.metric:
            return self
        T, units = self.T_before_this.copy(), np.repeat([1.0, factor], 3)
        T[:3, 3] *= factor
        return KeyframeLink(T, self.covariance * np.outer(units, units))

    def after(self, before: KeyframeLink) -> KeyframeLink:
        """Return the link from two keyframes before to this one, for when the one between goes."""
        A = adjoint(inverse(self.T_before_this))
        return KeyframeLink(
            before.T_before_this @ self.T_before_this,
            A @ before.covariance @ A.T + self.covariance,
            self.metric and before.metric,
        )


@dataclass
class MapKeyframe:
    """A keyframe of the map.

    Attributes:
        observations: its rows in the observation columns.
        descriptors: one for each of these rows.
        log_scale: logarithm of landmark depth over front-end depth, as estimated last.
        scale_reading: median logarithm of landmark depth over front-end depth, and its weight; None = too few.
        scale_sigma: how far the front end's depth of a whole frame may be off, as a logarithm.
        submap: keyframes of different submaps have no trustworthy pose between them.
        link: to the keyframe before it; None where tracking measured none.
        view: its image, compressed; empty where none was kept.
    """

    frame_index: int
    T_world_cam: Pose
    observations: slice
    descriptors: UInt8[np.ndarray, "n 128"]
    thumbnail: Float[np.ndarray, " t"]
    scale_sigma: float
    submap: int
    link: KeyframeLink | None = None
    view: bytes = b""
    log_scale: float = 0.0
    scale_reading: tuple[float, float] | None = None


@dataclass(frozen=True)
class Renumbering:
    """What became of keyframes and landmarks when some were removed.

    Attributes:
        places: by old place, the new one: a removed keyframe's is that of the one that stands in for it.
        stays: by old place, whether the keyframe is still there.
        T_new_old: by old place, how the keyframe lies to that one; the identity for those that stay.
        landmarks: by old number, the new one; -1 = removed.
    """

    places: Ids
    stays: Bool[np.ndarray, " k"]
    T_new_old: Float[np.ndarray, "k 4 4"]
    landmarks: Int[np.ndarray, " l"]


@dataclass
class LandmarkMap:
    """Struct of arrays: landmark i is row i of the landmark columns; a keyframe is its place in `keyframes`.

    Landmark columns:
        points: in the world frame, metres.
        anchor: the keyframe that saw it first, on whose line of sight the depth is uncertain.
        sigma_log: standard deviation of the logarithm of the depth from the anchor.
        merged_into: its own number, or that of the landmark it was found to be.
    Observation columns:
        keyframe, landmark, pixel, depth_m (the front end's; NaN = none), depth_sigma_m, good.
    """

    camera: Camera
    keyframes: list[MapKeyframe] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._points = Column(np.float64, 3)
        self._anchor = Column(np.int64)
        self._sigma_log = Column(np.float64)
        self._merged_into = Column(np.int64)
        self._obs_keyframe = Column(np.int64)
        self._obs_landmark = Column(np.int64)
        self._obs_pixel = Column(np.float64, 2)
        self._obs_depth_m = Column(np.float64)
        self._obs_depth_sigma_m = Column(np.float64)
        self._obs_good = Column(np.bool_)

    @property
    def points(self) -> Float[np.ndarray, "l 3"]:
        """Landmark positions in the world frame."""
        return self._points.array

    @property
    def anchor(self) -> Ids:
        """Keyframe that saw each landmark first."""
        return self._anchor.array

    @property
    def sigma_log(self) -> Float[np.ndarray, " l"]:
        """Standard deviation of each landmark's log depth."""
        return self._sigma_log.array

    @property
    def obs_keyframe(self) -> Ids:
        """Keyframe of each observation."""
        return self._obs_keyframe.array

    @property
    def obs_landmark(self) -> Ids:
        """Landmark of each observation."""
        return self._obs_landmark.array

    @property
    def obs_pixel(self) -> Float[np.ndarray, "m 2"]:
        """Pixel of each observation."""
        return self._obs_pixel.array

    @property
    def obs_depth_m(self) -> Float[np.ndarray, " m"]:
        """The front end's z-depth at each observation; NaN where it has none."""
        return self._obs_depth_m.array

    @property
    def obs_depth_sigma_m(self) -> Float[np.ndarray, " m"]:
        """Standard deviation of that depth."""
        return self._obs_depth_sigma_m.array

    @property
    def obs_good(self) -> np.ndarray:
        """Which observations have not been found to be wrong."""
        return self._obs_good.array

    @property
    def poses(self) -> Float[np.ndarray, "k 4 4"]:
        """T_world_cam of all keyframes."""
        return np.stack([k.T_world_cam for k in self.keyframes])

    def add_landmarks(
        self,
        points: Float[np.ndarray, "n 3"],
        anchor: int,
        sigma_log: Float[np.ndarray, " n"],
    ) -> Ids:
        """Add landmarks first seen by keyframe `anchor`; return their numbers."""
        first = len(self.points)
        ids = np.arange(first, first + len(points))
        self._points.append(points)
        self._anchor.append(np.full(len(points), anchor))
        self._sigma_log.append(sigma_log)
        self._merged_into.append(ids)
        return ids

    def add_keyframe(
        self,
        frame_index: int,
        T_world_cam: Pose,
        landmarks: Ids,
        pixels: Float[np.ndarray, "n 2"],
        depth_m: Float[np.ndarray, " n"],
        depth_sigma_m: Float[np.ndarray, " n"],
        descriptors: UInt8[np.ndarray, "n 128"],
        thumbnail: Float[np.ndarray, " t"],
        scale_sigma: float,
        submap: int,
        link: KeyframeLink | None = None,
        view: bytes = b"",
    ) -> int:
        """Add a keyframe with all that it sees; return its place."""
        place, first = len(self.keyframes), len(self.obs_keyframe)
        self._append_rows(place, landmarks, pixels, depth_m, depth_sigma_m)
        rows = slice(first, first + len(landmarks))
        self.keyframes.append(
            MapKeyframe(
                frame_index, T_world_cam, rows, descriptors, thumbnail, scale_sigma, submap, link, view
            )
        )
        return place

    def add_observations(self, place: int, landmarks: Ids, pixels: Float[np.ndarray, "n 2"]) -> None:
        """Say that a keyframe sees more landmarks than it was added with.

        They have no depth and no descriptor, and are not among its `observations`: optimisations of the whole map
        take them, all else does not.
        """
        unknown = np.full(len(landmarks), np.nan)
        self._append_rows(place, landmarks, pixels, unknown, unknown)

    def _append_rows(
        self, place: int, landmarks: Ids, pixels: Float[np.ndarray, "n 2"], depth_m: Float[np.ndarray, " n"],
        depth_sigma_m: Float[np.ndarray, " n"],
    ) -> None:  # fmt: skip
        self._obs_keyframe.append(np.full(len(landmarks), place))
        self._obs_landmark.append(landmarks)
        self._obs_pixel.append(pixels)
        self._obs_depth_m.append(depth_m)
        self._obs_depth_sigma_m.append(depth_sigma_m)
        self._obs_good.append(np.ones(len(landmarks), bool))

    def canonical(self, landmarks: Ids) -> Ids:
        """Return the landmarks that these have been merged into (themselves where they have not)."""
        table = self._merged_into.array
        out = table[landmarks]
        while not np.array_equal(table[out], out):
            out = table[out]
        return out

    def merge(self, duplicate: Ids, original: Ids) -> None:
        """Declare landmarks to be the same as others; observations move over, two by one keyframe become one."""
        duplicate, original = self.canonical(duplicate), self.canonical(original)
        if len(duplicate) == 0:
            return
        for a, b in zip(duplicate.tolist(), original.tolist()):
            a, b = int(self.canonical(np.array([a]))[0]), int(self.canonical(np.array([b]))[0])
            self._merged_into.array[max(a, b)] = min(a, b)
        touched = np.zeros(len(self.points), bool)
        touched[duplicate], touched[original] = True, True
        rows = np.flatnonzero(touched[self.obs_landmark])
        self.obs_landmark[rows] = self.canonical(self.obs_landmark[rows])
        # A keyframe that now sees one landmark twice keeps the first of the two.
        key = self.obs_keyframe[rows] * (len(self.points) + 1) + self.obs_landmark[rows]
        _, first = np.unique(key, return_index=True)
        repeated = np.ones(len(key), bool)
        repeated[first] = False
        self.obs_good[rows[repeated]] = False

    def remove(self, places: list[int]) -> Renumbering:
        """Remove keyframes, observations found to be wrong, and landmarks that nothing sees any more.

        A removed keyframe hands its link on to the next one, and frames that lie relative to it to the keyframe
        that shares most landmarks with it.
        """
        stays = np.ones(len(self.keyframes), bool)
        stays[places] = False
        stand_in = np.arange(len(stays))
        for place in places:
            shared = self.rows_of_landmarks(self.obs_landmark[self.rows_of_keyframes([place])])
            counts = np.bincount(self.obs_keyframe[shared], minlength=len(stays)) * stays
            neighbours = np.flatnonzero(stays)
            nearest = neighbours[np.abs(neighbours - place).argmin()]
            stand_in[place] = counts.argmax() if counts.any() else nearest
        T = self.poses
        T_new_old = np.where(stays[:, None, None], np.eye(4), inverse(T[stand_in]) @ T)
        new_place = np.cumsum(stays) - 1
        rows = self.obs_good & stays[self.obs_keyframe]
        seen = np.zeros(len(self.points), bool)
        seen[self.obs_landmark[rows]] = True
        new_landmark = np.where(seen, np.cumsum(seen) - 1, -1)
        canonical = self.canonical(np.arange(len(self.points)))
        self._hand_on(stays, rows)
        self._drop_rows(rows, stays)
        for column in (self._points, self._anchor, self._sigma_log, self._merged_into):
            column.keep(seen)
        self.obs_keyframe[:] = new_place[self.obs_keyframe]
        self.obs_landmark[:] = new_landmark[self.obs_landmark]
        self.anchor[:] = new_place[self.anchor]
        self._merged_into.array[:] = np.arange(len(self.points))
        return Renumbering(new_place[stand_in], stays, T_new_old, new_landmark[canonical])

    def _hand_on(self, stays: np.ndarray, rows: np.ndarray) -> None:
        """Give landmarks the first keyframe that stays as anchor, and links of keyframes that go to the next."""
        order = np.flatnonzero(rows)[::-1]
        first = np.zeros(len(self.points), int)
        first[self.obs_landmark[order]] = self.obs_keyframe[order]  # the earliest is written last
        self.anchor[:] = np.where(stays[self.anchor], self.anchor, first)
        for place in np.flatnonzero(~stays).tolist():
            if place + 1 < len(stays):
                gone, following = self.keyframes[place].link, self.keyframes[place + 1]
                link = following.link
                following.link = None if gone is None or link is None else link.after(gone)

    def _drop_rows(self, rows: np.ndarray, stays: np.ndarray) -> None:
        """Drop observations, with their descriptors, and keyframes."""
        kept: list[MapKeyframe] = []
        start = 0
        for keyframe, stay in zip(self.keyframes, stays.tolist()):
            if stay:
                keyframe.descriptors = keyframe.descriptors[rows[keyframe.observations]]
                keyframe.observations = slice(start, start + len(keyframe.descriptors))
                start = keyframe.observations.stop
                kept.append(keyframe)
        self.keyframes = kept
        for column in (
            self._obs_keyframe, self._obs_landmark, self._obs_pixel, self._obs_depth_m, self._obs_depth_sigma_m,
            self._obs_good,
        ):  # fmt: skip
            column.keep(rows)

    def rescale(self, factor: float) -> None:
        """Multiply all lengths of the map, about the world's origin."""
        self.points[:] *= factor
        for keyframe in self.keyframes:
            T = keyframe.T_world_cam.copy()
            T[:3, 3] *= factor
            keyframe.T_world_cam = T
            keyframe.log_scale += float(np.log(factor))
            if keyframe.scale_reading is not None:
                middle, weight = keyframe.scale_reading
                keyframe.scale_reading = middle + float(np.log(factor)), weight
            keyframe.link = None if keyframe.link is None else keyframe.link.rescaled(factor)

    def places_of(self, frame_index: int) -> list[int]:
        """Return the place of the keyframe made of a frame, as a list of none or one."""
        return [i for i, k in enumerate(self.keyframes) if k.frame_index == frame_index]

    def rows_of_keyframes(self, places: list[int]) -> Ids:
        """Return the good observation rows of some keyframes, in order."""
        if not places:
            return np.empty(0, int)
        rows = np.concatenate(
            [
                np.arange(k.observations.start, k.observations.stop)
                for k in (self.keyframes[p] for p in places)
            ]
        )
        return rows[self.obs_good[rows]]

    def rows_of_landmarks(self, landmarks: Ids) -> Int[np.ndarray, " m"]:
        """Return the good observation rows of some landmarks, in order."""
        wanted = np.zeros(len(self.points), bool)
        wanted[landmarks] = True
        return np.flatnonzero(wanted[self.obs_landmark] & self.obs_good)

    def spread(self, landmarks: Ids) -> Float[np.ndarray, "n 3"]:
        """Return one standard deviation of each landmark's position, as a vector along its anchor's line of sight."""
        if len(landmarks) == 0:
            return np.empty((0, 3))
        places, which = np.unique(self.anchor[landmarks], return_inverse=True)
        centres = np.stack([self.keyframes[p].T_world_cam[:3, 3] for p in places.tolist()])[which]
        return (self.points[landmarks] - centres) * self.sigma_log[landmarks][:, None]
