"""What `doctor` says of real-time rights, memory, and devices that are not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cartpole.config.load import load_config
from cartpole.config.schema import Config, Service
from cartpole.doctor import devices, machine
from cartpole.doctor.machine import Level

ROOT = Path(__file__).resolve().parent.parent


def test_a_refused_scheduler_names_what_stands_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refused = "SCHED_FIFO 50: Operation not permitted"
    by_limit = machine.refused_scheduler(Service(), refused, 0)
    assert by_limit.found == f"{refused} (the limit rtprio is 0)"
    assert "limits.d" in by_limit.advice
    by_group = machine.refused_scheduler(Service(), refused, 99)
    assert "cpu.rt_runtime_us" in by_group.advice


def test_locked_memory_must_be_there() -> None:
    few = machine.memory_room("MemTotal: 1000000 kB\nMemAvailable:  600000 kB\n")
    assert few.level is Level.WARN
    assert "585 MiB" in few.found
    assert "service.lock_memory" in few.advice
    assert machine.memory_room("MemAvailable:  4000000 kB\n").level is Level.OK
    assert machine.memory_room("").level is Level.OK


def test_a_spare_processor_is_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    spare = machine.processor(Service(), tmp_path)
    assert spare.level is Level.WARN
    assert "service.cpu to 3" in spare.advice
    assert "isolcpus=3" in spare.advice
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert machine.processor(Service(), tmp_path).level is Level.OK


def test_a_simulated_rig_needs_no_calibration() -> None:
    path = ROOT / "config" / "sim.yaml"
    assert machine.calibration_age(load_config(path, []), path).level is Level.SKIP
    path = ROOT / "config" / "rig.yaml"
    age = machine.calibration_age(load_config(path, []), path)
    assert (age.level, age.found) == (Level.WARN, "never")
    assert str(path) in age.advice


def test_every_line_is_there_without_a_rig() -> None:
    """Each failure says what to do; what could not be asked says why."""
    names = ("usb:1234:5678", "/dev/video99")
    config = Config.model_validate(
        {
            "motor": {"port": names[0]},
            "encoder": {"port": names[0]},
            "camera": {"source": "v4l2", "device": names[1]},
        }
    )
    found = {check.name: check for check in devices.rig_checks(config)}
    for name in ("motor port", "encoder port", "camera"):
        assert found[name].level is Level.FAIL
        assert found[name].advice
    assert names[0] in found["motor port"].found
    assert "this machine has" in found["camera"].found
    assert found["USB serial ports"].advice
    assert found["board, firmware"].level is Level.SKIP
    assert "permissions" in found


def test_cameras_are_named(tmp_path: Path) -> None:
    assert devices.cameras(tmp_path) == "none"
    folder = tmp_path / "class/video4linux/video0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("USB Camera-B4.09.24.1\n")
    assert devices.cameras(tmp_path) == "/dev/video0: USB Camera-B4.09.24.1"
