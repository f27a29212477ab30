"""The camera process: capture, detect, hand over; in a process of its own so that neither the
parent's interpreter lock nor its work can delay a picture.

The loop is ``take orders → read → detect → hand over``. A lost camera is reported and reopened with
growing pauses for as long as the process lives; the process itself ends with its parent.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cartpole import realtime
from cartpole.config.schema import Camera
from cartpole.errors import DeviceError, DeviceLost, DeviceNotFound
from cartpole.messages import NANOSECONDS, Detection, DetectionHint, Link, LinkEvent, LinkState
from cartpole.vision import wire
from cartpole.vision.frame import Frame
from cartpole.vision.ring import FrameRing
from cartpole.vision.source import CameraSource
from cartpole.vision.sources import make_source
from cartpole.vision.warm_up import FrameTracker, drawn_pole, warm_up
from cartpole.vision.wire import Word

MAX_AGE_S = 0.1  # older pictures are worth nothing to the filter
MAX_HINT_AGE_NS = 150_000_000
_READ_TIMEOUT_S = 0.05
_REPORT_NS = NANOSECONDS // 2
_TERM_GRACE_S = 3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


TrackerFactory = Callable[[Camera], FrameTracker]


def default_tracker(camera: Camera) -> FrameTracker:
    """The package's own tracker."""
    from cartpole.vision.tracker import Tracker

    return Tracker(camera)


@dataclass(frozen=True, slots=True)
class CaptureStatistics:
    """How capture goes; latencies are from arrival to handed over, of the last few seconds."""

    frames: int = 0
    gaps: int = 0  # exposed and never seen here
    skipped: int = 0  # drained in favour of a newer one
    stale: int = 0  # too old when read
    unsent: int = 0  # the parent did not read for seconds
    reopened: int = 0
    rate_hz: float = 0.0
    latency_p50_us: float = 0.0
    latency_p99_us: float = 0.0
    latency_max_us: float = 0.0
    device: str = ""


@dataclass(frozen=True)
class WorkerSetup:
    """Everything the process is started with."""

    camera: Camera
    parent: int
    pictures: FrameRing
    rig: FrameRing | None
    tracker: TrackerFactory
    priority: int = 0
    avoid_cpu: int = -1
    lock_memory: bool = False


def run(setup: WorkerSetup, channel: socket.socket) -> None:
    """Body of the process."""
    # The parent decides when to stop. A service manager that ends all processes at once must not
    # take the camera from a parent that is still braking.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_TERM_GRACE_S))
    threading.Thread(target=_end_with_parent, args=(channel, setup.parent), daemon=True).start()
    channel.setblocking(False)
    gc.disable()
    _take_scheduling(0, setup.avoid_cpu)
    try:
        worker = _Worker(setup, channel)
        # Only now: importing and compiling at this priority would starve the rest of the machine.
        _take_scheduling(setup.priority, setup.avoid_cpu)
        if setup.lock_memory:
            realtime.lock_memory()
    except Exception as error:
        wire.send(channel, Word.FAILED, f"{type(error).__name__}: {error}")
        raise
    with contextlib.suppress(wire.Closed):
        worker.loop()


def _end_with_parent(channel: socket.socket, parent: int) -> None:
    """End the process when the parent is gone, whatever the main thread is stuck in.

    Two signs, because either can fail: the channel stays open while a fork of the parent holds it,
    and a death signal follows the thread that started us rather than the process.
    """
    hung_up = select.poll()
    hung_up.register(channel, 0)  # POLLHUP is always reported
    while not hung_up.poll(500) and os.getppid() == parent:
        pass
    os._exit(0)


def _take_scheduling(priority: int, avoid_cpu: int) -> None:
    """Shed what was inherited from a real-time parent and take our own; refusals are no failure."""
    processors = set(range(os.cpu_count() or 1)) - {avoid_cpu}
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, processors)
    policy = os.SCHED_FIFO if priority > 0 else os.SCHED_OTHER
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, policy, os.sched_param(priority))


class _Worker:
    """State of the loop."""

    def __init__(self, setup: WorkerSetup, channel: socket.socket) -> None:
        self._setup, self._channel = setup, channel
        self._camera = setup.camera
        self._source: CameraSource = make_source(setup.camera, setup.rig)
        self._tracker = self._warm_tracker()
        self._hint: DetectionHint | None = None
        self._running = True
        self._sequence_base = 0
        self._last_sequence = -1
        self._unsent = self._reopened = 0
        self._device = ""
        self._said: tuple[LinkState | None, str] = (None, "")
        self._latencies_ns: deque[int] = deque(maxlen=512)
        self._times_ns: deque[int] = deque(maxlen=128)
        self._report_ns = 0

    def _warm_tracker(self) -> FrameTracker:
        """Compile or load every kernel before the first real picture."""
        camera = self._camera
        tracker = self._setup.tracker(camera)
        warm_up(tracker, camera)
        ring = FrameRing(camera.height_px, camera.width_px, 2)
        ring.write(Frame(drawn_pole(camera, 0.0), 0, 0, 0))
        ring.newest()
        ring.close()
        gc.collect()
        gc.freeze()
        gc.enable()
        return tracker

    def loop(self) -> None:
        """Run until told to stop."""
        wire.send(self._channel, Word.READY)
        pause_s = _FIRST_PAUSE_S
        while self._running:
            try:
                self._device = self._source.open()
            except DeviceError as error:
                missing = isinstance(error, DeviceNotFound)
                self._say(LinkState.DOWN if missing else LinkState.REFUSED, str(error))
                self._pause(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            pause_s = _FIRST_PAUSE_S
            self._sequence_base = self._last_sequence + 1
            self._tracker.reset()
            self._say(LinkState.UP, self._device)
            try:
                self._capture()
            except DeviceLost as error:
                self._say(LinkState.DOWN, str(error))
                self._reopened += 1
                self._times_ns.clear()
            finally:
                self._source.close()

    def _capture(self) -> None:
        first = -1
        while self._running:
            frame = self._source.read_latest(MAX_AGE_S, _READ_TIMEOUT_S)
            self._take_orders()
            if frame is not None:
                if first < 0:
                    first = frame.sequence
                self._handle(replace(frame, sequence=self._sequence_base + frame.sequence - first))
            self._report()

    def _handle(self, frame: Frame) -> None:
        if frame.sequence <= self._last_sequence:  # the camera began to count anew
            self._sequence_base += self._last_sequence + 1 - frame.sequence
            frame = replace(frame, sequence=self._last_sequence + 1)
        self._last_sequence = frame.sequence
        self._setup.pictures.write(frame)  # so that a detection's picture is there before it
        hint = self._hint
        if hint is not None and frame.t_ns - hint.t_ns > MAX_HINT_AGE_NS:
            hint = None
        found = self._tracker.detect(frame.data, frame.t_ns, frame.arrival_ns, frame.sequence, hint)
        if not wire.send(self._channel, Word.DETECTION, *_detection_fields(found)):
            self._unsent += 1
        now_ns = time.monotonic_ns()
        self._latencies_ns.append(now_ns - frame.arrival_ns)
        self._times_ns.append(now_ns)

    def _take_orders(self) -> None:
        while (record := wire.receive(self._channel)) is not None:
            word, *fields = record
            if word == Word.HINT:
                self._hint = DetectionHint(*fields)
            elif word == Word.THRESHOLD:
                self._tracker.set_threshold(fields[0])
            elif word == Word.STOP:
                self._running = False

    def _pause(self, seconds: float) -> None:
        """Wait before opening again, still listening."""
        end_ns = time.monotonic_ns() + int(seconds * 1e9)
        while self._running and (left_ns := end_ns - time.monotonic_ns()) > 0:
            select.select([self._channel], [], [], left_ns * 1e-9)
            self._take_orders()
            self._report()

    def _say(self, state: LinkState, detail: str) -> None:
        """Tell what is new: a camera is down once, and refuses once for each reason."""
        if state is self._said[0] and (state is LinkState.DOWN or detail == self._said[1]):
            return
        self._said = (state, detail)
        wire.send(self._channel, Word.LINK, time.monotonic_ns(), state.value, detail)

    def _report(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._report_ns:
            return
        self._report_ns = now_ns + _REPORT_NS
        counters, times = self._source.counters, self._times_ns
        latency = np.array(self._latencies_ns or (0,)) * 1e-3
        p50, p99 = np.percentile(latency, (50, 99))
        rate = (len(times) - 1) * 1e9 / (times[-1] - times[0]) if len(times) > 2 else 0.0
        statistics = CaptureStatistics(
            frames=counters.frames,
            gaps=counters.gaps,
            skipped=counters.skipped,
            stale=counters.stale,
            unsent=self._unsent,
            reopened=self._reopened,
            rate_hz=rate,
            latency_p50_us=float(p50),
            latency_p99_us=float(p99),
            latency_max_us=float(latency.max()),
            device=self._device,
        )
        wire.send(self._channel, Word.STATISTICS, statistics)


def _detection_fields(found: Detection) -> tuple[Any, ...]:
    """Plain values, quicker to pickle than the record."""
    return (
        found.t_ns,
        found.arrival_ns,
        found.sequence,
        int(found.status),
        found.theta_rad,
        found.p_m,
        found.sigma_theta_rad,
        found.sigma_p_m,
        found.confidence,
        found.corners_px,
        found.omega_rad_s,
        found.sigma_omega_rad_s,
        found.corr_theta_p,
        found.corr_theta_omega,
        found.corr_p_omega,
        found.residual,
        found.threshold,
    )


def link_event(fields: list[Any]) -> LinkEvent:
    """The record behind ``Word.LINK``."""
    t_ns, state, detail = fields
    return LinkEvent(t_ns, Link.CAMERA, LinkState(state), detail)
