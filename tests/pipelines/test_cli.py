"""The command line's own behaviour: usage, exit states, configuration."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable

import pytest

from remov3r.errors import ConfigError
from remov3r.pipelines import doctor
from remov3r.pipelines.build import build_backend
from remov3r.pipelines.cli import main
from remov3r.pipelines.config import PipelineConfig, load_config


def status_of(*arguments: str) -> int:
    try:
        return main(list(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("run",),
        ("run", "x", "--dataset", "moon"),
        ("run", "x", "--speed", "9"),
        ("eval", "out"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(*arguments) == 2
    assert "usage: remov3r" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--help") == 0
    out = capsys.readouterr().out
    assert all(
        command in out for command in ("run", "eval", "train", "data", "bench", "demo", "doctor", "config")
    )


def test_config_prints_what_can_be_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("config", "--set", "fusion.voxel_m=0.01", "--set", "backend=none") == 0
    tree = tomllib.loads(capsys.readouterr().out)
    assert PipelineConfig.model_validate(tree) == load_config("lite", ["fusion.voxel_m=0.01", "backend=none"])
    assert tree["fusion"]["voxel_m"] == 0.01


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("fusion.voxels=1", "fusion.voxels"),
        ("fusion.voxel_m=big", "fusion.voxel_m"),
        ("front_end=eyes", "front_end"),
        ("threads=-1", "threads"),
        ("mesh", "section.key=value"),
    ],
)
def test_wrong_settings_name_the_key(assignment: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("config", "--set", assignment) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_unknown_configuration_and_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("config", "--config", "heavy") == 1
    assert "lite" in capsys.readouterr().err
    config = load_config("lite", ["backend=magic"])
    with pytest.raises(ConfigError, match="no such backend; there are: bundle, none"):
        build_backend(config)


def test_unknown_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("remov3r.pipelines.run.load_config", breaks)
    with pytest.raises(ZeroDivisionError):
        main(["config"])


def test_doctor_reports_everything_and_fails_only_for_what_is_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [doctor.Finding("torch", "2.0"), doctor.Finding("evo", "not installed", "pip install it")]
    monkeypatch.setattr(doctor, "examine", lambda: found)
    assert status_of("doctor") == 0
    out = capsys.readouterr().out
    assert "ok      torch" in out
    assert "-> pip install it" in out
    found.append(doctor.Finding("gtsam", "not installed", "pip install 'remov3r[slam]'", needed=True))
    assert status_of("doctor") == 1
    assert "1 needed things are missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("missing_system_libraries", lambda: ("libusb-1.0-0",), "apt-get install -y libusb-1.0-0"),
        ("package_versions", lambda: {"gtsam": None}, "pip install 'remov3r[slam]'"),
    ],
)
def test_doctor_knows_remedies(
    monkeypatch: pytest.MonkeyPatch, name: str, damage: Callable[[], object], said: str
) -> None:
    monkeypatch.setattr(doctor, name, damage)
    assert any(finding.remedy == said and finding.needed for finding in doctor.examine())


@pytest.mark.parametrize("missing", ["gtsam", "open3d", "evo"])
def test_what_is_not_installed_is_missed_only_by_what_needs_it(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from remov3r.pipelines.cli import main; "
        "main(['config']); sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert "backend = " in done.stdout
    assert missing == "evo" or f"MISSING {missing} loads" in done.stdout


def test_doctor_looks_at_packages_weights_compute_video_and_disk() -> None:
    what = {finding.what.split()[0] for finding in doctor.examine()}
    assert {
        "remov3r",
        "python",
        "torch",
        "gtsam",
        "open3d",
        "evo",
        "compute",
        "weights",
        "video",
        "free",
    } <= what
