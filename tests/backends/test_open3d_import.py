"""Open3D's import: lends libusb, and says what is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from remov3r.backends import open3d_import
from remov3r.backends.open3d_import import DEBIAN_PACKAGES, load_open3d, missing_system_libraries
from remov3r.errors import MissingDependencyError

LOAD = "from remov3r.backends.open3d_import import load_open3d\n"
# Behaves like Open3D on a machine without libusb: imports only once some libusb is in the process.
NEEDS_LIBUSB = """
with open("/proc/self/maps") as maps:
    if "libusb" not in maps.read():
        raise ImportError("libusb-1.0.so.0: cannot open shared object file: No such file or directory")
name = "stand-in"
"""


def run_with_stub(folder: Path, stub: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which `import open3d` finds the stub."""
    (folder / "open3d").mkdir()
    (folder / "open3d" / "__init__.py").write_text(stub)
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(root)])}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_libusb_is_preloaded_and_the_import_retried(tmp_path: Path) -> None:
    pytest.importorskip("libusb_package")
    done = run_with_stub(tmp_path, NEEDS_LIBUSB, LOAD + "print(load_open3d().name)")
    assert (done.returncode, done.stdout.strip()) == (0, "stand-in"), done.stderr


def test_missing_system_library_is_named_with_its_debian_package(tmp_path: Path) -> None:
    stub = 'raise ImportError("libEGL.so.1: cannot open shared object file")'
    done = run_with_stub(tmp_path, stub, LOAD + "load_open3d()")
    last = done.stderr.strip().splitlines()[-1]
    assert "MissingDependencyError" in last
    assert "apt-get install libegl1" in last


def test_unknown_import_failure_asks_for_a_reinstall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open3d.py").write_text('raise ImportError("undefined symbol: foo")')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    monkeypatch.setattr(open3d_import, "missing_system_libraries", lambda: ())
    with pytest.raises(MissingDependencyError, match=r"undefined symbol.*remov3r\[slam\]"):
        load_open3d()


def test_absent_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(MissingDependencyError, match=r"remov3r\[slam\]"):
        load_open3d()


def test_error_inside_open3d_for_another_module_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'dash'", name="dash")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="dash"):
        load_open3d()


def test_missing_libraries_are_listed_by_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(open3d_import, "_loads", lambda library: library == "libGL.so.1")
    monkeypatch.setattr(open3d_import, "preload_libusb", lambda: False)
    assert set(missing_system_libraries()) == set(DEBIAN_PACKAGES.values()) - {"libgl1"}
    monkeypatch.setattr(open3d_import, "preload_libusb", lambda: True)
    assert "libusb-1.0-0" not in missing_system_libraries()
    monkeypatch.setattr("sys.platform", "darwin")
    assert missing_system_libraries() == ()


def test_real_import_works_here() -> None:
    assert hasattr(load_open3d().t.geometry, "VoxelBlockGrid")
