"""A QEMU guest that runs a program of this machine under Debian's kernel and its real drivers.

No disk image: the guest's root is this machine's own, read-only over 9p with a memory overlay, so
the project and its environment stand at the same paths. USB devices come from ``usb_redir``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("qemu-system-x86_64", "busybox", "cpio", "modprobe", "depmod", "udevadm")
INSTALL = "apt install qemu-system-x86 busybox-static cpio kmod udev"
_BOOT_MODULES = ("virtio_pci", "9p", "9pnet_virtio", "overlay", "virtio_rng")

# Process 1 of the first stage: loads what the root needs and moves there.
_STAGE_1 = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs d /dev; $b mount -t proc p /proc; $b mount -t sysfs s /sys
while read m; do $b insmod /modules/$m; done < /modules/list
$b mkdir -p /below /above /new
share="-t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro"
$b mount $share root /below || exec $b poweroff -f
$b mount -t tmpfs -o size=1G t /above; $b mkdir /above/upper /above/work
$b mount -t overlay -o lowerdir=/below,upperdir=/above/upper,workdir=/above/work o /new
$b mkdir -p /new/lib/modules; $b mount $share modules /new/lib/modules
for d in dev proc sys; do $b mount --move /$d /new/$d; done
exec $b switch_root /new /bin/sh GUEST_INIT
"""

# Process 1 of the second stage: enough of a system for udev, then the job.
_STAGE_2 = """export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
mount -t tmpfs t /run; mkdir -p /dev/pts /dev/shm
mount -t devpts d /dev/pts; mount -t tmpfs s /dev/shm
/lib/systemd/systemd-udevd --daemon 2>/dev/null
modprobe xhci_pci; modprobe ehci_pci 2>/dev/null
cd GUEST_FOLDER
GUEST_JOB
echo "JOB ENDED $?"
echo o > /proc/sysrq-trigger; sleep 5
"""


class CannotRun(Exception):
    """Why there can be no guest on this machine."""


@dataclass(frozen=True)
class Kernel:
    """Debian's kernel, unpacked."""

    image: Path
    modules: Path  # folder that holds one folder a version
    version: str


def fetch_kernel(cache: Path) -> Kernel:
    """Debian's kernel package, downloaded and unpacked once. Raises ``CannotRun``."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise CannotRun(f"{', '.join(missing)} missing: {INSTALL}")
    if os.getuid() != 0:
        raise CannotRun("the guest shares this machine's root folder: run it as root")
    cache.mkdir(parents=True, exist_ok=True)
    images = sorted(cache.glob("unpacked/boot/vmlinuz-*"))
    if not images:
        _download(cache)
        images = sorted(cache.glob("unpacked/boot/vmlinuz-*"))
    version = images[-1].name.removeprefix("vmlinuz-")
    root = cache / "unpacked"
    subprocess.run(["depmod", "-b", str(root), version], check=True)
    return Kernel(images[-1], root / "lib" / "modules", version)


def _download(cache: Path) -> None:
    found = subprocess.run(
        ["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=False
    )
    names = [line.split()[-1] for line in found.stdout.splitlines() if "Depends: linux" in line]
    if not names:
        raise CannotRun("no kernel package found: apt-get update")
    for package in cache.glob("*.deb"):
        package.unlink()
    got = subprocess.run(
        ["apt-get", "download", names[0]], cwd=cache, capture_output=True, text=True
    )
    packages = list(cache.glob("*.deb"))
    if got.returncode or not packages:
        raise CannotRun(f"{names[0]} cannot be downloaded")
    unpack = ["dpkg-deb", "-x", str(packages[0]), str(cache / "unpacked")]
    subprocess.run(unpack, check=True)
    packages[0].unlink()


def build_initrd(kernel: Kernel, folder: Path, job: str, at: Path) -> Path:
    """First-stage memory disk, and the second stage's script that runs ``job`` in ``at``."""
    root = folder / "initrd"
    for name in ("bin", "dev", "proc", "sys", "modules"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin" / "busybox")
    modules: dict[str, Path] = {}
    for name in _BOOT_MODULES:
        modules |= {path.name: path for path in _with_dependencies(kernel, name)}
    for path in modules.values():
        shutil.copy(path, root / "modules")
    (root / "modules" / "list").write_text("\n".join(modules) + "\n")
    second = folder / "init.sh"
    second.write_text(_STAGE_2.replace("GUEST_FOLDER", str(at)).replace("GUEST_JOB", job))
    init = root / "init"
    init.write_text(_STAGE_1.replace("GUEST_INIT", str(second)))
    init.chmod(0o755)
    image = folder / "initrd.gz"
    pack = f"find . | cpio -o -H newc --quiet | gzip -1 > {image}"
    subprocess.run(["sh", "-c", pack], cwd=root, check=True)
    return image


def _with_dependencies(kernel: Kernel, module: str) -> Iterator[Path]:
    root = kernel.modules.parent.parent
    command = ["modprobe", "-d", str(root), "-S", kernel.version, "--show-depends", module]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in found.stdout.splitlines():
        if line.startswith("insmod"):
            yield Path(line.split()[1])


def boot(kernel: Kernel, initrd: Path, ports: list[Path]) -> subprocess.Popen[str]:
    """Start the guest; its console is the process's output. ``ports`` are usb_redir sockets."""
    shares = []
    for tag, path in (("root", Path("/")), ("modules", kernel.modules)):
        options = "security_model=none,readonly=on,multidevs=remap"
        shares += ["-fsdev", f"local,id={tag},path={path},{options}"]
        shares += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    usb = ["-device", "qemu-xhci,id=usb"]
    for index, path in enumerate(ports):
        usb += ["-chardev", f"socket,id=port{index},path={path}"]
        usb += ["-device", f"usb-redir,chardev=port{index},bus=usb.0"]
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "Nehalem"]
    command += ["-M", "q35", "-smp", "2", "-m", "3072", "-nodefaults", "-display", "none"]
    command += ["-serial", "stdio", "-no-reboot", "-device", "virtio-rng-pci", *shares, *usb]
    command += ["-kernel", str(kernel.image), "-initrd", str(initrd)]
    command += ["-append", "console=ttyS0 quiet panic=-1"]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
