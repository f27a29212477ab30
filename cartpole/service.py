"""The systemd service on this machine: laid out, taken away, and waiting for its ports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cartpole.config.schema import Config

UNIT = "cartpole.service"
USER = "cartpole"
SETTINGS = "etc/cartpole/rig.yaml"
DATA = ("var/lib/cartpole", "var/cache/cartpole", "var/cache/private/cartpole")
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # from the service, by its unit
LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything goes; ``root`` other than / prepares an image and starts nothing."""

    root: Path = Path("/")
    dry: bool = False
    done: list[str] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether this is the running machine."""
        return self.root == Path("/") and not self.dry

    def say(self, text: str) -> None:
        """Tell what is done, or would be."""
        print(f"{'would ' if self.dry else ''}{text}")

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """A file of ours, whole."""
        path = self.root / name
        self.say(f"write {path}")
        if not self.dry:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(mode)

    def remove(self, name: str) -> None:
        """A file or folder of ours, if it is there."""
        path = self.root / name
        if not path.exists():
            return
        self.say(f"remove {path}")
        if not self.dry:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def run(self, *command: str, must: bool = True) -> None:
        """A command of the system, on the running machine only."""
        from cartpole.errors import CartpoleError

        if self.root != Path("/"):
            return
        self.say(f"run {' '.join(command)}")
        if self.dry or (not must and shutil.which(command[0]) is None):
            return
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise CartpoleError(f"{command[0]} is missing: this needs systemd") from None
        if done.returncode != 0 and must:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["failed"]
            raise CartpoleError(f"{' '.join(command)}: {lines[-1]}")


def layout_for(root: Path, dry: bool) -> Layout:
    """Where to; UsageError for a running machine that this user may not change."""
    from cartpole.errors import UsageError

    if root == Path("/") and not dry and os.geteuid() != 0:
        raise UsageError(
            "the service belongs to the system: run as root, for example "
            f"`sudo {sys.argv[0]} service ...`, or look first with --dry-run"
        )
    return Layout(root, dry)


def source(name: str) -> str:
    """A file of `systemd/` or `config/`, from the checkout or from the installed package."""
    from cartpole.shipped import shipped

    return shipped("config" if name.endswith(".yaml") else "systemd", name).read_text()


def install(layout: Layout, config: Path | None) -> None:
    """Unit, drop-in, user, udev rule, settings; settings that exist are kept."""
    paths = machine_drop_in(sys.executable, sys.prefix, sys.base_prefix, _package_folder())
    layout.write(f"etc/systemd/system/{UNIT}", source(UNIT))
    layout.write(f"etc/systemd/system/{UNIT}.d/machine.conf", paths)
    layout.write("etc/sysusers.d/cartpole.conf", source("cartpole.sysusers"))
    layout.write("etc/udev/rules.d/70-cartpole.rules", source("70-cartpole.rules"))
    layout.run("systemd-sysusers")
    if (layout.root / SETTINGS).exists():
        layout.say(f"keep {layout.root / SETTINGS}")
    else:
        layout.write(SETTINGS, service_settings(config, os.cpu_count() or 1), 0o660)
    layout.run("chown", "-R", f"{USER}:{USER}", "/etc/cartpole")
    layout.run("chmod", "2770", "/etc/cartpole")
    layout.run("systemctl", "daemon-reload")
    layout.run("udevadm", "control", "--reload", must=False)
    layout.run("udevadm", "trigger", "--subsystem-match=tty", must=False)


def uninstall(layout: Layout, purge: bool) -> None:
    """Everything ``install`` wrote; settings, recordings and the user only with ``purge``."""
    layout.run("systemctl", "disable", "--now", UNIT, must=False)
    for name in (
        f"etc/systemd/system/{UNIT}",
        f"etc/systemd/system/{UNIT}.d",
        "etc/sysusers.d/cartpole.conf",
        "etc/udev/rules.d/70-cartpole.rules",
    ):
        layout.remove(name)
    layout.run("systemctl", "daemon-reload", must=False)
    if not purge:
        layout.say(f"keep /{SETTINGS} and /var/lib/cartpole (--purge removes them)")
        return
    for name in ("etc/cartpole", *DATA):
        layout.remove(name)
    layout.run("userdel", USER, must=False)


def wait_for_ports(load: Callable[[], Config]) -> None:
    """Until every serial port is there and may be opened; the service manager is told which is not.

    Nothing is opened: that would reset an Arduino. ``load`` reads the settings every time, because
    they may be what is wrong; settings that cannot be used are for `run` to refuse.
    """
    from cartpole.daemon.notify import Notifier
    from cartpole.errors import ConfigError, UsageError

    notifier = Notifier()
    told = ""
    while True:
        try:
            missing = missing_port(load())
        except (ConfigError, UsageError):
            return
        if not missing:
            return
        if missing != told:
            told = missing
            print(missing, file=sys.stderr, flush=True)
            notifier.send(STATUS=missing)
        time.sleep(LOOK_EVERY_S)


def missing_port(config: Config) -> str:
    """What is waited for, in a line; empty if all ports are there."""
    from cartpole.errors import DeviceError
    from firmware_bridge.ports import resolve

    ports = {"motor": config.motor.port}
    if config.encoder.protocol in ("arduino_ascii", "lines"):
        ports["encoder"] = config.encoder.port
    for title, name in ports.items():
        if name == "sim":
            continue
        try:
            path = resolve(name)
        except DeviceError as error:
            return f"waiting for the {title} port: {error}"
        if not os.path.exists(path):
            return f"waiting for the {title} port: {path} is not there: check its cable and power"
        if not os.access(path, os.R_OK | os.W_OK):
            return f"waiting for the {title} port: {path} may not be opened: see `cartpole doctor`"
    return ""


def _package_folder() -> str:
    return str(Path(str(resources.files("cartpole"))).parent)


def machine_drop_in(executable: str, *folders: str) -> str:
    """Where this machine keeps the interpreter and the package.

    The unit hides homes and temporary folders from the service. What it needs from there is shown
    to it again, read-only, and nothing else.
    """
    shown = sorted({folder for folder in folders if _is_hidden(folder)})
    script = Path(executable).parent / "cartpole"
    lines = [
        "# Written by `cartpole service install` for this machine.",
        "[Service]",
        "ExecStartPre=",
        f"ExecStartPre={script} service wait --config /{SETTINGS}",
        "ExecStart=",
        f"ExecStart={script} run --config /{SETTINGS} --headless",
    ]
    if shown:
        lines.append("ProtectHome=tmpfs")
        lines += [f"BindReadOnlyPaths={folder}" for folder in shown]
    return "\n".join(lines) + "\n"


def _is_hidden(folder: str) -> bool:
    return any(Path(folder).is_relative_to(place) for place in HIDDEN)


def service_settings(config: Path | None, processors: int) -> str:
    """The rig's settings with the service's own places written in."""
    from cartpole.config.edit import edited
    from cartpole.config.load import loads_config, read_text
    from cartpole.doctor.machine import SPARE_PROCESSORS

    text = read_text(config) if config is not None else source("rig.yaml")
    values: dict[str, object] = {
        "session.folder": "/var/lib/cartpole/sessions",
        "service.socket": "/run/cartpole/cartpole.sock",
    }
    if processors >= SPARE_PROCESSORS:
        values["service.cpu"] = processors - 1
    new = edited(text, values, "settings")
    loads_config(new, str(config or "rig.yaml"))
    return new
