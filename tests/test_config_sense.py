"""Settings that are each allowed and together make no sense are told, with file, line and key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cartpole.config.load import load_config, loads_config
from cartpole.config.sense import doubts

ROOT = Path(__file__).resolve().parent.parent
NONSENSE = (
    ("encoder: {port: /dev/ttyUSB0}\nmotor: {port: /dev/ttyUSB0}", "encoder.port"),
    ("pole: {length_m: 0.4}", "camera.tape_end_m"),
    ("rig: {position_limit_m: 0.438}", "rig.position_limit_m"),
    ("rig: {velocity_limit_m_s: 3.0}\nmotor: {counts_per_m_s: 500.0}", "rig.velocity_limit_m_s"),
    ("camera: {exposure_s: 0.02, rate_hz: 187.0}", "camera.exposure_s"),
    ("camera: {readout_s: 0.03}", "camera.readout_s"),
    ("motor: {port: 'usb:zzzz:0001'}", "motor.port"),
    ("encoder: {port: 'usb:0000:0001'}", "encoder.port"),
    ("motor: {counts_per_m_s: 15000.0}", "motor.counts_per_m_s"),
    ("encoder: {poll_hz: 900.0}", "encoder.poll_hz"),
    ("camera: {homography: [20.0, 0.0, 160.0, 0.0, -20.0, 120.0, 0.0, 0.0, 1.0]}",
     "camera.homography"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "key"), NONSENSE, ids=[key for _, key in NONSENSE])
def test_what_cannot_be_meant_is_doubted(text: str, key: str) -> None:
    assert key in [one.key for one in doubts(loads_config(text, "test"))]


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_settings_make_sense(path: Path) -> None:
    assert doubts(load_config(path)) == []


def test_check_config_names_file_line_and_key(tmp_path: Path) -> None:
    file = tmp_path / "rig.yaml"
    file.write_text("rig:\n  name: mine\nmotor:\n  port: 'usb:zzzz:0001'\n")
    command = [sys.executable, "-m", "cartpole", "check-config", str(file)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{file}:4: motor.port: 'usb:zzzz:0001' is no port" in done.stderr
