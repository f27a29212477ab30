"""The unit: hardened as promised, and alive under a real systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from systemd_machine import Machine, machine, need_machine

from cartpole.kernel_cache import ENVIRONMENT, MARKER, cache_root, kernel_fingerprint

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "systemd" / "cartpole.service"
SETTINGS = "/etc/cartpole/rig.yaml"
COLD_S = 300.0  # kernels are compiled on a first start

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)


@needs_analyze
def test_exposure_is_at_most_one_and_a_half() -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=15", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1:]


@needs_analyze
def test_systemd_knows_every_key(tmp_path: Path) -> None:
    copy = tmp_path / "cartpole.service"
    copy.write_text(UNIT.read_text().replace("/opt/cartpole/bin/cartpole", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which `cartpole service install` was run, with the simulated rig's settings."""
    need_machine()
    with machine(tmp_path_factory.mktemp("machine")) as found:
        if found.run(sys.executable, "-c", "import numba").returncode != 0:
            pytest.skip(f"the container does not show {sys.executable}")
        done = found.run(
            *(sys.executable, "-m", "cartpole", "service", "install", "--yes"),
            *("--config", str(ROOT / "config" / "sim.yaml")),
        )
        assert done.returncode == 0, done.stderr
        settings = found.root / SETTINGS[1:]
        text = settings.read_text().replace("action: swing_up", "action: disarmed")
        settings.write_text(text)
        warm = _kernels()
        if warm is not None:  # else the first start compiles, which takes minutes
            name = f"kernels-{kernel_fingerprint()}"
            shutil.copytree(warm, found.root / "var/cache/cartpole" / name)
            found.run("chown", "-R", "cartpole:cartpole", "/var/cache/cartpole")
        yield found


def _kernels() -> Path | None:
    named = os.environ.get(ENVIRONMENT)
    folder = Path(named) if named else cache_root() / f"kernels-{kernel_fingerprint()}"
    return folder if (folder / MARKER).exists() else None


def _status(booted: Machine) -> str:
    # By the socket alone: the settings may be bad at the time.
    place = "service.socket=/run/cartpole/cartpole.sock"
    done = booted.run(sys.executable, "-m", "cartpole", "status", "--set", place)
    return done.stdout + done.stderr


@pytest.mark.realtime
def test_life_of_the_service(booted: Machine) -> None:
    """One boot, in order: start, READY, reload good and bad, a hung loop, stop."""
    started = booted.run("systemctl", "start", "cartpole", timeout_s=COLD_S)
    assert started.returncode == 0, booted.journal()
    assert booted.show("ActiveState") == "active"
    process = booted.show("MainPID")
    assert "DISARMED" in _status(booted)
    owner = booted.run("stat", "-c", "%U", f"/proc/{process}").stdout.strip()
    assert owner == "cartpole"
    _check_real_time(booted, process)

    _reload(booted, "angle: 1.5", "settings changed: controller.weights.angle")
    _reload(booted, "angel: 1.5", "angel: unknown key")
    assert booted.show("MainPID") == process
    assert "DISARMED" in _status(booted)
    _reload(booted, "angle: 1.5", "")

    booted.run("kill", "-STOP", process)
    end_s = time.monotonic() + 30.0
    while booted.show("MainPID") in (process, "0") and time.monotonic() < end_s:
        time.sleep(0.2)
    assert booted.show("MainPID") not in (process, "0"), booted.journal()
    assert "atchdog" in booted.journal()
    assert booted.wait("ActiveState", "active", 60.0) == "active"
    assert "DISARMED" in _status(booted)

    began_s = time.monotonic()
    booted.run("systemctl", "stop", "cartpole")
    took_s = time.monotonic() - began_s
    assert booted.show("Result") == "success", booted.journal()
    assert took_s < 4.0  # 2 s on a quiet machine; braking itself is bounded in the daemon
    assert list((booted.root / "var/lib/cartpole/sessions").glob("*.mcap"))


def _check_real_time(booted: Machine, process: str) -> None:
    """FIFO where the container may raise limits; where it may not, the daemon says so."""
    limits = booted.run("cat", f"/proc/{process}/limits").stdout.splitlines()
    allowed = next(line for line in limits if line.startswith("Max realtime priority")).split()[3]
    if int(allowed) >= 50:
        assert "SCHED_FIFO" in booted.run("chrt", "-p", process).stdout
    else:
        assert "real time: SCHED_FIFO 50: Operation not permitted" in booted.journal()


def _reload(booted: Machine, weight: str, told: str) -> None:
    path = booted.root / SETTINGS[1:]
    lines = [line for line in path.read_text().splitlines() if "weights" not in line]
    at = lines.index(next(line for line in lines if line.startswith("controller:")))
    lines.insert(at + 1, f"  weights: {{{weight}}}")
    path.write_text("\n".join(lines) + "\n")
    assert booted.run("systemctl", "reload", "cartpole").returncode == 0, booted.journal()
    end_s = time.monotonic() + 10.0
    while told not in booted.journal() and time.monotonic() < end_s:
        time.sleep(0.2)
    assert told in booted.journal()


def test_uninstall_leaves_nothing_but_data(tmp_path: Path) -> None:
    """In an image below a folder: what install wrote is gone, settings stay until --purge."""

    def service(*words: str) -> None:
        command = [sys.executable, "-m", "cartpole", "service", *words, "--root", str(tmp_path)]
        subprocess.run(command, check=True, capture_output=True)

    def files() -> list[str]:
        return sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())

    service("install")
    assert files() == [
        "etc/cartpole/rig.yaml",
        "etc/systemd/system/cartpole.service",
        "etc/systemd/system/cartpole.service.d/machine.conf",
        "etc/sysusers.d/cartpole.conf",
        "etc/udev/rules.d/70-cartpole.rules",
    ]
    service("uninstall")
    assert files() == ["etc/cartpole/rig.yaml"]
    service("uninstall", "--purge")
    assert files() == []
