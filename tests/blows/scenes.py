"""What is done to a real daemon in mid-flight, and what must be true of the cart afterwards.

Each scene takes a ``Stand`` and gives its figures; ``wrong`` says what did not hold, "" if all did.
Times of rest and distances are the simulated rig's truth, not the daemon's word.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blows.stand import Moment, Stand

from cartpole.errors import CartpoleError
from cartpole.messages import NANOSECONDS

Figures = dict[str, Any]

# The simulated cart trembles, told or not: by 8 mm/s (1 sigma; in one of 23 looks of 1.4 s it comes
# to 30), and creeps by it (10 mm in 1.4 s at most, of 1,000 looks).
TREMBLE_M_S = 0.008
REST_M_S = 0.03
AGAIN_M_S = 0.06
CREEP_M = 0.02
BOARD_S = 0.1  # the boards' time-out
WATCH_S = 0.02  # how exactly rest is told: the cart trembles, and the watcher may sleep
MOST_LOST_S = 0.2
LEAST_CLEAR_M = 0.005
TERM_S = 2.0
LATER_S = 1.5  # how long the cart is looked at after the blow
WINDOW_S = 3.0  # of paired measurements
LINE_BYTES_S = 10_472.0  # 115200 baud, eleven bits a byte
CLIENTS = 24  # more than the daemon serves


def ramp_s(speed_m_s: float, stand: Stand) -> float:
    """From a speed to rest with a drive that is told zero: full braking, then its lag.

    To two sigmas of the tremble below what is called rest: where the lag ends, the tremble is what
    decides when a cart is slow enough.
    """
    motor = stand.config.motor
    slow_m_s = REST_M_S - 2.0 * TREMBLE_M_S
    knee = motor.acceleration_m_s2 * motor.tau_s
    braking = max(speed_m_s - knee, 0.0) / motor.acceleration_m_s2
    return braking + motor.tau_s * math.log(max(min(speed_m_s, knee) / slow_m_s, 1.0))


def moves_again(moments: Sequence[Moment]) -> str:
    """What moves a cart that is at rest, from the first of ``moments`` on; "" if nothing does."""
    at = moments[0].p_m
    for one in moments:
        if one.told_m_s != 0.0:
            return f"the drive was told {one.told_m_s:.3f} m/s"
        if abs(one.v_m_s) > AGAIN_M_S or abs(one.p_m - at) > CREEP_M:
            return f"{one.v_m_s:.3f} m/s, {1000.0 * (one.p_m - at):.0f} mm from where it rested"
    return ""


def first_rest(moments: Sequence[Moment], told_ns: int) -> int:
    """Which of ``moments`` is the first with the drive told zero and the cart standing.

    Until ``told_ns`` the board may still pass on what it was told before the blow: a zero among
    that is no rest yet.
    """
    still = max((n for n, m in enumerate(moments) if m.told_m_s and m.t_ns <= told_ns), default=-1)
    rest = (
        n
        for n, one in enumerate(moments)
        if n > still and one.told_m_s == 0.0 and abs(one.v_m_s) <= REST_M_S
    )
    return next(rest, len(moments) - 1)


def rest(stand: Stand, since_ns: int) -> Figures:
    """How long the cart went on moving, and how long it may: 100 ms and the ramp.

    It is at rest once the drive is told zero and the cart stands; ``again`` is what moved it later,
    ``trembled_s`` when it was last faster than a cart at rest mostly is.
    """
    moments = stand.since(since_ns)
    told_ns = since_ns + round((BOARD_S + stand.config.motor.delay_s) * NANOSECONDS)
    first = first_rest(moments, told_ns)
    took_s = (moments[first].t_ns - since_ns) / NANOSECONDS
    told = [one.t_ns for one in moments if one.told_m_s != 0.0]
    moving = [one.t_ns for one in moments if abs(one.v_m_s) > REST_M_S]
    held_until_s, held_s = stand.rig.held
    fastest = max(abs(one.v_m_s) for one in moments if one.t_ns <= told_ns)
    allowed = BOARD_S + stand.config.motor.delay_s + ramp_s(fastest, stand)
    if stand.config.motor.protocol == "bridge":  # ramps its command, and the drive lags behind
        allowed += fastest / stand.config.rig.acceleration_limit_m_s2
    return {
        "speed_m_s": round(abs(moments[0].v_m_s), 3),
        "rest_s": round(took_s, 3),
        "allowed_s": round(allowed, 3),
        "clear_mm": round(1000.0 * stand.clear_m, 1),
        "told_s": round((max(told, default=since_ns) - since_ns) / NANOSECONDS, 3),
        "trembled_s": round((max(moving, default=since_ns) - since_ns) / NANOSECONDS, 3),
        "again": moves_again(moments[first:]),
        "rig_held_s": round(held_s, 3) if held_until_s > since_ns / NANOSECONDS else 0.0,
    }


def at_rest_in_time(found: Figures) -> str:
    """What is wrong with the cart's way to rest."""
    if found["rest_s"] > found["allowed_s"] + WATCH_S:
        return f"at rest after {found['rest_s']} s, allowed {found['allowed_s']} s"
    if found["again"]:
        return f"it moved again: {found['again']}"
    if found["clear_mm"] < 1000.0 * LEAST_CLEAR_M:
        return f"{found['clear_mm']} mm from a switch"
    return ""


def killed(stand: Stand, after_s: float) -> Figures:
    """SIGKILL so long after the swing-up was seen to begin."""
    process = stand.start()
    stand.swing()
    stand.truth.clear()
    time.sleep(after_s)
    assert process.poll() is None, stand.said()[-1000:]
    killed_ns = time.monotonic_ns()
    process.kill()
    process.wait()
    time.sleep(LATER_S)
    found = rest(stand, killed_ns)
    last = stand.recorded()[-1].line
    lost_s = (killed_ns - last.now_ns) / NANOSECONDS
    found |= {"after_s": round(after_s, 3), "mode": last.mode.value, "lost_s": round(lost_s, 3)}
    wrong = at_rest_in_time(found)
    if lost_s > MOST_LOST_S:
        wrong = wrong or f"{lost_s:.3f} s of the recording lost"
    return found | {"wrong": wrong}


def terminated(stand: Stand, after_s: float = 1.0) -> Figures:
    """SIGTERM in mid-swing: braked under the governor, then gone, within two seconds."""
    process = stand.start()
    stand.swing()
    stand.truth.clear()
    time.sleep(after_s)
    asked_ns = time.monotonic_ns()
    process.send_signal(signal.SIGTERM)
    code = process.wait(30.0)
    took_s = (time.monotonic_ns() - asked_ns) / NANOSECONDS
    braked = [one.t_ns for one in stand.since(asked_ns) if abs(one.v_m_s) > REST_M_S]
    last = stand.recorded()[-1].command
    rest_s = (max(braked, default=asked_ns) - asked_ns) / NANOSECONDS
    found: Figures = {
        "exit_s": round(took_s, 3),
        "rest_s": round(rest_s, 3),
        "clear_mm": round(1000.0 * stand.clear_m, 1),
        "code": code,
    }
    wrong = "" if rest_s <= TERM_S else f"at rest after {rest_s:.2f} s"
    if stand.clear_m < LEAST_CLEAR_M:
        wrong = wrong or f"{found['clear_mm']} mm from a switch"
    if abs(last.velocity_m_s) > 1.0 or stand.since(asked_ns)[-1].v_m_s > REST_M_S:
        wrong = wrong or "not at rest when it was gone"
    return found | {"wrong": wrong}


def told_nonsense(stand: Stand) -> Figures:
    """SIGHUP in mid-swing with settings that are none: refused, and nothing changes."""
    process = stand.start()
    stand.swing()
    good = stand.settings.read_text()
    before = stand.ask({"do": "fields"})
    stand.settings.write_text(good.replace("camera", "kamera"))
    process.send_signal(signal.SIGHUP)
    stand.wait("a refusal", lambda: "kamera" in stand.said(), 10.0)
    stand.balance()
    after = stand.ask({"do": "fields"})
    stand.settings.write_text(good)
    code = stand.stop()
    wrong = "" if before == after else "the settings changed"
    return {"wrong": wrong or ("" if code == 0 else f"exit {code}"), "code": code}


def held(stand: Stand, held_s: float) -> Figures:
    """SIGSTOP while it balances, then SIGCONT: flown through, or stopped by name; never a burst."""
    process = stand.start()
    stand.balance()
    time.sleep(1.0)
    stand.truth.clear()
    began_ns = time.monotonic_ns()
    process.send_signal(signal.SIGSTOP)
    time.sleep(held_s)
    process.send_signal(signal.SIGCONT)
    time.sleep(2.5)
    mode = stand.mode()
    stand.stop()
    every = stand.recorded()
    first = next(n for n, tick in enumerate(every) if tick.line.now_ns >= began_ns)
    ticks = every[first - 1 :]
    faults = sorted({fault.name for tick in ticks for fault in tick.faults})
    gaps = [(b.line.now_ns - a.line.now_ns) / NANOSECONDS for a, b in itertools.pairwise(ticks)]
    period_s = stand.config.controller.period_s
    found: Figures = {
        "held_s": held_s,
        "gap_s": round(max(gaps), 3),
        "closest_s": round(min(gaps), 4),
        "mode": mode,
        "faults": faults,
        "clear_mm": round(1000.0 * stand.clear_m, 1),
    }
    wrong = ""
    if stand.clear_m < LEAST_CLEAR_M:
        wrong = f"{found['clear_mm']} mm from a switch"
    elif min(gaps) < 0.45 * period_s:
        wrong = f"two commands {1000 * min(gaps):.1f} ms apart"
    elif max(gaps) > 0.125 and (
        mode != "FAULT" or faults[:1] not in (["tick late"], ["host starved"])
    ):
        wrong = f"no tick for {max(gaps):.2f} s ended in {mode} with {faults}"
    elif max(gaps) < 0.055 and faults:
        wrong = f"no tick for {max(gaps):.3f} s is {faults}"
    return found | {"wrong": wrong}


def full_disk(stand: Stand) -> Figures:
    """The recordings' file system has no more room: the recording ends, the run does not."""
    stand.start()
    stand.balance()
    stand.wait("the full disk", lambda: "No space left" in stand.said(), 60.0)
    time.sleep(1.0)
    mode = stand.mode()
    ticks = len(stand.recorded())
    code = stand.stop()
    wrong = "" if mode == "BALANCE" else f"{mode} after the disk was full"
    if ticks < 50:
        wrong = wrong or f"only {ticks} ticks can be read"
    if code != 0 or "Traceback" in stand.said():
        wrong = wrong or f"it ended badly: exit {code}"
    return {"mode": mode, "ticks": ticks, "code": code, "wrong": wrong}


def another_node(stand: Stand, port: str = "encoder") -> Figures:
    """A cable out and in again, on another node: a stop by name, then all that a person does."""
    stand.start()
    stand.balance()
    stand.truth.clear()
    link = stand.folder / port
    before = link.readlink()
    with contextlib.ExitStack() as stack:
        # So that its number is not given out again.
        stack.callback(os.close, os.open(before, os.O_RDONLY | os.O_NOCTTY))
        stand.rig.order("unplug", port)
        stand.wait("the fault", lambda: stand.mode() == "FAULT", 5.0)
        time.sleep(1.0)
        stand.rig.order("plug", port)
        stand.wait("the link", lambda: f"{port} up" in stand.said().rpartition("lost")[2], 10.0)
        after = link.readlink()
        time.sleep(1.0)
        alone = stand.mode()
        for word in ("reset", "arm"):
            stand.ask({"do": word})
        stand.wait("homing", lambda: stand.mode() == "HOMING", 1.0)
        stand.wait("READY", lambda: stand.mode() == "READY", 30.0)
        stand.stop()
    found: Figures = {"clear_mm": round(1000.0 * stand.clear_m, 1), "alone": alone}
    wrong = "" if before != after else "the node is the same"
    wrong = wrong or ("" if alone == "FAULT" else f"by itself in {alone}")
    return found | {"wrong": wrong}


def two_daemons(stand: Stand) -> Figures:
    """A second one, with the same settings and with another socket: refused, in a line each."""
    stand.start()
    stand.balance()
    command = [sys.executable, "-m", "cartpole", "run", "--headless", "-c", str(stand.settings)]
    elsewhere = ["--set", f"service.socket={stand.folder}/other"]
    elsewhere += ["--set", "session.record=false", "--duration", "1"]
    told = []
    for more in ([], elsewhere):
        done = subprocess.run(
            [*command, *more], capture_output=True, text=True, timeout=60.0, cwd=stand.folder
        )
        told.append((done.returncode, done.stderr.strip().splitlines()[-1:]))
    mode = stand.mode()
    code = stand.stop()
    faults = sorted({fault.name for tick in stand.recorded() for fault in tick.faults})
    wrong = "" if mode == "BALANCE" else f"the first one is in {mode} with {faults}"
    if any(one == 0 for one, _ in told):
        wrong = wrong or "the second one ran"
    return {"second": told, "mode": mode, "code": code, "wrong": wrong}


@contextmanager
def asking(stand: Stand) -> Iterator[None]:
    """More clients than are served, each asking as fast as it is answered, some of it nonsense."""
    end = threading.Event()
    lines = [b'{"do": "status"}\n', b'{"do": "fields"}\n', b"nonsense\n", b'{"do": "arm"}\n']

    def client(number: int) -> None:
        draw = random.Random(number)
        while not end.is_set():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as one:
                one.settimeout(1.0)
                one.connect(stand.config.service.socket)
                for _ in range(50):
                    one.sendall(draw.choice(lines))
                    if end.is_set() or not one.recv(1 << 16):
                        break

    threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


@contextmanager
def garbage(stand: Stand) -> Iterator[None]:
    """Every port of the rig says nonsense as fast as its line can."""
    ports = ["motor"] if stand.config.motor.protocol == "bridge" else ["motor", "encoder"]
    for port in ports:
        stand.rig.order("flood", port, LINE_BYTES_S)
    try:
        yield
    finally:
        for port in ports:
            stand.rig.order("flood", port, 0.0)


def flooded(stand: Stand, flood: Callable[[Stand], Any], pairs: int = 1) -> Figures:
    """Alternating windows without and with a flood: late ticks and memory of the same daemon.

    Garbage on the encoder's line ends in a stop by name, which is right; the loop runs on, and what
    is compared is the loop.
    """
    stand.start()
    stand.balance()
    windows: list[tuple[bool, int, int]] = []
    memory = [stand.memory_mb()]
    stand.truth.clear()
    for _ in range(pairs):
        for busy in (False, True):
            began_ns = time.monotonic_ns()
            with flood(stand) if busy else contextlib.nullcontext():
                time.sleep(WINDOW_S)
            windows.append((busy, began_ns, time.monotonic_ns()))
        memory.append(stand.memory_mb())
    mode = stand.mode()
    stand.stop()
    ticks = stand.recorded()
    found: Figures = {"mode": mode, "memory_mb": [round(one, 1) for one in memory]}
    for name, wanted in (("without", False), ("with", True)):
        late = [
            tick.timing.late_ns / 1e3
            for tick in ticks
            for busy, begin, end in windows
            if busy is wanted and begin <= tick.line.now_ns < end and tick.timing is not None
        ]
        missed = sum(
            tick.timing is not None and tick.timing.missed
            for tick in ticks
            for busy, begin, end in windows
            if busy is wanted and begin <= tick.line.now_ns < end
        )
        late.sort()
        found[name] = {
            "ticks": len(late),
            "missed": missed,
            "late_us_median": round(late[len(late) // 2], 1),
            "late_us_p99": round(late[int(0.99 * (len(late) - 1))], 1),
        }
    found["faults"] = sorted({fault.name for tick in ticks for fault in tick.faults})
    found["clear_mm"] = round(1000.0 * stand.clear_m, 1)
    wrong = "" if stand.clear_m >= LEAST_CLEAR_M else f"{found['clear_mm']} mm from a switch"
    expected = pairs * WINDOW_S / stand.config.controller.period_s
    if found["with"]["ticks"] < 0.9 * expected:
        wrong = wrong or f"{found['with']['ticks']} ticks of {expected:.0f} under the flood"
    if memory[-1] - memory[0] > 8.0:
        wrong = wrong or f"{memory[-1] - memory[0]:.1f} MB more"
    return found | {"wrong": wrong}


@contextmanager
def small_disk(folder: Path, kilobytes: int = 1500) -> Iterator[Path]:
    """A file system with little room; CartpoleError where none may be mounted."""
    place = folder / "sessions"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CartpoleError(f"no tmpfs can be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def shown(figures: Figures) -> str:
    """One line for a person."""
    return json.dumps({key: value for key, value in figures.items() if key != "wrong"})
