"""The only place that imports Open3D, with a remedy or a clear error for what it needs from the system."""

from __future__ import annotations

import ctypes
import importlib
import logging
import sys
from typing import Any

from remov3r.errors import MissingDependencyError

logger = logging.getLogger(__name__)

# Shared libraries that Open3D's wheel links against but does not bring, with the Debian package of each.
DEBIAN_PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libudev.so.1": "libudev1",
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libidn2.so.0": "libidn2-0",
}


def load_open3d() -> Any:
    """Import Open3D, lending it the libusb of the package `libusb-package` where the system has none.

    Raises:
        MissingDependencyError: Open3D is not installed, or a system library is missing; names the remedy.
    """
    try:
        return importlib.import_module("open3d")
    except ModuleNotFoundError as error:
        if error.name != "open3d":
            raise
        raise MissingDependencyError(
            "Open3D is not installed; install it with: pip install 'remov3r[slam]'"
        ) from error
    except ImportError as error:
        if "libusb" in str(error) and preload_libusb():
            return _retry()
        raise _explained(error) from error


def preload_libusb() -> bool:
    """Load the libusb that `libusb-package` ships, so that Open3D finds it; return whether that worked."""
    try:
        path = importlib.import_module("libusb_package").get_library_path()
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except (ImportError, OSError) as error:
        logger.debug("libusb could not be preloaded: %s", error)
        return False
    return True


def missing_system_libraries() -> tuple[str, ...]:
    """Name the Debian packages of the system libraries that Open3D would miss here (empty off Linux).

    A libusb that can be preloaded from `libusb-package` does not count as missing.
    """
    if not sys.platform.startswith("linux"):
        return ()
    missing = [package for library, package in DEBIAN_PACKAGES.items() if not _loads(library)]
    if "libusb-1.0-0" in missing and preload_libusb():
        missing.remove("libusb-1.0-0")
    return tuple(missing)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _retry() -> Any:
    # A failed import leaves half-initialised submodules behind.
    for name in [n for n in sys.modules if n == "open3d" or n.startswith("open3d.")]:
        del sys.modules[name]
    try:
        return importlib.import_module("open3d")
    except ImportError as error:
        raise _explained(error) from error


def _explained(error: ImportError) -> MissingDependencyError:
    named = [package for library, package in DEBIAN_PACKAGES.items() if library in str(error)]
    packages = list(dict.fromkeys([*named, *missing_system_libraries()]))
    if packages:
        return MissingDependencyError(
            f"Open3D misses system libraries ({error}); on Debian: apt-get install {' '.join(packages)}"
        )
    return MissingDependencyError(
        f"Open3D does not load ({error}); reinstall it with: pip install --force-reinstall 'remov3r[slam]'"
    )
