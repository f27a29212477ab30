"""``cartpole calibrate`` and ``check-config`` as a person runs them."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from calibration.sessions import load_recording
from cartpole import cli
from cartpole.config.load import load_config
from cartpole.errors import SessionError


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of the console script in this process."""
    monkeypatch.setattr(sys, "argv", ["cartpole", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.fixture
def swing_csv(tmp_path: Path) -> Path:
    """A decaying swing of a rod of 0.6 m, at 100 Hz, integrated finely."""
    theta, omega, step = 2.4, 0.0, 1e-3
    rows = []
    for k in range(12_000):
        if k % 10 == 0:
            rows.append(f"{k * step:.4f},0.0,{theta:.6f}")
        for _ in range(2):  # two half steps of the midpoint rule
            h = 0.5 * step
            middle = omega - 0.5 * h * (2.5 * 9.81 * math.sin(theta) + 0.1 * omega)
            turned = theta + 0.5 * h * omega
            omega -= h * (2.5 * 9.81 * math.sin(turned) + 0.1 * middle)
            theta += h * middle
    noise = np.random.default_rng(0).normal(0.0, 1e-3, len(rows))
    lines = [
        f"{row.rsplit(',', 1)[0]},{float(row.rsplit(',', 1)[1]) + e:.6f}"
        for row, e in zip(rows, noise, strict=True)
    ]
    path = tmp_path / "swing.csv"
    path.write_text("t_s,p_m,theta_rad\n" + "\n".join(lines) + "\n")
    return path


def test_numbers_go_into_the_settings_with_their_source(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    swing_csv: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings, figures = tmp_path / "rig.yaml", tmp_path / "f.json"
    settings.write_text("# mine\npole:\n  length_m: 0.5  # guess\n")
    code = run(
        monkeypatch,
        *("calibrate", "pole", "--session", swing_csv, "--config", settings, "--write"),
        *("--json", figures, "--plot", tmp_path / "r.png"),
    )
    assert code == 0
    found = json.loads(figures.read_text())
    assert found["pole.length_m"]["value"] == pytest.approx(0.6, rel=0.01)
    assert set(found["pole.length_m"]) == {"value", "ci95", "unit"}
    assert {"fit", "refused"} <= found.keys()
    text = settings.read_text()
    assert text.startswith("# calibrated from swing.csv sha256 ")
    assert "# guess" in text
    assert load_config(settings).pole.length_m == pytest.approx(0.6, rel=0.01)
    assert len(list(tmp_path.glob("rig.yaml.*.bak"))) == 1
    assert (tmp_path / "r.png").stat().st_size > 1000
    assert "±" in capsys.readouterr().out


def test_nothing_is_written_when_the_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, still = tmp_path / "rig.yaml", tmp_path / "still.csv"
    settings.write_text("{}\n")
    still.write_text("t_s,p_m,theta_rad\n" + "".join(f"{k / 50},0,0\n" for k in range(200)))
    arguments = ("--session", still, "--config", settings, "--write")
    assert run(monkeypatch, "calibrate", "pole", *arguments) == 1
    assert settings.read_text() == "{}\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["rig.yaml", "still.csv"]
    error = capsys.readouterr().err
    assert "hardly moves" in error
    assert len(error.strip().splitlines()) == 1
    assert run(monkeypatch, "calibrate", "motor", *arguments) == 1
    assert run(monkeypatch, "calibrate", "pole", "--session", still, "--write") == 2


def test_broken_sessions_are_typed(tmp_path: Path) -> None:
    path = tmp_path / "broken.mcap"
    path.write_bytes(b"\x89MCAP0\r\n" + bytes(range(256)) * 30)
    with pytest.raises(SessionError):
        load_recording(path, load_config(None))


def test_check_config_and_schema(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("pole:\n  length_m: 0.6\n")
    assert run(monkeypatch, "check-config", path) == 0
    path.write_text("pole:\n  length_m: 4\n")
    capsys.readouterr()
    assert run(monkeypatch, "check-config", path) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert "c.yaml:2: pole.length_m" in error[0]
    assert run(monkeypatch, "schema") == 0
    assert "length_m" in json.dumps(json.loads(capsys.readouterr().out))


def test_several_recordings_give_their_median_and_spread(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    swing_csv: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = swing_csv.read_text().splitlines(keepends=True)
    other = tmp_path / "later.csv"
    other.write_text("".join([lines[0], *lines[201:]]))
    figures = tmp_path / "f.json"
    sessions = ("--session", swing_csv, "--session", other)
    assert run(monkeypatch, "calibrate", "pole", *sessions, "--json", figures) == 0
    found = json.loads(figures.read_text())
    assert found["pole.length_m"]["value"] == pytest.approx(0.6, rel=0.01)
    said = capsys.readouterr().out
    assert "pole.length_m: 2 of 2 recordings" in said
    assert "later.csv" in said
    assert run(monkeypatch, "calibrate", "all", *sessions) == 2


def test_an_imported_table_is_fitted_as_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, swing_csv: Path
) -> None:
    imported = tmp_path / "swing.mcap"
    assert run(monkeypatch, "import", swing_csv, "-o", imported) == 0
    lengths = []
    for path in (swing_csv, imported):
        figures = tmp_path / "f.json"
        assert run(monkeypatch, "calibrate", "pole", "--session", path, "--json", figures) == 0
        lengths.append(json.loads(figures.read_text())["pole.length_m"])
    assert lengths[0] == lengths[1]


def test_spoilt_recordings_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut anywhere, or with bytes changed: numbers or one line, never a traceback."""
    keep = f"session.folder={tmp_path}"
    assert run(monkeypatch, "calibrate", "motor", "--set", keep) == 0
    (whole,) = tmp_path.glob("calibrate-motor-*.mcap")
    good, spoilt = whole.read_bytes(), tmp_path / "spoilt.mcap"
    rng = np.random.default_rng(0)
    for _ in range(12):
        data = bytearray(good)
        for at in rng.integers(0, len(data), 20).tolist():
            data[at] ^= int(rng.integers(1, 256))
        if rng.random() < 0.5:
            del data[int(rng.integers(0, len(data))) :]
        spoilt.write_bytes(data)
        capsys.readouterr()
        code = run(monkeypatch, "calibrate", "motor", "--session", spoilt)
        assert code in (0, 1)
        if code:
            error = capsys.readouterr().err.strip().splitlines()
            assert len(error) == 1
            assert error[0].startswith("cartpole: ")
