"""What a user meets first: version, a settings file, the shipped files, a wheel that is whole."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cartpole import __version__
from cartpole.cli import init
from cartpole.cli.common import load, writable_folder
from cartpole.config.load import load_config
from cartpole.errors import UsageError
from cartpole.first_settings import BOARDS, Answers, settings_text
from cartpole.shipped import FOLDERS, shipped

ROOT = Path(__file__).resolve().parent.parent


def cartpole(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cartpole", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_version(tmp_path: Path) -> None:
    done = cartpole("--version", folder=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, f"cartpole {__version__}")


def test_without_settings_the_simulated_rig_is_meant() -> None:
    assert load(None, []) == load_config(ROOT / "config" / "sim.yaml")


@pytest.mark.parametrize("board", BOARDS)
def test_init_writes_good_commented_settings(board: str, tmp_path: Path) -> None:
    file = tmp_path / "new" / "my-rig.yaml"
    done = cartpole("init", str(file), "--board", board, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert file.read_text().count("#") > 10
    protocol = load_config(file).motor.protocol
    assert protocol == ("bridge" if board == "bridge" else "sabertooth_text")
    checked = cartpole("check-config", str(file), folder=tmp_path)
    assert checked.returncode == 0, checked.stderr
    again = cartpole("init", str(file), "--board", board, folder=tmp_path)
    assert again.returncode == 2
    assert "exists" in again.stderr


def test_init_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    init.register(app)
    said = CliRunner().invoke(app, ["a.yaml"], input="sim\n1.2\n0.6\n")
    assert said.exit_code == 0, said.output
    config = load_config(tmp_path / "a.yaml")
    assert (config.rig.track_length_m, config.pole.length_m) == (1.2, 0.6)
    assert config.rig.position_limit_m == pytest.approx(0.52)


def test_one_board_that_does_both_has_one_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    init.register(app)
    said = CliRunner().invoke(app, ["b.yaml"], input="bridge\n/dev/ttyACM3\nnone\n0.9\n0.4\n")
    assert said.exit_code == 0, said.output
    config = load_config(tmp_path / "b.yaml")
    assert config.motor.port == config.encoder.port == "/dev/ttyACM3"


def test_answers_that_make_no_sense_beside_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="velocity_limit_m_s"):
        settings_text(Answers("sim", "", "", 0.3, 0.5, "none"))


def test_outputs_make_their_folder_or_say_why_not(tmp_path: Path) -> None:
    assert writable_folder(tmp_path / "a" / "b" / "figures.json").is_dir()
    with pytest.raises(UsageError, match="is a folder"):
        writable_folder(tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        writable_folder(tmp_path / "file" / "figures.json")


def test_a_wheel_carries_every_shipped_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    wanted = ("cartpole/", "firmware_bridge/", "calibration/", *(f"{one}/" for one in FOLDERS))
    for name in names:
        if name.startswith(wanted) or name in ("pyproject.toml", "README.md", "LICENSE"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.namelist()
    for name in names:
        if name.startswith(tuple(f"{one}/" for one in FOLDERS)):
            assert any(entry.endswith(f"share/cartpole/{name}") for entry in packed), name
        elif name.startswith(("cartpole/", "firmware_bridge/", "calibration/")):
            assert name in packed, name


def test_a_file_that_is_not_shipped_is_named() -> None:
    with pytest.raises(UsageError, match=r"nothing\.yaml"):
        shipped("config", "nothing.yaml")
