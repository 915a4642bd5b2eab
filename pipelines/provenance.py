"""Which code made an output."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import remov3r

PACKAGES = ("torch", "numpy", "scipy", "opencv-python", "pypose", "pydantic", "gtsam", "open3d", "evo")


def code_version() -> str:
    """Return the package's version, with the commit where it runs from a git checkout."""
    root = Path(remov3r.__file__).resolve().parents[1]
    commit = _git(root, "rev-parse", "--short=12", "HEAD") if (root / ".git").exists() else None
    if commit is None:
        return remov3r.__version__
    changed = "+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    return f"{remov3r.__version__} commit {commit}{changed}"


def package_versions() -> dict[str, str | None]:
    """Return the installed version of each package that matters, None where it is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
