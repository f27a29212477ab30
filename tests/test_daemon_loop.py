"""Whatever raises, the cart is braked first; a listener that raises is dropped and no more."""

from __future__ import annotations

import gc
import itertools
import queue
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from cartpole.config.schema import Camera, Config
from cartpole.control.core import ControlCore
from cartpole.daemon.daemon import COLLECT_EVERY, Daemon, Devices, Listener
from cartpole.daemon.recorder import Recorder
from cartpole.messages import (
    Answer,
    Command,
    EncoderSample,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
    Mode,
    Request,
    RequestKind,
    TickInput,
    TickRecord,
    TickTiming,
)
from cartpole.session import writer as session_writer
from firmware_bridge.rig_links import Figures, RigLinks
from firmware_bridge.rules import LinkRules

CONFIG = Config(camera=Camera(source="none"))
STEP_M_S = CONFIG.rig.acceleration_limit_m_s2 * CONFIG.controller.period_s
State = tuple[float, float, float, float]


class StillLinks:
    """A cart that stands still; keeps what it is sent, and raises when told to."""

    def __init__(self) -> None:
        self.sent: list[Command] = []
        self.broken = False
        self._greeted = False

    def start(self) -> None:
        """Nothing to open."""

    def poll(self) -> list[Measurement]:
        if self.broken:
            raise RuntimeError("the links are broken")
        now_ns = time.monotonic_ns()
        sample = EncoderSample(now_ns, now_ns, 0, 0)
        if self._greeted:
            return [sample]
        self._greeted = True
        return [LinkEvent(now_ns, Link.MOTOR, LinkState.UP, "connected"), sample]

    def send(self, command: Command) -> bool:
        self.sent.append(command)
        return True

    def update(self, rules: LinkRules) -> None:
        """No limits of its own."""

    def close(self) -> None:
        """Nothing to close."""

    def statistics(self) -> Figures:
        return {}


class Falling:
    """A listener that raises at the third tick."""

    def __init__(self) -> None:
        self.ticks = 0

    def put_tick(
        self, record: TickRecord, truth: State | None = None, timing: TickTiming | None = None
    ) -> None:
        self.ticks += 1
        if self.ticks == 3:
            raise ZeroDivisionError("a bug")


class Counting:
    """A listener that counts, and ends the loop."""

    def __init__(self, last: int) -> None:
        self.records: list[TickRecord] = []
        self.daemon: Daemon | None = None
        self._last = last

    def put_tick(
        self, record: TickRecord, truth: State | None = None, timing: TickTiming | None = None
    ) -> None:
        self.records.append(record)
        if self.daemon is not None and len(self.records) == self._last:
            self.daemon.stop()


def daemon_of(links: RigLinks, *listeners: Listener) -> Daemon:
    return Daemon(CONFIG, Devices(links), listeners)


def events(daemon: Daemon) -> list[str]:
    found = []
    while True:
        try:
            found.append(daemon.events.get_nowait())
        except queue.Empty:
            return found


def test_a_listener_that_raises_is_dropped_and_the_loop_goes_on() -> None:
    falling, counting = Falling(), Counting(8)
    daemon = daemon_of(StillLinks(), falling, counting)
    counting.daemon = daemon
    daemon.run(None)
    assert falling.ticks == 3
    assert len(counting.records) == 8
    told = [event for record in counting.records for event in record.events]
    assert told == [
        "motor up: connected",
        "listener down: Falling is dropped: ZeroDivisionError('a bug')",
    ]
    assert told[0] in events(daemon)


def moving(
    monkeypatch: pytest.MonkeyPatch, velocity: float, after: int, then: Callable[[], None]
) -> None:
    """A core that commands ``velocity`` whatever is asked, and at its ``after``-th tick more."""
    real = ControlCore.tick

    def tick(self: ControlCore, given: TickInput) -> TickRecord:
        record = real(self, given)
        if record.index >= after:
            then()
        command = Command(given.now_ns, record.index, velocity, True, velocity)
        return TickRecord(
            record.index, given, Mode.SWING_UP, True, True, None, None, command,
            answers=record.answers,
        )  # fmt: skip

    monkeypatch.setattr(ControlCore, "tick", tick)


def is_braked(sent: list[Command], velocity: float) -> bool:
    """Down in governed steps from the last flown command, then zero and off."""
    last = max(i for i, command in enumerate(sent) if command.velocity_m_s == velocity)
    ramp = [command.velocity_m_s for command in sent[last:]]
    steps = [before - after for before, after in itertools.pairwise(ramp)]
    sequence = [command.sequence for command in sent]
    return (
        len(ramp) > 2
        and all(0.0 < step <= STEP_M_S + 1e-9 for step in steps)
        and (sent[-1].velocity_m_s, sent[-1].enable) == (0.0, False)
        and sequence == sorted(set(sequence))
    )


def test_a_core_that_raises_ends_in_braking(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError("a bug of the core")

    links = StillLinks()
    moving(monkeypatch, 0.5, 5, fail)
    with pytest.raises(AssertionError, match="a bug of the core"):
        daemon_of(links).run(None)
    assert is_braked(links.sent, 0.5)


def test_links_that_raise_end_in_braking(monkeypatch: pytest.MonkeyPatch) -> None:
    links = StillLinks()
    moving(monkeypatch, 0.5, 5, lambda: setattr(links, "broken", True))
    with pytest.raises(RuntimeError, match="the links are broken"):
        daemon_of(links).run(None)
    assert is_braked(links.sent, 0.5)


def test_an_interrupt_ends_in_braking() -> None:
    """As any other way out: the core brakes, and disarms."""
    links = StillLinks()

    class Interrupting(Counting):
        def put_tick(
            self, record: TickRecord, truth: State | None = None, timing: TickTiming | None = None
        ) -> None:
            super().put_tick(record)
            if self.daemon is not None and len(self.records) == 2:
                self.daemon.submit(Request(RequestKind.ARM))
            if record.mode is Mode.HOMING:
                raise KeyboardInterrupt

    interrupting = Interrupting(1000)
    daemon = interrupting.daemon = daemon_of(links, interrupting)
    with pytest.raises(KeyboardInterrupt):
        daemon.run(None)
    assert daemon.mode is Mode.DISARMED
    assert not links.sent[-1].enable


def test_two_clients_in_one_tick_are_each_told_their_own() -> None:
    told: list[Future[Answer]] = []
    counting = Counting(6)
    daemon = daemon_of(StillLinks(), counting)
    counting.daemon = daemon

    def ask(record: TickRecord) -> None:
        if record.index == 2:
            told.append(daemon.submit(Request(RequestKind.TARGET, value=9.0)))
            told.append(daemon.submit(Request(RequestKind.ARM)))

    daemon.on_tick = ask
    daemon.run(None)
    assert [answer.result(0).ok for answer in told] == [False, True]
    assert counting.records[3].mode is Mode.HOMING


def test_what_no_tick_took_is_withdrawn_but_a_stop_never_is() -> None:
    counting = Counting(3)
    daemon = daemon_of(StillLinks(), counting)
    counting.daemon = daemon
    for kind in (RequestKind.ARM, RequestKind.STOP):
        answer = daemon.ask(Request(kind), timeout_s=0.01)
        assert not answer.ok
        assert "the loop does not run" in answer.text
    loop = threading.Thread(target=daemon.run, args=(None,))
    loop.start()
    loop.join(20.0)
    asked = [request.kind for record in counting.records for request in record.input.requests]
    assert asked == [RequestKind.STOP]


def test_a_removed_folder_is_told_and_the_run_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_writer, "SYNC_S", 0.05)
    (tmp_path / "folder").mkdir()
    recorder = Recorder(CONFIG, tmp_path / "folder" / "run.mcap", "")
    counting = Counting(150)
    daemon = daemon_of(StillLinks(), recorder, counting)
    counting.daemon = daemon
    told: list[tuple[str, str]] = []
    recorder.attach(daemon, lambda name, line: told.append((name, line)))
    shutil.rmtree(tmp_path / "folder")
    daemon.run(None)
    recorder.close()
    assert len(counting.records) == 150
    assert [name for name, line in told if "run.mcap ended early" in line] == ["recordings"]
    assert not [path for path in recorder.paths if path.exists()]


def test_that_the_machine_held_the_rig_up_is_a_measurement_of_the_tick() -> None:
    """Recorded like any other, so that a replay blames the machine, too."""
    counting = Counting(3)
    held = LinkEvent(1, Link.ENCODER, LinkState.STARVED, "not run for 70 ms")
    devices = Devices(StillLinks(), held_up=lambda _now_ns: held)
    counting.daemon = daemon = Daemon(CONFIG, devices, (counting,))
    daemon.run(None)
    assert held in counting.records[0].input.measurements


class Littering:
    """Leaves more circles behind than an ordinary collector would bear, and ends the loop.

    Keeps whether the collector was off, how much it does not look at, and the circles weakly.
    """

    def __init__(self, last: int) -> None:
        self.off: list[bool] = []
        self.frozen: list[int] = []
        self.left: list[weakref.ref[Circle]] = []
        self.daemon: Daemon | None = None
        self._last = last

    def put_tick(
        self, record: TickRecord, truth: State | None = None, timing: TickTiming | None = None
    ) -> None:
        self.off.append(not gc.isenabled())
        self.frozen.append(gc.get_freeze_count())
        circles = [Circle() for _ in range(2 * gc.get_threshold()[0])]
        self.left.append(weakref.ref(circles[-1]))
        if self.daemon is not None and len(self.off) == self._last:
            self.daemon.stop()


class Circle:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_is_collected_young_and_on_purpose_while_running() -> None:
    """No tick waits for a collection of all that the program has; and nothing piles up."""
    collected: list[int] = []

    def watch(phase: str, told: dict[str, int]) -> None:
        if phase == "start" and littering.off:
            collected.append(told["generation"])

    littering = Littering(3 * COLLECT_EVERY)
    littering.daemon = daemon = daemon_of(StillLinks(), littering)
    gc.callbacks.append(watch)
    try:
        daemon.run(None)
    finally:
        gc.callbacks.remove(watch)
    assert all(littering.off)
    assert min(littering.frozen) > 0  # what was there before is not looked at
    # In the idle end of a tick, of the youngest only: a circle of a few ticks ago is gone.
    assert set(collected) == {0}
    assert len(collected) >= 2
    assert [kept() for kept in littering.left[:COLLECT_EVERY]] == [None] * COLLECT_EVERY
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
