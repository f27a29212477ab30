"""The unit: hardened as promised, and alive under a real systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.systemd_machine import CAP_SYS_NICE, CAP_SYS_RESOURCE, Machine, machine, need_machine

from cartpole.kernel_cache import ENVIRONMENT, MARKER, cache_root, kernel_fingerprint
from cartpole.messages import Mode
from cartpole.remote.socket import call
from cartpole.session.reader import open_session

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "systemd" / "cartpole.service"
SETTINGS = "/etc/cartpole/rig.yaml"
SOCKET = "/run/cartpole/cartpole.sock"
KERNELS = f"/var/cache/cartpole/kernels-{kernel_fingerprint()}"
RIG = "/run/rig"  # the still rig's folder
CAMERA_PORT = 18090
PAGE_PORT = 18091
COLD_S = 300.0  # kernels are compiled on a first start

# What the unit gets by LimitRTPRIO= and LimitMEMLOCK= where process 1 may raise limits.
LENT = """[Service]
CapabilityBoundingSet=CAP_SYS_NICE CAP_IPC_LOCK
AmbientCapabilities=CAP_SYS_NICE CAP_IPC_LOCK
"""
STILL_RIG = f"""motor: {{port: {RIG}/motor}}
encoder: {{port: {RIG}/encoder}}
camera: {{source: stream, device: "http://127.0.0.1:{CAMERA_PORT}/"}}
startup: {{action: disarmed}}
session: {{folder: /var/lib/cartpole/sessions}}
service: {{socket: {SOCKET}}}
"""

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
        settings = found.path(SETTINGS)
        text = settings.read_text().replace("action: swing_up", "action: disarmed")
        text += f"dashboard: {{enabled: true, port: {PAGE_PORT}}}\n"
        for path in (settings, settings.with_name("good.yaml")):
            path.write_text(text)
        warm = _kernels()
        if warm is not None:  # else the first start compiles, which takes minutes
            shutil.copytree(warm, found.path(KERNELS), dirs_exist_ok=True)
            found.run("chown", "-R", "cartpole:cartpole", "/var/cache/cartpole")
        if not found.has_capability(CAP_SYS_RESOURCE):
            found.path("/etc/systemd/system/cartpole.service.d/lent.conf").write_text(LENT)
            found.run("systemctl", "daemon-reload")
        yield found


def _kernels() -> Path | None:
    named = os.environ.get(ENVIRONMENT)
    folder = Path(named) if named else cache_root() / f"kernels-{kernel_fingerprint()}"
    return folder if (folder / MARKER).exists() else None


@pytest.fixture
def running(booted: Machine) -> Machine:
    """The service with the simulated rig, active."""
    if booted.show("ActiveState") != "active":
        _start(booted)
    return booted


def _start(booted: Machine) -> None:
    started = booted.run("systemctl", "start", "cartpole", timeout_s=COLD_S)
    assert started.returncode == 0, booted.journal()
    assert booted.show("ActiveState") == "active"


def _ask(booted: Machine, word: str) -> dict[str, Any]:
    return call(booted.path(SOCKET), {"do": word})


def _status(booted: Machine) -> dict[str, Any]:
    status = _ask(booted, "status")["status"]
    assert isinstance(status, dict)
    return status


def _until(true: Callable[[], bool], timeout_s: float, booted: Machine) -> None:
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s, booted.journal()[-3000:]
        time.sleep(0.1)


def _balance(booted: Machine) -> None:
    """Swing up; after a fault on a busy machine reset and try again, as a person would."""
    end_s = time.monotonic() + 60.0
    while (status := _status(booted))["mode"] != "BALANCE":
        assert time.monotonic() < end_s, status["faults"]
        if not status["armed"]:
            for word in ("reset", "arm", "swing-up"):
                _ask(booted, word)
        time.sleep(0.2)


def _comes_back_disarmed(booted: Machine, before: str) -> None:
    """A new process, ready, and its rig at rest."""
    _until(lambda: booted.show("MainPID") not in (before, "0"), 30.0, booted)
    assert booted.wait("ActiveState", "active", 60.0) == "active", booted.journal()
    status = _status(booted)
    assert (status["mode"], status["armed"]) == ("DISARMED", False)


@pytest.mark.realtime
def test_waits_for_ports_and_camera(booted: Machine) -> None:
    """READY comes when all answer; until then STATUS says which does not. Stopped, the wire's last
    word is zero."""
    settings = booted.path(SETTINGS)
    settings.write_text(STILL_RIG)
    folder = booted.path(RIG)
    folder.mkdir(exist_ok=True)
    booted.run("systemctl", "start", "--no-block", "cartpole")
    try:
        _waits(booted, f"waiting for the motor port: {RIG}/motor is not there")
        rig = [
            sys.executable,
            str(ROOT / "tests" / "support" / "service_rig.py"),
            RIG,
            str(CAMERA_PORT),
        ]
        booted.run("systemd-run", "--unit=rig", f"--setenv=PYTHONPATH={ROOT}", *rig)
        _waits(booted, "waiting for camera", COLD_S)
        (folder / "camera").touch()
        assert booted.wait("ActiveState", "active", 30.0) == "active", booted.journal()
        assert booted.wait("StatusText", "DISARMED", 5.0).startswith("DISARMED")
        booted.run("systemctl", "stop", "cartpole")
        lines = (folder / "wire").read_bytes().split(b"\r\n")
        assert lines[-2:] == [b"M1: 0", b""]
        assert booted.show("Result") == "success", booted.journal()
    finally:
        booted.run("systemctl", "stop", "cartpole", "rig")
        shutil.copy(settings.with_name("good.yaml"), settings)


def _waits(booted: Machine, for_what: str, timeout_s: float = 20.0) -> None:
    _until(lambda: booted.show("StatusText").startswith(for_what), timeout_s, booted)
    assert booted.show("ActiveState") == "activating"


@pytest.mark.realtime
def test_kernels_are_kept_under_a_strict_file_system(booted: Machine) -> None:
    """One is taken away: the start compiles it and puts it where the unit may write."""
    folder = booted.path(KERNELS)
    for path in folder.rglob("kernels.insert-*"):
        path.unlink()
    _start(booted)
    found = list(folder.rglob("kernels.insert-*.nbc"))
    assert found, booted.journal()
    assert found[0].stat().st_uid == folder.stat().st_uid != 0
    for line in ("ProtectSystem=strict", "ReadWritePaths=/etc/cartpole"):
        key, value = line.split("=")
        assert booted.show(key) == value


@pytest.mark.realtime
def test_its_own_user_and_nothing_more(running: Machine) -> None:
    process = running.show("MainPID")
    assert running.path(f"/proc/{process}").stat().st_uid == running.path(SOCKET).stat().st_uid
    owner = running.run("stat", "-c", "%U %G %a", f"/proc/{process}", SOCKET)
    assert owner.stdout.split("\n")[:2] == ["cartpole cartpole 555", "cartpole cartpole 660"]
    facts = _facts(running, process)
    assert facts["NoNewPrivs"] == "1"
    assert facts["Seccomp"] == "2"
    lent = (1 << CAP_SYS_NICE | 1 << 14) if _is_lent(running) else 0
    assert int(facts["CapBnd"], 16) == lent
    assert running.show("DevicePolicy") == "closed"
    allowed = running.show("DeviceAllow")
    for kind in ("char-ttyACM", "char-ttyUSB", "char-video4linux", "char-pts"):
        assert f"{kind} rw" in allowed


@pytest.mark.realtime
def test_devices_that_are_not_named_are_refused(booted: Machine) -> None:
    """A device of the machine that the unit does not name may not be opened, even by root."""
    rules = [line for line in UNIT.read_text().splitlines() if line.startswith("Device")]
    properties = [f"--property={rule}" for rule in rules]
    reach = "import os, sys; os.close(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY))"

    def opens(device: str) -> bool:
        command = ("systemd-run", "--pipe", "--wait", "--quiet", *properties, sys.executable)
        return booted.run(*command, "-c", reach, device).returncode == 0

    assert opens("/dev/ptmx")
    if opens("/dev/console") and not os.access(booted.path("/sys/fs/cgroup/devices"), os.W_OK):
        pytest.skip("the container's control group of devices is read-only: nothing is enforced")
    assert not opens("/dev/console")


def _is_lent(booted: Machine) -> bool:
    return not booted.has_capability(CAP_SYS_RESOURCE)


def _facts(booted: Machine, process: str) -> dict[str, str]:
    """Of ``/proc/PID/status``."""
    lines = booted.path(f"/proc/{process}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _schedule(booted: Machine, process: str) -> dict[str, tuple[int, int]]:
    """Policy and real-time priority of every thread."""
    found = {}
    for task in booted.path(f"/proc/{process}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[task.name] = (int(fields[38]), int(fields[37]))
    return found


@pytest.mark.realtime
def test_real_time_under_the_unit(running: Machine) -> None:
    """Control thread FIFO 50, helpers 25, camera 40, page ordinary; all memory locked."""
    if not (running.has_capability(CAP_SYS_RESOURCE) or running.has_capability(CAP_SYS_NICE)):
        pytest.skip("process 1 of the container has neither CAP_SYS_RESOURCE nor CAP_SYS_NICE")
    bandwidth = Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us")
    if bandwidth.exists() and bandwidth.read_text().strip() == "0":
        pytest.skip("the control group gives no real-time bandwidth (cpu.rt_runtime_us is 0)")
    process = running.show("MainPID")
    assert "real time:" not in running.journal()
    threads = _schedule(running, process)
    assert threads.pop(process) == (os.SCHED_FIFO, 50)
    assert set(threads.values()) == {(os.SCHED_FIFO, 25)}
    facts = _facts(running, process)
    locked_kb, size_kb = (int(facts[name].split()[0]) for name in ("VmLck", "VmSize"))
    assert locked_kb > 0.98 * size_kb

    children = running.path(f"/proc/{process}/task/{process}/children").read_text().split()
    policies = sorted(_schedule(running, child)[child] for child in children)
    # Camera, simulated rig; tracker of shared memory and page.
    ordinary = [item for item in policies if item[0] == os.SCHED_OTHER]
    assert (os.SCHED_FIFO, 40) in policies
    assert len(ordinary) == 2
    if not _is_lent(running):  # the limits that the unit itself names
        limits = running.path(f"/proc/{process}/limits").read_text()
        (line,) = [line for line in limits.splitlines() if "realtime priority" in line]
        assert line.split()[3:5] == ["60", "60"]


@pytest.mark.realtime
def test_settings_are_read_again(running: Machine) -> None:
    """SIGHUP with good and with bad YAML: the process stays, and says which it was."""
    process = running.show("MainPID")
    _reload(running, "angle: 1.5", "settings changed: controller.weights.angle")
    _reload(running, "angel: 1.5", "angel: unknown key")
    assert running.show("MainPID") == process
    assert _status(running)["mode"] == "DISARMED"
    shutil.copy(running.path(SETTINGS).with_name("good.yaml"), running.path(SETTINGS))
    assert running.run("systemctl", "reload", "cartpole").returncode == 0


def _reload(booted: Machine, weight: str, told: str) -> None:
    path = booted.path(SETTINGS)
    lines = [line for line in path.read_text().splitlines() if "weights" not in line]
    at = lines.index(next(line for line in lines if line.startswith("controller:")))
    lines.insert(at + 1, f"  weights: {{{weight}}}")
    path.write_text("\n".join(lines) + "\n")
    assert booted.run("systemctl", "reload", "cartpole").returncode == 0, booted.journal()
    _until(lambda: told in booted.journal(), 10.0, booted)


@pytest.mark.realtime
def test_somebody_else_is_refused(running: Machine) -> None:
    """By the file's permissions, past them by the peer's user; a member of the group may ask."""
    code, line = _as_user(running, "nobody", "arm")
    assert code == 1
    assert line.count("\n") == 1
    assert f"{SOCKET}" in line
    assert "you may not command this rig" in line

    running.path("/run/cartpole").chmod(0o755)
    running.path(SOCKET).chmod(0o666)
    code, line = _as_user(running, "nobody", "arm")
    running.path(SOCKET).chmod(0o660)
    running.path("/run/cartpole").chmod(0o750)
    assert code == 1
    assert line.count("\n") == 1
    assert "may not command this rig: not in the group of" in line
    assert not _status(running)["armed"]

    running.run("gpasswd", "--add", "games", "cartpole")
    code, line = _as_user(running, "games", "status")
    assert code == 0, line
    assert "DISARMED" in line


def _as_user(booted: Machine, user: str, word: str) -> tuple[int, str]:
    """A command of ours as somebody who logged in; exit code and what it said."""
    shown = ("--property=ProtectHome=tmpfs", f"--property=BindReadOnlyPaths={sys.base_prefix}")
    done = booted.run(
        *("systemd-run", "--pipe", "--wait", "--quiet", f"--uid={user}", *shown),
        *(sys.executable, "-m", "cartpole", word, "--set", f"service.socket={SOCKET}"),
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.realtime
def test_page(running: Machine) -> None:
    """On the container's loopback, with the token only."""
    url = running.path(f"{SOCKET}.url").read_text().strip()
    assert url.startswith(f"http://127.0.0.1:{PAGE_PORT}/?token=")
    get = (
        "import sys, urllib.request as web, urllib.error\n"
        "try: print(web.urlopen(sys.argv[1], timeout=20).status)\n"
        "except urllib.error.HTTPError as error: print(error.code, error.read().decode())\n"
    )
    _until(lambda: running.run(sys.executable, "-c", get, url).stdout == "200\n", 30.0, running)
    for bad in (url[:-4] + "AAAA", url.partition("?")[0]):
        told = running.run(sys.executable, "-c", get, bad).stdout
        assert told.startswith("403 wrong or missing token"), told


@pytest.mark.realtime
def test_hang_kill_and_stop(running: Machine) -> None:
    """Moving, the loop hangs; moving, the process is killed: each time it comes back with the drive
    off. Stopped while balancing it brakes within two seconds and says zero last."""
    process = _move(running)
    running.run("kill", "-STOP", process)
    _comes_back_disarmed(running, process)
    assert "Watchdog timeout" in running.journal()

    process = _move(running)
    running.run("kill", "-KILL", process)
    _comes_back_disarmed(running, process)
    assert running.show("NRestarts") == "2"

    _balance(running)
    session = running.path(str(_status(running)["session"]))
    began_s = time.monotonic()
    running.run("systemctl", "stop", "cartpole")
    took_s = time.monotonic() - began_s
    assert running.show("Result") == "success", running.journal()
    assert took_s < 2.0
    last_words = running.journal().rpartition("Stopping cartpole.service")[2]
    assert "lost" not in last_words  # its eyes and hands lived while it braked
    _check_session(session)


def _move(booted: Machine) -> str:
    """Armed and on its way; the process that moves it."""
    for word in ("arm", "swing-up"):
        _ask(booted, word)
    _until(lambda: bool(_status(booted)["armed"]), 5.0, booted)
    return booted.show("MainPID")


def _check_session(path: Path) -> None:
    """Whole, for the group to read, and its last word on the wire is zero."""
    assert path.stat().st_mode & 0o777 == 0o640
    session = open_session(path)
    modes = {tick.record().mode for tick in session.ticks()}
    assert not session.truncated
    assert Mode.BALANCE in modes
    sent = b"".join(
        piece.data for piece in session.raw() if (piece.link, piece.direction) == ("motor", "out")
    )
    assert sent.endswith(b"\r\nM1: 0\r\n")


@pytest.mark.realtime
def test_bad_settings_are_not_tried_for_ever(booted: Machine) -> None:
    """Exit code 2, one line that says what is wrong, and no second try."""
    booted.run("systemctl", "stop", "cartpole")
    settings = booted.path(SETTINGS)
    good = settings.read_text()
    settings.write_text(good.replace("track_length_m: 0.88", "track_length_m: -1"))
    try:
        assert booted.run("systemctl", "start", "cartpole").returncode != 0
        time.sleep(1.0)  # RestartSec is half of it
        assert booted.show("ActiveState") == "failed"
        assert booted.show("ExecMainStatus") == "2"
        assert booted.show("NRestarts") == "0"
        (line,) = [line for line in booted.journal().splitlines() if "track_length_m" in line]
        assert SETTINGS in line
    finally:
        settings.write_text(good)
        booted.run("systemctl", "reset-failed", "cartpole")


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
