from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from remov3r.training.overfit import SET, judged, main, overfit_config, write_clip
from remov3r.training.pose_figures import ClipErrors
from remov3r.training.shards import open_shard
from remov3r.training.trainer import RunOptions, Trainer
from tests.models.tiny import tiny_config
from tests.training.conftest import small_clips


def test_the_clip_is_the_one_asked_for(posed_folder: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / SET, posed_folder, "auto", 2, 4)
    clip = open_shard(tmp_path / SET / f"{SET}-00000.npz")
    assert (len(clip), clip.frames) == (1, 4)
    np.testing.assert_allclose(clip.T_world_cam[0], small_clips(1, 6, 3).T_world_cam[0, 2:], atol=1e-6)


def test_a_few_steps_lower_the_errors_of_the_clip(posed_folder: Path, tmp_path: Path) -> None:
    config = overfit_config(4, 1, ["optimizer.warmup_steps=10", "clips.lr=1e-3"])  # there are 40 steps
    config = config.model_copy(
        update={"network": tiny_config(), "width": 64, "height": 64, "precision": "fp32"}
    )
    write_clip(tmp_path / SET, posed_folder, "auto", 0, 4)
    reports = []
    for steps in (1, 40):
        options = RunOptions(tmp_path, tmp_path / f"run{steps}", "clips", max_steps=steps)
        reports.append(Trainer(config, options).run())
    first, last = reports
    assert first is not None
    assert last is not None
    assert last.mean.abs_rel < 0.5 * first.mean.abs_rel
    assert last.poses[SET].translation_m < first.poses[SET].translation_m
    assert last.poses[SET].rotation_deg < first.poses[SET].rotation_deg
    good = last.poses[SET].model_copy(
        update={"clip": ClipErrors(ate_rmse_m=0.019, rte_rmse_m=0, rre_rmse_deg=0.29)}
    )
    close = last.mean.model_copy(update={"abs_rel": 0.049})
    assert judged(last.model_copy(update={"mean": close, "poses": {SET: good}}))[1]
    assert not judged(first)[1]


def test_missing_data_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main([str(tmp_path / "nothing")]) == 1
    assert "nothing" in caplog.text
