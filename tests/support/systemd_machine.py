"""A machine of its own for the unit: systemd as process 1 in a container over this machine's files.

Everything written stays in an overlay in memory. Needs root, overlayfs and systemd-nspawn.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TOOLS = ("systemd-nspawn", "nsenter", "script", "systemd-sysusers", "mount", "umount")
BOOT_S = 60.0
CAP_SYS_NICE, CAP_SYS_RESOURCE = 23, 24
CHECKOUT = Path(__file__).resolve().parents[2]


class Machine:
    """A booted container."""

    def __init__(self, leader: int, root: Path) -> None:
        self._leader, self.root = leader, root

    def run(self, *command: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """A command inside; its exit code is the caller's to judge."""
        enter = ["nsenter", "-t", str(self._leader), "-m", "-p", "-i", "-u", "-n", "-r", "-w"]
        return subprocess.run(
            [*enter, *command], capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.run("systemctl", "show", "-P", name, "cartpole").stdout.strip()

    def wait(self, name: str, wanted: str, timeout_s: float) -> str:
        """Until the property is ``wanted``; returns its last value."""
        end_s = time.monotonic() + timeout_s
        value = self.show(name)
        while value != wanted and time.monotonic() < end_s:
            time.sleep(0.1)
            value = self.show(name)
        return value

    def journal(self) -> str:
        """What the unit said."""
        return self.run("journalctl", "-u", "cartpole", "--no-pager", "-o", "cat").stdout

    def path(self, inside: str) -> Path:
        """A file of the container as seen from here, whatever is mounted over it inside."""
        return Path(f"/proc/{self._leader}/root{inside}")

    def has_capability(self, number: int) -> bool:
        """Whether the container's process 1 may do this."""
        lines = Path(f"/proc/{self._leader}/status").read_text().splitlines()
        mask = next(line for line in lines if line.startswith("CapEff:")).split()[1]
        return bool(int(mask, 16) >> number & 1)


def need_machine() -> None:
    """Skip where a container cannot be booted."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("booting a container needs root")


@contextlib.contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """Boot, yield, power off, unmount."""
    with contextlib.ExitStack() as stack:
        root = _overlay(folder, stack)
        for name in ("etc/machine-id", "etc/fstab"):
            (root / name).unlink(missing_ok=True)
        boot = (
            "systemd-nspawn --quiet --register=no --keep-unit --private-network "
            "--rlimit=RTPRIO=99 --rlimit=MEMLOCK=infinity "
            # To lend the unit where limits cannot be raised; not among the container's own.
            "--capability=CAP_IPC_LOCK "
            # A container has a /tmp of its own; a checkout may live in ours.
            f"--bind-ro={CHECKOUT} "
            # Not multi-user: whatever else this machine serves is no part of the test.
            f"-D {root} /lib/systemd/systemd --unit=basic.target"
        )
        spawned = subprocess.Popen(
            ["script", "-qfc", boot, "/dev/null"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        stack.callback(_end, spawned)
        found = Machine(_leader(spawned.pid), root)
        end_s = time.monotonic() + BOOT_S
        while found.run("systemctl", "is-system-running").stdout.strip() not in (
            "running",
            "degraded",
        ):
            if time.monotonic() > end_s or spawned.poll() is not None:
                pytest.skip("the container does not boot here")
            time.sleep(0.3)
        yield found
        found.run("systemctl", "poweroff", "--force")
        with contextlib.suppress(subprocess.TimeoutExpired):
            spawned.wait(20.0)


def _overlay(folder: Path, stack: contextlib.ExitStack) -> Path:
    """The machine's own / with a layer in memory above it."""
    layers, root = folder / "layers", folder / "root"
    for path in (layers, root):
        path.mkdir()
    _mount(stack, layers, "-t", "tmpfs", "tmpfs")
    (layers / "upper").mkdir(mode=0o755)
    (layers / "work").mkdir()
    options = f"lowerdir=/,upperdir={layers}/upper,workdir={layers}/work"
    _mount(stack, root, "-t", "overlay", "overlay", "-o", options)
    return root


def _mount(stack: contextlib.ExitStack, place: Path, *arguments: str) -> None:
    done = subprocess.run(["mount", *arguments, str(place)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")
    stack.callback(subprocess.run, ["umount", "-l", str(place)], check=False)


def _leader(parent: int) -> int:
    """The container's process 1, seen from outside."""
    end_s = time.monotonic() + BOOT_S
    while time.monotonic() < end_s:
        for child in _below(parent):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"/systemd"):
                    return child
        time.sleep(0.1)
    pytest.skip("the container does not start here")


def _below(process: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
        for child in map(int, text.split()):
            yield child
            yield from _below(child)


def _end(spawned: subprocess.Popen[bytes]) -> None:
    if spawned.poll() is None:
        os.killpg(spawned.pid, signal.SIGKILL)
        spawned.wait()
