"""A pinhole camera with optional lens distortion, and what happens to it when its image is resized or cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from remov3r.errors import DataError

Undistorter = Callable[[UInt8[np.ndarray, "h w 3"]], UInt8[np.ndarray, "h w 3"]]


@dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels; the centre of the top-left pixel is (0, 0).

    Attributes:
        distortion: "radtan" (OpenCV: k1 k2 p1 p2 [k3 [k4 k5 k6]]) or "fisheye" (OpenCV: k1 k2 k3 k4).
        coefficients: as OpenCV orders them; empty for "none".
    Raises:
        DataError: a size or focal length is not positive and finite, or the coefficients do not fit.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: str = "none"
    coefficients: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        values = np.array([self.fx, self.fy, self.cx, self.cy, *self.coefficients])
        if self.width < 1 or self.height < 1:
            raise DataError(f"camera size {self.width}x{self.height} must be positive")
        if not np.isfinite(values).all() or self.fx <= 0 or self.fy <= 0:
            raise DataError(
                f"camera fx={self.fx} fy={self.fy} cx={self.cx} cy={self.cy}: need finite values, fx, fy > 0"
            )
        allowed = {"none": (0,), "radtan": (4, 5, 8), "fisheye": (4,)}
        if self.distortion not in allowed:
            raise DataError(f"camera distortion {self.distortion!r} is not one of {', '.join(allowed)}")
        if len(self.coefficients) not in allowed[self.distortion]:
            raise DataError(
                f"camera distortion {self.distortion!r} takes {allowed[self.distortion]} coefficients, "
                f"got {len(self.coefficients)}"
            )

    @property
    def K(self) -> Float[np.ndarray, "3 3"]:
        """The 3×3 intrinsic matrix."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    @property
    def pinhole(self) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy."""
        return float(self.fx), float(self.fy), float(self.cx), float(self.cy)

    def resized(self, width: int, height: int) -> Camera:
        """Return the camera of the image resized to width×height; the half-pixel shift is applied."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def cropped(self, left: int, top: int, width: int, height: int) -> Camera:
        """Return the camera of the cut-out that starts at pixel (left, top).

        Raises:
            DataError: the cut-out leaves the image.
        """
        if left < 0 or top < 0 or left + width > self.width or top + height > self.height:
            raise DataError(f"crop {width}x{height}+{left}+{top} leaves the {self.width}x{self.height} image")
        return replace(self, width=width, height=height, cx=self.cx - left, cy=self.cy - top)

    def without_distortion(self) -> Camera:
        """Return the ideal pinhole camera with the same intrinsic matrix."""
        return replace(self, distortion="none", coefficients=())

    def undistortion_maps(self) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
        """Return where each pixel of `without_distortion()` lies in this camera's image: x and y."""
        D, size = np.array(self.coefficients), (self.width, self.height)
        lens = cv2.fisheye if self.distortion == "fisheye" else cv2
        map_x, map_y = lens.initUndistortRectifyMap(self.K, D, np.eye(3), self.K, size, cv2.CV_32FC1)
        return map_x, map_y

    def undistorter(self) -> Undistorter:
        """Return a function that maps this camera's images to those of `without_distortion()`, bilinearly."""
        if self.distortion == "none":
            return lambda rgb: rgb
        map_x, map_y = self.undistortion_maps()
        return lambda rgb: np.asarray(cv2.remap(rgb, map_x, map_y, cv2.INTER_LINEAR), dtype=np.uint8)
