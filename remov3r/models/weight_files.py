"""The weight files of others that a network can start from: where they come from, where they lie, their terms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from remov3r.errors import DataError, MissingDependencyError
from remov3r.models.depth_anything import DepthAnythingConfig
from remov3r.models.dinov2 import Dinov2EncoderConfig
from remov3r.models.transformers_import import load_hub

SAFETENSORS = "model.safetensors"
HUB_FILES = ("config.json", SAFETENSORS)
ALIGN3R = "cyun9286/Align3R_DepthAnythingV2_ViTLarge_BaseDecoder_512_dpt"
ALIGN3R_PATTERN = "align3r_*.pth"  # what its training script writes

APACHE, NON_COMMERCIAL = "Apache-2.0", "CC-BY-NC-4.0"


@dataclass(frozen=True)
class HubWeights:
    """Published weights.

    Attributes:
        repository: on the hub, owner/name; the folder to look in is called as its last part.
        commercial: whether the licence allows commercial use.
    """

    repository: str
    licence: str
    commercial: bool

    @property
    def folder_name(self) -> str:
        """Folder under the weights folder."""
        return self.repository.rsplit("/", 1)[-1]


HUB_WEIGHTS = (
    *(HubWeights(Dinov2EncoderConfig(size=s).hub_name, APACHE, True) for s in ("small", "base", "large")),
    HubWeights(DepthAnythingConfig(size="small").hub_name, APACHE, True),
    *(HubWeights(DepthAnythingConfig(size=s).hub_name, NON_COMMERCIAL, False) for s in ("base", "large")),
    HubWeights(ALIGN3R, "CC-BY-NC-SA-4.0", False),
)


def local_folder(repository: str, weights_dir: Path) -> Path:
    """Give the folder in which the files of a repository are to lie."""
    return weights_dir / repository.rsplit("/", 1)[-1]


def missing_files(repository: str, weights_dir: Path) -> list[Path]:
    """List the files of a repository that are not in the weights folder."""
    folder = local_folder(repository, weights_dir)
    return [folder / name for name in HUB_FILES if not (folder / name).is_file()]


def find_align3r(weights_dir: Path) -> Path | None:
    """Look for Align3R's weights, the hub's file first; None if there are none.

    Raises:
        DataError: there is more than one .pth file.
    """
    from_hub = local_folder(ALIGN3R, weights_dir) / SAFETENSORS
    if from_hub.is_file():
        return from_hub
    files = sorted(weights_dir.glob(ALIGN3R_PATTERN))
    if len(files) > 1:
        raise DataError(
            f"{weights_dir}: which Align3R weights? {', '.join(f.name for f in files)}; keep only one there"
        )
    return files[0] if files else None


def find(repository: str, weights_dir: Path | None) -> Path | None:
    """Say where weights lie, without loading or fetching anything; None if they are not here.

    Args:
        weights_dir: folder of weights; None looks in the hub's cache.
    """
    if weights_dir is not None:
        if repository == ALIGN3R:
            return find_align3r(weights_dir)
        folder = local_folder(repository, weights_dir)
        return None if missing_files(repository, weights_dir) else folder
    try:
        cached = load_hub().try_to_load_from_cache(repository, SAFETENSORS)
    except MissingDependencyError:
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def fetch(repository: str) -> Path | None:
    """Get the files of a repository from the hub's cache or the hub, and say in which folder they are.

    Returns:
        None if they are in neither, or the hub is out of reach.

    Raises:
        MissingDependencyError: the hub's client is not installed.
    """
    try:
        folder = Path(load_hub().snapshot_download(repository, allow_patterns=list(HUB_FILES)))
    except OSError:
        return None
    # Without the hub, what the cache has is given back, whole or not.
    return folder if all((folder / name).is_file() for name in HUB_FILES) else None
