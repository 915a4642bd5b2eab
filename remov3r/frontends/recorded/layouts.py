"""Open what any known front end wrote, told by its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from remov3r.errors import ConfigError, DataError
from remov3r.frontends.recorded.cut3r import is_cut3r, read_cut3r
from remov3r.frontends.recorded.droid_slam import is_droid_slam, read_droid_slam
from remov3r.frontends.recorded.mast3r_slam import is_mast3r_slam, read_mast3r_slam
from remov3r.frontends.recorded.neutral import MANIFEST, read_neutral
from remov3r.frontends.recorded.recording import Recording
from remov3r.frontends.recorded.slam3r import is_slam3r, read_slam3r
from remov3r.frontends.recorded.vggt_slam import is_vggt_slam, read_vggt_slam
from remov3r.frontends.recorded.vista_slam import is_vista_slam, read_vista_slam

# name -> whether it is there, and how to read it
LAYOUTS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], Recording]]] = {
    "remov3r": (lambda path: (path / MANIFEST).exists(), read_neutral),
    "cut3r": (is_cut3r, read_cut3r),
    "slam3r": (is_slam3r, read_slam3r),
    "vista-slam": (is_vista_slam, read_vista_slam),
    "droid-slam": (is_droid_slam, read_droid_slam),
    "vggt-slam": (is_vggt_slam, read_vggt_slam),
    "mast3r-slam": (is_mast3r_slam, read_mast3r_slam),
}


def open_recording(name: str) -> Recording:
    """Open a recording.

    Args:
        name: its folder or file, or LAYOUT:PATH to insist on a layout.
    Raises:
        ConfigError: nothing is named.
        DataError: nothing there, nothing known there, or a file is missing or damaged.
    """
    kind, path = locate(name)
    return LAYOUTS[kind][1](path)


def locate(name: str) -> tuple[str, Path]:
    """Return layout and path of a recording; the layout is told by the files where none is named.

    Raises:
        ConfigError: nothing is named.
        DataError: nothing there, or nothing known there.
    """
    kind, _, rest = name.partition(":")
    forced = kind in LAYOUTS and ":" in name
    if not (rest if forced else name):
        raise ConfigError(f"recording {name!r}: give its folder, such as recorded:DIR or recorded:cut3r:DIR")
    path = Path(rest if forced else name)
    if not path.exists():
        raise DataError(f"{path}: no such recording")
    if forced:
        return kind, path
    found = next((kind for kind, (is_there, _) in LAYOUTS.items() if is_there(path)), None)
    if found is None:
        raise DataError(
            f"{path}: no recording of a known layout ({', '.join(LAYOUTS)}); docs/recorded.md lists their files"
        )
    return found, path
