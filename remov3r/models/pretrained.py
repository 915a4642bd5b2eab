"""Put published weights into a new network: all that its boxes need, or an error that says what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from remov3r.errors import DataError
from remov3r.models import weight_files
from remov3r.models.align3r import load_align3r
from remov3r.models.depth_anything import DepthAnythingPrior
from remov3r.models.dinov2 import Dinov2Encoder
from remov3r.models.encoder import Encoder, read_imagenet_weights
from remov3r.models.pointmap_encoder import PointmapEncoder

VIT_FIELDS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size", "image_size", "mlp_ratio"),
    "use_swiglu_ffn",
)
DEPTH_FIELDS = (
    *("depth_estimation_type", "max_depth", "neck_hidden_sizes", "fusion_hidden_size", "head_hidden_size"),
    *("reassemble_hidden_size", "reassemble_factors", "patch_size", "head_in_index"),
)
NEVER_USED = "mask_token"  # of DINOv2's own training; some checkpoints lack it

Job = tuple[str, Callable[[], None]]


def load_pretrained(network: nn.Module, weights_dir: Path | None = None) -> list[str]:
    """Put published weights into all boxes of a network that have any.

    EfficientNet-Lite0 takes its package's, DINOv2 and Depth Anything those of the hub by name, a pointmap encoder
    with rotary positions those of Align3R. Nothing is loaded unless everything is there.

    Args:
        network: the whole network or a part of it.
        weights_dir: holds a folder per hub repository, called as its last part, and possibly align3r_*.pth;
            then nothing else is looked at. None takes the hub's cache and, if it is in reach, the hub.
    Returns:
        one line per box: what was loaded into it, and from where.
    Raises:
        DataError: files are missing (names all of them, and where to get them) or do not fit the network.
        MissingDependencyError: a package is not installed.
    """
    jobs: list[Job] = []
    missing: list[str] = []
    for module in network.modules():
        repository = _repository(module)
        if isinstance(module, Encoder):
            load = partial(module.load_imagenet, read_imagenet_weights())
            jobs.append(("EfficientNet-Lite0 (ImageNet) from its package", load))
        elif repository is not None:
            path = _path(repository, weights_dir)
            if path is None:
                missing += _said_missing(repository, weights_dir)
            else:
                jobs.append((f"{repository} from {path}", partial(_load, module, path)))
    if missing:
        raise DataError(_missing_message(missing, weights_dir))
    for _, job in jobs:
        job()
    return [line for line, _ in jobs]


def _repository(module: nn.Module) -> str | None:
    if isinstance(module, Dinov2Encoder | DepthAnythingPrior):
        return module.config.hub_name
    if isinstance(module, PointmapEncoder) and module.config.position == "rope":
        return weight_files.ALIGN3R
    return None


def _path(repository: str, weights_dir: Path | None) -> Path | None:
    if weights_dir is not None:
        return weight_files.find(repository, weights_dir)
    folder = weight_files.fetch(repository)
    if folder is None or repository != weight_files.ALIGN3R:
        return folder
    return folder / weight_files.SAFETENSORS


def _load(module: nn.Module, path: Path) -> None:
    if isinstance(module, PointmapEncoder):
        load_align3r(module, path)
    else:
        _load_hub_model(module.model, path)


def _load_hub_model(model: Any, folder: Path) -> None:
    """Load through transformers, which renames the keys of older files; any other difference is an error."""
    _require_same_architecture(model, folder)
    try:
        loaded, found = type(model).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise DataError(f"weights {folder}: damaged, or of another model: {error}") from error
    wrong = {
        kind: sorted(str(k) for k in found[kind] if NEVER_USED not in str(k))
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    if any(wrong.values()):
        said = "; ".join(
            f"{kind.replace('_', ' ')}: {', '.join(keys[:6])}{' …' if len(keys) > 6 else ''}"
            for kind, keys in wrong.items()
            if keys
        )
        raise DataError(
            f"weights {folder / weight_files.SAFETENSORS} do not fit: {said}; copy the folder again"
        )
    model.load_state_dict(loaded.state_dict())


def _require_same_architecture(model: Any, folder: Path) -> None:
    path = folder / "config.json"
    try:
        if json.loads(path.read_text())["model_type"] != model.config.model_type:
            raise DataError(f"{path}: not a {model.config.model_type} model; copy the right folder there")
        found = type(model.config).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a configuration of transformers: {error!r}") from error
    differences = list(_differences(model.config, found))
    if differences:
        raise DataError(f"{path} is of another size or kind of model: {'; '.join(differences)}")


def _differences(ours: Any, found: Any) -> Iterator[str]:
    vits = (ours, found)
    fields: tuple[str, ...] = VIT_FIELDS
    if hasattr(ours, "backbone_config"):
        vits = (ours.backbone_config, found.backbone_config)
        fields = (*VIT_FIELDS, "out_indices", "apply_layernorm", "reshape_hidden_states")
        yield from _unequal(DEPTH_FIELDS, ours, found)
    yield from _unequal(fields, *vits)


def _unequal(fields: tuple[str, ...], ours: Any, found: Any) -> Iterator[str]:
    for field in fields:
        need, have = (getattr(config, field, None) for config in (ours, found))
        if isinstance(need, list | tuple) and isinstance(have, list | tuple):
            need, have = list(need), list(have)
        if need != have:
            yield f"{field} is {have}, the network needs {need}"


def _said_missing(repository: str, weights_dir: Path | None) -> list[str]:
    source = f"from huggingface.co/{repository}"
    if weights_dir is None:
        names = ", ".join(weight_files.HUB_FILES)
        return [f"{names} for DIR/{repository.rsplit('/', 1)[-1]}/, {source}"]
    if repository == weight_files.ALIGN3R:
        path = weight_files.local_folder(repository, weights_dir) / weight_files.SAFETENSORS
        return [f"{path}, {source} (or {weights_dir / weight_files.ALIGN3R_PATTERN})"]
    return [f"{path}, {source}" for path in weight_files.missing_files(repository, weights_dir)]


def _missing_message(missing: list[str], weights_dir: Path | None) -> str:
    where = "the hub is out of reach and its cache lacks them" if weights_dir is None else "not in the folder"
    todo = (
        "put them into a folder DIR and give --weights-dir DIR" if weights_dir is None else "put them there"
    )
    return "pretrained weights are missing ({}); {}:\n  {}".format(where, todo, "\n  ".join(missing))
