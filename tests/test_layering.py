"""Guards for the direction of imports, and for what `import remov3r` costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Who may import whom, by top-level folder; remov3r is the ground on which all stand.
ALLOWED: dict[str, set[str]] = {
    "remov3r": set(),
    "backends": {"remov3r"},
    "eval": {"remov3r"},
    "pipelines": {"remov3r", "backends", "eval"},
}
# The front doors (`from remov3r import Slam`) are imported by name only when they are used.
FRONT_DOOR = ROOT / "remov3r" / "__init__.py"
WRAPPED = {
    "gtsam": {"backends/gtsam_graph.py"},
    "open3d": {"backends/open3d_import.py"},
    "evo": {"eval/trajectory.py"},
    "matplotlib": {"remov3r/training/reliability_plot.py", "eval/plots.py"},
    "webdataset": {"remov3r/training/tar_shards.py"},
    "openvino": {"remov3r/models/engine.py"},
    "onnxruntime": {"remov3r/training/teachers.py"},
    "faiss": {"backends/place_index.py"},
}


def modules(folder: str) -> Iterator[Path]:
    for path in (ROOT / folder).rglob("*.py"):
        if not any(parent.is_symlink() for parent in path.parents):
            yield path


def imported(path: Path) -> Iterator[str]:
    """Every module that a file names in an import statement or to importlib.import_module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "import_module":
            yield from (str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant))


def layer(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] != "remov3r":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "remov3r"


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_one_way(folder: str) -> None:
    for path in modules(folder):
        if path != FRONT_DOOR:
            reached = {name for module in imported(path) if (name := layer(module))}
            assert reached <= ALLOWED[folder] | {folder}, f"{path} imports from {reached}"


@pytest.mark.parametrize("library", WRAPPED)
def test_each_library_is_imported_in_one_module(library: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for folder in ALLOWED
        for path in modules(folder)
        if library in {module.split(".")[0] for module in imported(path)}
    }
    assert users == WRAPPED[library]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_or_the_command_line_is_light() -> None:
    heavy = "torch numpy cv2 pypose gtsam open3d evo scipy pydantic rich"
    code = "import sys, remov3r, remov3r.pipelines.cli; print(*set('{}'.split()) & set(sys.modules))"
    assert run_python(code.format(heavy)) == ""


def test_training_and_inference_need_no_slam_library() -> None:
    code = (
        "import sys, remov3r.frontends.network, remov3r.models.network, remov3r.losses; "
        "print(*set('gtsam open3d evo rich plotly trimesh'.split()) & set(sys.modules))"
    )
    assert run_python(code) == ""


def test_the_front_doors_open() -> None:
    import remov3r

    assert {remov3r.Slam.__name__, remov3r.reconstruct.__name__} == {"Slam", "reconstruct"}
    with pytest.raises(AttributeError, match="nothing"):
        _ = remov3r.nothing
