"""Trained weights: a safetensors file and, beside it, a card that says what they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError

from remov3r.config import Config
from remov3r.errors import DataError
from remov3r.models.boxes import NetworkConfig
from remov3r.models.network import Remov3rNetwork

SHIPPED = Path(__file__).parent / "weights"


class WeightsCard(Config):
    """What a weights file is.

    Attributes:
        version: of these weights, not of the package.
        sha256: of the safetensors file.
        config: of the network; holds the keyframe threshold.
        sigma_factor: fitted on validation data: the standard deviation of depth is sigma_factor · unit / confidence.
        sigma_unit: that unit: "pixel" is the pixel's depth, "scene" the mean distance of the frame's points.
        calibration_error: mean |empirical − nominal| coverage of the intervals that σ promises, there.
        covariance_factor: what the covariance of T_key_cam is multiplied by, fitted on validation data.
        data: what they were trained on, and its terms.
        figures: measured, by name.
    """

    version: str
    sha256: str
    config: NetworkConfig
    sigma_factor: float = Field(gt=0)
    sigma_unit: Literal["pixel", "scene"] = "pixel"
    calibration_error: float | None = None
    covariance_factor: float = Field(1.0, gt=0)
    data: str = ""
    figures: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """A network with its weights, in evaluation mode, and their card."""

    network: Remov3rNetwork
    card: WeightsCard


def weights_path(name_or_path: str | Path) -> Path:
    """Find a weights file: a path that ends in .safetensors, or the name of shipped weights ("lite").

    Raises:
        DataError: there is none.
    """
    path = Path(name_or_path)
    if path.suffix != ".safetensors":
        path = SHIPPED / f"{name_or_path}.safetensors"
    if not path.is_file():
        shipped = sorted(p.stem for p in SHIPPED.glob("*.safetensors"))
        raise DataError(
            f"weights {str(name_or_path)!r}: no file {path}; shipped are: {', '.join(shipped) or 'none'}; "
            "give one of these names or the path of a .safetensors file, or train: remov3r train"
        )
    return path


def save_network(
    network: Remov3rNetwork,
    path: str | Path,
    *,
    version: str,
    sigma_factor: float,
    sigma_unit: Literal["pixel", "scene"] = "pixel",
    calibration_error: float | None = None,
    covariance_factor: float = 1.0,
    data: str = "",
    figures: dict[str, float] | None = None,
    dtype: torch.dtype = torch.float16,
) -> WeightsCard:
    """Write a network's weights and their card (same name, .json).

    Args:
        path: ends in .safetensors; its folder is made.
        sigma_factor, sigma_unit, calibration_error, covariance_factor: see `WeightsCard`.
        dtype: stored precision.
    Raises:
        DataError: a weight is not finite in that precision, or the suffix is another.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise DataError(f"weights {path}: the name must end in .safetensors")
    state = {k: v.detach().cpu().to(dtype).contiguous() for k, v in network.state_dict().items()}
    bad = [k for k, v in state.items() if not bool(v.isfinite().all())]
    if bad:
        raise DataError(f"weights {path}: not finite as {dtype}: {', '.join(bad[:3])}")
    content = safetensors.torch.save(state)
    card = WeightsCard(
        version=version,
        sha256=hashlib.sha256(content).hexdigest(),
        config=network.config,
        sigma_factor=sigma_factor,
        sigma_unit=sigma_unit,
        calibration_error=calibration_error,
        covariance_factor=covariance_factor,
        data=data,
        figures=figures or {},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_suffix(".json").write_text(card.model_dump_json(indent=2) + "\n")
    return card


def read_card(name_or_path: str | Path) -> WeightsCard:
    """Read the card of a weights file.

    Raises:
        DataError: the weights or the card are missing or not valid.
    """
    path = weights_path(name_or_path).with_suffix(".json")
    try:
        return WeightsCard.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"weights card {path} is missing; copy it beside the .safetensors file") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise DataError(f"weights card {path}: {where}: {first['msg']}; restore the file") from error


def load_weights(name_or_path: str | Path) -> Weights:
    """Load a network, in evaluation mode on the CPU in float32, with its card.

    Raises:
        DataError: a file is missing or damaged, or the weights do not fit the network.
    """
    path, card = weights_path(name_or_path), read_card(name_or_path)
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256:
        raise DataError(
            f"weights {path}: sha256 is {found[:12]}…, its card says {card.sha256[:12]}…: the file is "
            "damaged or belongs to another card; reinstall the package or copy both files again"
        )
    network = Remov3rNetwork(card.config)
    try:
        network.load_state_dict(safetensors.torch.load(content))
    except (SafetensorError, RuntimeError) as error:
        raise DataError(f"weights {path} do not fit the network of this version: {error}") from error
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the faster one on CPUs
    return Weights(network.eval(), card)


def load_network(name_or_path: str | Path) -> Remov3rNetwork:
    """Load a network alone; see `load_weights`."""
    return load_weights(name_or_path).network
