"""Where a camera comes from: `--camera fx,fy,cx,cy`, a TOML calibration, or the data set's own default."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from remov3r.camera import Camera
from remov3r.errors import DataError

HOW = (
    "give --camera fx,fy,cx,cy (pixels) or --camera FILE.toml "
    "(width, height, fx, fy, cx, cy, distortion, coefficients)"
)
NUMBERS = ("fx", "fy", "cx", "cy")
KEYS = {"width", "height", *NUMBERS, "distortion", "coefficients"}


def camera_for(text: str | None, default: Camera | None, width: int, height: int, where: str) -> Camera:
    """Decide the camera of images of one size.

    Args:
        text: what the user gave: four numbers for images of this very size, or the path of a calibration.
        default: what the data set says, used when the user gave nothing.
        width, height: size of the images, pixels.
        where: names the input in messages.
    Raises:
        DataError: neither is there, or it cannot be read, or it is of another aspect than the images.
    """
    if text is not None and not text.endswith(".toml"):
        return _parse(text, width, height)
    camera = default if text is None else read_calibration(Path(text))
    if camera is None:
        raise DataError(f"{where}: the camera is unknown; {HOW}")
    return fit_to_image(camera, width, height, where)


def fit_to_image(camera: Camera, width: int, height: int, where: str) -> Camera:
    """Scale a camera to images of another size and the same aspect.

    Raises:
        DataError: the aspects differ, so that the images were cut and the calibration says nothing of where.
    """
    if (camera.width, camera.height) == (width, height):
        return camera
    if camera.width * height != camera.height * width:
        raise DataError(
            f"{where}: images are {width}x{height} but the calibration is for "
            f"{camera.width}x{camera.height}, another aspect; {HOW}"
        )
    return camera.resized(width, height)


def read_calibration(path: Path) -> Camera:
    """Read a TOML calibration: width, height, fx, fy, cx, cy and, with a lens, distortion and coefficients.

    Raises:
        DataError: missing file, not TOML, missing or unknown keys, or impossible values.
    """
    try:
        tree = tomllib.loads(path.read_text())
    except OSError as error:
        raise DataError(f"calibration {path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"calibration {path}: not valid TOML: {error}") from error
    missing, unknown = ({"width", "height", *NUMBERS} - set(tree), set(tree) - KEYS)
    if missing or unknown:
        wrong = [f"lacks {', '.join(sorted(missing))}"] if missing else []
        wrong += [f"has unknown {', '.join(sorted(unknown))}"] if unknown else []
        raise DataError(f"calibration {path}: {' and '.join(wrong)}")
    return _camera(tree, path)


def write_calibration(path: Path, camera: Camera) -> None:
    """Write what `read_calibration` reads.

    Args:
        path: the file to write, replaced when it exists.
    """
    lines = [f"width = {camera.width}", f"height = {camera.height}"]
    lines += [f"{key} = {getattr(camera, key)!r}" for key in NUMBERS]
    lines += [f'distortion = "{camera.distortion}"', f"coefficients = {list(camera.coefficients)}"]
    path.write_text("\n".join(lines) + "\n")


def sidecar_camera(path: Path) -> Camera | None:
    """Return the calibration beside a video or folder under its name (room.mp4, room.toml), if any."""
    file = path.resolve()
    file = file.with_name((file.name if file.is_dir() else file.stem) + ".toml")
    return read_calibration(file) if file.exists() else None


def _camera(tree: dict[str, Any], path: Path) -> Camera:
    try:
        width, height = int(tree["width"]), int(tree["height"])
        coefficients = tuple(float(c) for c in tree.get("coefficients", ()))
        fx, fy, cx, cy = (float(tree[key]) for key in NUMBERS)
    except (TypeError, ValueError) as error:
        raise DataError(f"calibration {path}: a value is not a number: {error}") from error
    try:
        return Camera(width, height, fx, fy, cx, cy, tree.get("distortion", "none"), coefficients)
    except DataError as error:
        raise DataError(f"calibration {path}: {error}") from error


def _parse(text: str, width: int, height: int) -> Camera:
    try:
        fx, fy, cx, cy = (float(part) for part in text.split(","))
    except ValueError as error:
        raise DataError(f"--camera {text!r}: need four numbers; {HOW}") from error
    return Camera(width, height, fx, fy, cx, cy)
