"""Checks of the machine that `cartpole doctor` makes: each says what it found and what to do."""

from __future__ import annotations

import os
import re
import resource
import shutil
import statistics
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cartpole.config.schema import Config, Service

MEGABYTE = 1 << 20
MEMLOCK_BYTES = 1 << 30  # the daemon with its libraries maps several hundred megabytes
GOOD_CLOCKS = ("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page")
STALE_CALIBRATION_DAYS = 180
LATE_WAKE_US = 1000.0
SLOW_SYNC_S = 1.0
SPARE_PROCESSORS = 3  # from this many on, one can be kept for the control thread


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"  # works, but not as well as it could
    FAIL = "fail"
    SKIP = "skip"  # does not apply


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table; ``advice`` is empty when there is nothing to do."""

    name: str
    level: Level
    found: str
    advice: str = ""


def figures(checks: Iterable[Check]) -> dict[str, Any]:
    """The checks as JSON figures."""
    rows = [asdict(check) for check in checks]
    return {"ok": all(row["level"] != Level.FAIL for row in rows), "checks": rows}


def machine_checks(config: Config, config_path: Path | None) -> list[Check]:
    """Everything that needs no device."""
    return [
        settings(config, config_path),
        calibration_age(config, config_path),
        *real_time(config.service),
        processor(config.service),
        governor(),
        clock(),
        *disk(Path(config.session.folder), config.session.max_file_mb),
        kernels(),
    ]


def settings(config: Config, path: Path | None) -> Check:
    """The settings in force."""
    from cartpole.config.load import config_sha256

    where = str(path) if path is not None else "built-in defaults"
    level, advice = Level.OK, ""
    if path is None:
        level, advice = Level.WARN, "give the rig's own settings: --config config/rig.yaml"
    return Check("settings", level, f"{where} ({config_sha256(config)[:12]})", advice)


def calibration_age(config: Config, path: Path | None) -> Check:
    """``calibration``, for a rig that can be calibrated."""
    if config.motor.port == "sim":
        return Check("calibration", Level.SKIP, "simulated rig")
    return calibration(path, datetime.now(UTC))


def calibration(path: Path | None, now: datetime) -> Check:
    """When the settings were last written by a calibration: its header line, or the backups."""
    advice = f"run: cartpole calibrate all --config {path} --write"
    if path is None:
        return Check("calibration", Level.SKIP, "built-in defaults")
    when = _calibrated(path)
    if when is None:
        return Check("calibration", Level.WARN, "never", advice)
    days = (now - when).days
    if days > STALE_CALIBRATION_DAYS:
        return Check("calibration", Level.WARN, f"{days} days ago", advice)
    return Check("calibration", Level.OK, f"{days} days ago")


def _calibrated(path: Path) -> datetime | None:
    text = path.read_text(encoding="utf-8", errors="replace")[:2000]
    header = re.search(
        r"^#\s*calibrated\b.*?(\d{4}-\d{2}-\d{2})", text, re.IGNORECASE | re.MULTILINE
    )
    stamps = [header[1].replace("-", "")] if header else []
    pattern = re.compile(re.escape(path.name) + r"\.(\d{8})T\d{6}.*\.bak")
    stamps += [
        match[1] for other in path.parent.iterdir() if (match := pattern.fullmatch(other.name))
    ]
    dates = []
    for stamp in stamps:
        try:
            dates.append(datetime.strptime(stamp, "%Y%m%d").replace(tzinfo=UTC))
        except ValueError:
            continue
    return max(dates, default=None)


def real_time(service: Service) -> list[Check]:
    """Scheduler, memory locking and how late a thread wakes up."""
    return [_scheduler(service), _memory(service), _lateness(service)]


def _scheduler(service: Service) -> Check:
    if service.priority == 0:
        return Check("real-time scheduler", Level.SKIP, "service.priority is 0")
    refusal = _in_thread(lambda: _take_priority(service.priority))
    if refusal is None:
        return Check("real-time scheduler", Level.OK, f"SCHED_FIFO {service.priority} was given")
    return refused_scheduler(service, str(refusal), resource.getrlimit(resource.RLIMIT_RTPRIO)[0])


def refused_scheduler(service: Service, refusal: str, limit: int) -> Check:
    """Why: the limit of this user, or the control group this runs in."""
    found = f"{refusal} (the limit rtprio is {limit})"
    advice = "run as the installed service, or allow rtprio in /etc/security/limits.d"
    if limit >= service.priority or os.geteuid() == 0:
        advice = "its control group gives no real-time time: raise cpu.rt_runtime_us there"
    return Check("real-time scheduler", Level.WARN, found, advice)


def _take_priority(priority: int) -> str | None:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError as error:
        return f"SCHED_FIFO {priority}: {error.strerror}"
    return None


def _memory(service: Service) -> Check:
    if not service.lock_memory:
        return Check("memory locking", Level.SKIP, "service.lock_memory is false")
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() == 0 or soft in (-1, resource.RLIM_INFINITY) or soft >= MEMLOCK_BYTES:
        return memory_room(_read(Path("/proc/meminfo")))
    advice = "run as the installed service, or raise memlock in /etc/security/limits.d"
    return Check("memory locking", Level.WARN, f"at most {soft // MEGABYTE} MiB", advice)


def memory_room(meminfo: str) -> Check:
    """Locked memory must be there: all of it, at once."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo, re.MULTILINE)
    if match is None:
        return Check("memory locking", Level.OK, "allowed")
    free_mb = int(match[1]) // 1024
    found = f"allowed, {free_mb} MiB are free"
    if free_mb * MEGABYTE >= MEMLOCK_BYTES:
        return Check("memory locking", Level.OK, found)
    advice = "the daemon wants a gigabyte: end other programs, or set service.lock_memory to false"
    return Check("memory locking", Level.WARN, found, advice)


def _lateness(service: Service) -> Check:
    def measure() -> list[float]:
        _take_priority(service.priority or 1)
        late_us = []
        for _ in range(40):
            due_s = time.monotonic() + 0.01
            time.sleep(0.01)
            late_us.append((time.monotonic() - due_s) * 1e6)
        return late_us

    late_us = _in_thread(measure)
    middle, worst = statistics.median(late_us), max(late_us)
    found = f"{middle:.0f} µs median, {worst:.0f} µs worst of {len(late_us)}"
    if middle <= LATE_WAKE_US:
        return Check("wake-up lateness", Level.OK, found)
    return Check("wake-up lateness", Level.WARN, found, "end other load, or use a faster machine")


def _in_thread(work: Any) -> Any:
    """Run ``work`` in a thread whose scheduler may be changed without a trace."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(work()))
    thread.start()
    thread.join()
    return result[0]


def processor(service: Service, root: Path = Path("/sys")) -> Check:
    """The control thread's processor, and whether the kernel keeps others off it."""
    count = os.cpu_count() or 1
    if service.cpu < 0:
        found = f"none isolated: the kernel chooses among {count} (service.cpu is -1)"
        if count < SPARE_PROCESSORS:
            return Check("processor", Level.OK, f"{found}; too few to set one aside")
        last = count - 1
        advice = f"set service.cpu to {last} and add isolcpus={last} to the kernel's command line"
        return Check("processor", Level.WARN, found, advice)
    if service.cpu >= count:
        advice = f"set service.cpu below {count}"
        return Check("processor", Level.FAIL, f"no processor {service.cpu}", advice)
    isolated = _read(root / "devices/system/cpu/isolated")
    if service.cpu in _cpu_list(isolated):
        return Check("processor", Level.OK, f"{service.cpu}, isolated")
    advice = f"add isolcpus={service.cpu} to the kernel's command line"
    return Check("processor", Level.WARN, f"{service.cpu}, shared with others", advice)


def _cpu_list(text: str) -> set[int]:
    """Numbers of a list such as ``1,3-5``."""
    numbers: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def governor(root: Path = Path("/sys")) -> Check:
    """Whether the processor's speed may sag between two ticks."""
    name = _read(root / "devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if not name:
        return Check("processor speed", Level.SKIP, "not adjustable here")
    if name == "performance":
        return Check("processor speed", Level.OK, name)
    return Check("processor speed", Level.WARN, name, "run: cpupower frequency-set -g performance")


def clock(root: Path = Path("/sys")) -> Check:
    """The clock behind CLOCK_MONOTONIC."""
    source = _read(root / "devices/system/clocksource/clocksource0/current_clocksource")
    resolution_ns = time.get_clock_info("monotonic").resolution * 1e9
    found = f"{source or 'unknown'}, resolution {resolution_ns:.0f} ns"
    if resolution_ns > 1000:
        return Check("clock", Level.FAIL, found, "the kernel needs high-resolution timers")
    if source and source not in GOOD_CLOCKS:
        return Check("clock", Level.WARN, found, "slow to read: look for tsc trouble in dmesg")
    return Check("clock", Level.OK, found)


def disk(folder: Path, largest_file_mb: int) -> list[Check]:
    """Room and speed where recordings go; nothing is left behind."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        advice = f"let your user write there: {place}"
        return [Check("disk", Level.FAIL, f"{folder} cannot be written", advice)]
    free_mb = shutil.disk_usage(place).free // MEGABYTE
    checks = [Check("disk", Level.OK, f"{free_mb} MiB free for {folder}")]
    if free_mb < largest_file_mb:
        advice = "free some room, or lower session.max_file_mb"
        checks = [Check("disk", Level.WARN, f"{free_mb} MiB free for {folder}", advice)]
    sync_s = _sync_time_s(place)
    if sync_s is None:
        return [*checks, Check("disk speed", Level.WARN, "a trial write failed", "see dmesg")]
    slow = sync_s > SLOW_SYNC_S
    advice = "recordings may lose more than a second at a power cut" if slow else ""
    found = f"1 MiB on disk in {sync_s * 1e3:.0f} ms"
    return [*checks, Check("disk speed", Level.WARN if slow else Level.OK, found, advice)]


def _sync_time_s(folder: Path) -> float | None:
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            start_s = time.monotonic()
            file.write(bytes(MEGABYTE))
            file.flush()
            os.fsync(file.fileno())
            return time.monotonic() - start_s
    except OSError:
        return None


def kernels() -> Check:
    """Whether the compiled kernels of these sources are in the cache."""
    from cartpole.kernel_cache import is_warm, use_kernel_cache

    folder = use_kernel_cache()
    if is_warm():
        return Check("compiled kernels", Level.OK, f"ready in {folder}")
    advice = "nothing: the first start compiles for a minute or two"
    return Check("compiled kernels", Level.WARN, "not yet", advice)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
