"""The daemon: threads, ports, processes and the clock around one ``ControlCore``."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from cartpole import realtime
from cartpole.control.core import ControlCore
from cartpole.control.governor import slew
from cartpole.control.timed_planner import TimedPlanner
from cartpole.daemon.recovery import Recovery
from cartpole.errors import CartpoleError
from cartpole.messages import (
    NANOSECONDS,
    Answer,
    Command,
    Detection,
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
from cartpole.pacing import Pacer, Wake
from cartpole.rules.control import config_of, settings_of
from cartpole.rules.firmware_bridge import link_rules
from cartpole.rules.optimizer import planner_rules

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.sim.shutter import State
    from cartpole.vision.process import CameraProcess
    from firmware_bridge.rig_links import RigLinks

T = TypeVar("T")
Asked = tuple[Request, "Future[Answer]"]
STOPPING = (RequestKind.STOP, RequestKind.DISARM)
STOP_WITHIN_S = 1.5
QUIET_TICKS = 25  # with all devices up, before a configured start by itself
COLLECT_EVERY = 50  # ticks


class Listener(Protocol):
    """Anybody who is shown every tick: recorder, summary, page. Must not wait.

    One that raises is shown no more.
    """

    def put_tick(
        self, record: TickRecord, truth: State | None = None, timing: TickTiming | None = None
    ) -> None:
        """A tick is over."""


@dataclass(frozen=True, slots=True)
class Devices:
    """What the daemon drives; ``camera`` is absent on a rig without one."""

    links: RigLinks
    camera: CameraProcess | None = None
    truth: Callable[[int], State] | None = None
    push: Callable[[float, float], None] | None = None  # cart [m/s], pole [rad/s]: simulated only
    held_up: Callable[[int], LinkEvent | None] | None = None  # does the machine run the rig?


class Daemon:
    """One rig, one loop. ``submit`` may be called from any thread; ``latest`` read from any."""

    def __init__(self, config: Config, devices: Devices, listeners: tuple[Listener, ...]) -> None:
        self._config = config
        self._devices = devices
        self._listeners = list(listeners)
        self._lost: list[LinkEvent] = []  # listeners, since the last tick
        self._threshold = config.camera.threshold
        self._planner = TimedPlanner(planner_rules(config))
        self._core = ControlCore(settings_of(config), planner=self._planner)
        self._told = config  # what the links know
        self._requests: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self._errands: queue.SimpleQueue[Callable[[ControlCore], None]] = queue.SimpleQueue()
        self._period_ns = round(config.controller.period_s * NANOSECONDS)
        self._seen_encoder = config.encoder.protocol == "none"
        self._seen_camera = config.camera.source == "none"
        self._sent: Command | None = None
        self._stopping = False
        self.latest: TickRecord | None = None
        self.latest_timing: TickTiming | None = None
        self.latest_detection: Detection | None = None
        self.events: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.on_tick: Callable[[TickRecord], None] = lambda _record: None

    @property
    def config(self) -> Config:
        """The settings in force."""
        return config_of(self._core.settings)

    @property
    def push(self) -> Callable[[float, float], None] | None:
        """A hand on the simulated rig: cart [m/s], pole [rad/s]; ``None`` on a real one."""
        return self._devices.push

    @property
    def mode(self) -> Mode:
        """The core's present mode."""
        return self._core.mode

    def submit(self, request: Request) -> Future[Answer]:
        """Ask for something; it is done, and answered, in the next tick."""
        answer: Future[Answer] = Future()
        self._requests.put((request, answer))
        return answer

    def ask(self, request: Request, timeout_s: float = 2.0) -> Answer:
        """Submit and wait for the answer.

        What no tick took in time is withdrawn, so that it does not happen later; a stop never is.
        """
        answer = self.submit(request)
        with contextlib.suppress(FutureTimeout):
            return answer.result(timeout_s)
        withdrawn = request.kind not in STOPPING and answer.cancel()
        if not withdrawn:  # or a tick has it this very moment
            with contextlib.suppress(FutureTimeout):
                return answer.result(timeout_s)
        return Answer(False, "no answer: the loop does not run")

    def between_ticks(self, work: Callable[[ControlCore], T], timeout_s: float = 2.0) -> T:
        """Have ``work`` done by the control thread once the next command is out; it must be quick.

        Returns, or raises, what it does; CartpoleError if the loop does not run.
        """
        done: Future[T] = Future()

        def errand(core: ControlCore) -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(work(core))
            except Exception as error:  # the asker's, never the loop's
                done.set_exception(error)

        self._errands.put(errand)
        try:
            return done.result(timeout_s)
        except FutureTimeout:
            if done.cancel():
                raise CartpoleError("no answer: the loop does not run") from None
            return done.result()

    def stop(self) -> None:
        """Brake, then leave the loop; safe to call from a signal handler."""
        self._stopping = True

    def run(self, duration_s: float | None) -> TickRecord | None:
        """Tick until ``duration_s`` after the first tick of SWING_UP, a stop, or a fault that ends
        a run of limited duration; then brake. Returns the last record before braking."""
        realtime.freeze_garbage()
        pacer = Pacer(self._config.controller.period_s)
        try:
            return self._loop(pacer, duration_s)
        finally:
            try:
                self._brake(pacer)
            finally:
                realtime.thaw_garbage()

    def _loop(self, pacer: Pacer, duration_s: float | None) -> TickRecord | None:
        started_ns: int | None = None
        autostart = self._config.startup.action == "swing_up"
        recovery = Recovery(self._config) if self._devices.push is not None else None
        quiet_ticks = 0
        while not self._stopping:
            record = self._tick(pacer.wait(), self._take_requests(), listen=True)
            now_ns = record.input.now_ns
            quiet_ticks += self._devices_ready
            if autostart and quiet_ticks >= QUIET_TICKS:
                autostart = False
                self.submit(Request(RequestKind.ARM))
                self.submit(Request(RequestKind.SWING_UP))
            if started_ns is None and record.mode is Mode.SWING_UP:
                started_ns = now_ns
            if recovery is not None and recovery.goes_on(record):
                for kind in recovery.due(record):
                    self.submit(Request(kind))
            elif duration_s is not None and self._over(record, started_ns, duration_s):
                break
        return self.latest

    @property
    def _devices_ready(self) -> bool:
        return self._seen_encoder and self._seen_camera

    def _over(self, record: TickRecord, started_ns: int | None, duration_s: float) -> bool:
        if record.mode is Mode.FAULT:
            return True
        if started_ns is None:
            return False
        elapsed_ns = record.input.now_ns - started_ns + self._period_ns
        return elapsed_ns >= duration_s * NANOSECONDS - self._period_ns // 2

    def _brake(self, pacer: Pacer) -> None:
        """Bring the cart to rest under the governor, however long it takes within reason.

        Whatever ended the loop may end this, too: then the command is ramped down without a core.
        """
        until_ns = time.monotonic_ns() + round(STOP_WITHIN_S * NANOSECONDS)
        asked: list[Asked] = [(Request(RequestKind.STOP), Future())]
        try:
            while time.monotonic_ns() < until_ns:
                record = self._tick(pacer.wait(), asked, listen=False)
                if record.mode in (Mode.DISARMED, Mode.FAULT):
                    return
                asked = []
        except Exception as error:
            self.events.put(f"braking without the controller: {error!r}")
        self._ramp_down(pacer)

    def _ramp_down(self, pacer: Pacer) -> None:
        """From the last command that went out to zero, by the governor's steps; then drive off."""
        limits, last = self._core.rules.governor, self._sent
        while last is not None and last.enable:
            velocity = slew(0.0, last.velocity_m_s, limits)
            now_ns = pacer.wait().now_ns
            last = Command(now_ns, last.sequence + 1, velocity, velocity != 0.0, 0.0)
            with contextlib.suppress(Exception):  # the link's own close sends zero, too
                self._devices.links.send(last)

    def _tick(self, wake: Wake, asked: list[Asked], *, listen: bool) -> TickRecord:
        requests = tuple(request for request, _ in asked)
        tick = TickInput(wake.now_ns, self._measurements(), requests, self._budget(wake))
        record = self._core.tick(tick)
        self._sent = record.command
        self._devices.links.send(record.command)
        if self.config is not self._told:
            self._told = self.config
            self._devices.links.update(link_rules(self._told))
        sent_ns = time.monotonic_ns()
        self._core.after_tick()
        self._aim_camera(wake.now_ns)
        timing = TickTiming(
            now_ns=wake.now_ns,
            late_ns=wake.late_ns,
            compute_ns=sent_ns - wake.now_ns,
            solver_ns=self._planner.take_elapsed_ns(),
            missed=wake.skipped > 0 or sent_ns - wake.now_ns + wake.late_ns > self._period_ns,
        )
        self.latest, self.latest_timing = record, timing
        if listen:
            self._show(record, timing)
        for event in record.events:
            self.events.put(event)
        for (_, answer), told in zip(asked, record.answers, strict=True):
            answer.set_result(told)
        self.on_tick(record)
        while not self._errands.empty():
            self._errands.get()(self._core)
        if record.index % COLLECT_EVERY == 0:
            realtime.collect_young()
        return record

    def _show(self, record: TickRecord, timing: TickTiming) -> None:
        """The tick to every listener; who raises is dropped, and the next tick says so."""
        now_ns = record.input.now_ns
        truth = self._devices.truth(now_ns) if self._devices.truth is not None else None
        for listener in tuple(self._listeners):
            try:
                listener.put_tick(record, truth, timing)
            except Exception as error:
                self._listeners.remove(listener)
                told = f"{type(listener).__name__} is dropped: {error!r}"
                self._lost.append(LinkEvent(now_ns, Link.LISTENER, LinkState.DOWN, told))

    def _measurements(self) -> tuple[Measurement, ...]:
        found: list[Measurement] = [*self._devices.links.poll(), *self._lost]
        self._lost.clear()
        held = self._devices.held_up(time.monotonic_ns()) if self._devices.held_up else None
        if held is not None:
            found.append(held)
        if self._devices.camera is not None:
            seen = self._devices.camera.poll()
            found.extend(seen)
            for item in seen:
                if isinstance(item, Detection):
                    self.latest_detection = item
        if not self._devices_ready:
            self._seen_encoder |= any(isinstance(item, EncoderSample) for item in found)
            self._seen_camera |= any(isinstance(item, Detection) for item in found)
        return tuple(found)

    def _take_requests(self) -> list[Asked]:
        taken: list[Asked] = []
        while not self._requests.empty() and len(taken) < 32:
            request, answer = self._requests.get()
            if answer.set_running_or_notify_cancel():
                taken.append((request, answer))
        return taken

    def _budget(self, wake: Wake) -> int:
        """Newton steps that fit into what is left of the period."""
        left = 1.0 - wake.late_ns / self._period_ns
        return max(0, round(self.config.optimizer.newton_steps * min(1.0, 2.0 * left)))

    def _aim_camera(self, now_ns: int) -> None:
        if self._devices.camera is None:
            return
        threshold = self.config.camera.threshold
        if threshold != self._threshold:
            self._threshold = threshold
            self._devices.camera.set_threshold(threshold)
        hint = self._core.hint(now_ns)
        if hint is not None:
            self._devices.camera.publish_hint(hint)
