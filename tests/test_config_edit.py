"""Surgical edits of settings files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cartpole.config.edit import edited, write_values
from cartpole.config.load import flatten, load_config, loads_config
from cartpole.errors import ConfigError

TEXT = """# my rig
pole:
  length_m: 0.5   # the blue one
  # heavy bob


motor: {tau_s: 0.05}   # servo
camera:
  # nothing yet
startup:
  action: disarmed
"""
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("pole.length_m", 0.395, "  length_m: 0.395   # the blue one"),
        ("pole.damping_1_s", 0.1, "  damping_1_s: 0.1"),
        ("motor.tau_s", 0.06, "motor: {tau_s: 0.06}   # servo"),
        ("motor.delay_s", 0.01, "motor: {tau_s: 0.05, delay_s: 0.01}   # servo"),
        ("camera.lens_k1", -0.1, "  lens_k1: -0.1"),
        ("startup.action", "swing_up", "  action: swing_up"),
        ("encoder.cart_sign", -1, "encoder:"),
        ("controller.weights.angle", 2.0, "    angle: 2.0"),
        ("rig.name", "on: #1", '  name: "on: #1"'),
    ],
)
def test_one_value_changes_and_every_other_line_stays(
    key: str, value: float | str, line: str
) -> None:
    new = edited(TEXT, {key: value}, "t")
    assert line in new.split("\n")
    assert flatten(loads_config(new, "t")) == flatten(loads_config(TEXT, "t")) | {key: value}
    for comment in ("# my rig", "# the blue one", "  # heavy bob", "# servo", "  # nothing yet"):
        assert comment in new
    untouched = [one for one in TEXT.split("\n") if one not in new.split("\n")]
    assert len(untouched) <= 1


@pytest.mark.parametrize("text", ["{}\n", "{}", "pole:", "pole: {}", "# only a comment\npole:\n"])
def test_small_files_take_values(text: str) -> None:
    new = edited(text, {"pole.length_m": 0.4, "motor.tau_s": 0.06, "pole.damping_1_s": 0.2}, "t")
    config = loads_config(new, "t")
    assert (config.pole.length_m, config.motor.tau_s, config.pole.damping_1_s) == (0.4, 0.06, 0.2)


def test_homography_keeps_its_place(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("camera:\n  homography: [1,0,0,\n    0,1,0,0,0,1] # seen\n  gain: 3\n")
    values = (181.0, 0.5, 160.0, 0.0, -179.0, 120.0, 0.0, 0.001, 1.0)
    write_values(path, {"camera.homography": values}, now=NOW)
    assert load_config(path).camera.homography == values
    assert "# seen\n  gain: 3" in path.read_text()


def test_backup_header_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(TEXT)
    path.chmod(0o640)
    backup = write_values(path, {"pole.length_m": 0.4}, "calibrated from session ab12", now=NOW)
    again = write_values(path, {"pole.length_m": 0.41}, "calibrated from session cd34", now=NOW)
    assert backup.read_text() == TEXT
    assert backup.name == "c.yaml.20260301T120000.bak"
    assert again != backup
    lines = path.read_text().split("\n")
    assert lines[0] == "# calibrated from session cd34"
    assert lines[1] == "# my rig"
    assert path.stat().st_mode & 0o777 == 0o640
    assert load_config(path).pole.length_m == 0.41


@pytest.mark.parametrize(
    "values",
    [
        {"pole.length_m": 9.0},
        {"pole.no_such": 1.0},
        {"pole": 1.0},
        {"pole.length_m": 0.4, "camera.tape_end_m": 0.021},
    ],
)
def test_nothing_is_written_when_the_result_is_bad(
    tmp_path: Path, values: dict[str, float]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(TEXT)
    with pytest.raises(ConfigError):
        write_values(path, values, now=NOW)
    assert path.read_text() == TEXT
    assert [one.name for one in tmp_path.iterdir()] == ["c.yaml"]


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        write_values(tmp_path / "c.yaml", {"pole.length_m": 0.4}, now=NOW)
