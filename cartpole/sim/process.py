"""The simulated rig in real time: a process of its own with plant, boards and camera.

It speaks to the daemon only as a rig does: bytes through pseudo-terminals, pictures through the
ring that stands for the camera's cable. Beside that it shows its truth, for the summary, and obeys
a few orders (pull a plug, push the pole), for tests.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cartpole import realtime
from cartpole.errors import DeviceError
from cartpole.messages import NANOSECONDS, LinkEvent
from cartpole.sim.heartbeat import Heartbeat, Listening
from cartpole.sim.shutter import Shot, Shutter, State
from cartpole.vision.ring import FrameRing

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.sim.rules import RigRules

LONGEST_WAIT_S = 0.002
ABOVE = 10  # the control loop's priority
START_TIMEOUT_S = 180.0  # the first start compiles kernels
ENCODER, MOTOR = "encoder", "motor"


@dataclass(frozen=True, slots=True)
class RigSetup:
    """What the process is started with."""

    config: Config
    seed: int
    folder: str
    parent: int


class SimulatedRig:
    """The parent's handle; ``encoder_port`` and ``motor_port`` open as serial ports."""

    def __init__(self, config: Config, seed: int, folder: Path) -> None:
        self.config = config
        self.encoder_port = str(folder / ENCODER)
        self.motor_port = str(folder / MOTOR)
        camera = config.camera
        self.ring: FrameRing | None = (
            FrameRing(camera.height_px, camera.width_px) if camera.source == "sim" else None
        )
        context = multiprocessing.get_context("spawn")
        # Generation (odd while written), time, p, v, theta, omega; held up until, and for how long;
        # what the drive is told.
        self._truth: Any = context.RawArray("d", 9)
        self._listening = Listening()
        self._orders, theirs = context.Pipe()
        setup = RigSetup(config, seed, str(folder), os.getpid())
        self._process = context.Process(
            target=run,
            args=(setup, self.ring, self._truth, theirs),
            name="cartpole-rig",
            daemon=True,
        )

    def start(self) -> None:
        """Start the process; ``wait_ready`` before using its ports."""
        self._process.start()

    def wait_ready(self) -> None:
        """Wait until the ports can be opened; DeviceError if that fails."""
        if not self._orders.poll(START_TIMEOUT_S) or self._orders.recv() != "ready":
            raise DeviceError("the simulated rig did not start")

    def truth(self, t_ns: int) -> State:
        """(p, v, theta, omega) at ``t_ns``, led on from a truth a few milliseconds old."""
        for _ in range(100):
            generation = self._truth[0]
            _, then_s, p, v, theta, omega = self._truth[:6]
            if generation == self._truth[0] and int(generation) % 2 == 0:
                break
        ahead = min(max(t_ns / NANOSECONDS - then_s, -0.05), 0.05)
        return p + v * ahead, v, theta + omega * ahead, omega

    @property
    def told_m_s(self) -> float:
        """What the drive is told to do, as its board's pins or its own time-out have it."""
        return float(self._truth[8])

    @property
    def held(self) -> tuple[float, float]:
        """When the machine last let the rig run again after holding it up, and for how long [s]."""
        return float(self._truth[6]), float(self._truth[7])

    def held_up(self, now_ns: int) -> LinkEvent | None:
        """News of the machine not running the rig; ``None``: it runs, or that was told."""
        beat_s, until_s, for_s = self._truth[1], self._truth[6], self._truth[7]
        shown = (round(value * NANOSECONDS) for value in (beat_s, until_s, for_s))
        return self._listening.held_up(now_ns, *shown)

    def order(self, word: str, *values: float | str) -> None:
        """``unplug``/``plug`` with a port's name or "camera"; ``push`` with m/s and rad/s;
        ``flood`` with a port's name and bytes/s of garbage."""
        self._orders.send((word, *values))

    def push(self, cart_m_s: float, pole_rad_s: float) -> None:
        """A sudden change of speed, as by a hand."""
        self.order("push", cart_m_s, pole_rad_s)

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            with contextlib.suppress(OSError):
                self._orders.send(("stop",))
            self._process.join(2.0)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        if self.ring is not None:
            self.ring.close()


def run(setup: RigSetup, ring: FrameRing | None, truth: Any, orders: Connection) -> None:
    """The process: serve until told to stop, or the parent is gone."""
    from cartpole.kernel_cache import use_kernel_cache

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    use_kernel_cache()
    world = _World(setup, ring, truth)
    # Real hardware is not starved by a busy host: where allowed, neither is this. Only once all is
    # imported and compiled, which at this priority would starve everybody else.
    service = setup.config.service
    if service.priority > 0:
        with contextlib.suppress(OSError):
            realtime.take_priority(min(service.priority + ABOVE, 99))
    if service.lock_memory:
        realtime.lock_memory()
    realtime.freeze_garbage()
    world.begin()
    orders.send("ready")
    try:
        while os.getppid() == setup.parent:
            world.step()
            if orders.poll() and not world.obey(orders.recv()):
                return
    except (EOFError, OSError):
        return
    finally:
        world.close()


class _World:
    def __init__(self, setup: RigSetup, ring: FrameRing | None, truth: Any) -> None:
        from cartpole.rules.sim import rig_rules
        from cartpole.sim.plant import Plant
        from cartpole.sim.pty_port import PtyServer
        from cartpole.sim.rig import start_state

        rules, seed = rig_rules(setup.config), setup.seed
        begin_ns = time.monotonic_ns()
        self.plant = Plant(rules, seed, start_state(rules, seed, homed=False), begin_ns)
        self._ports = _ports(rules, self.plant, Path(setup.folder))
        self._server = PtyServer(list(self._ports.values()))
        self._ring, self._truth = ring, truth
        self._generation = 0
        self._flying: deque[Shot] = deque()
        self._eye: Any = None
        if ring is not None:
            from cartpole.sim.eye import Eye

            self._eye = Eye(rules, seed)
            self._eye.draw(Shot(0, 0, 0, 0, (0.0, 0.0, 0.0, 0.0), False, False))  # compile now
        self._rules, self._seed = rules, seed
        self.begin()

    def begin(self) -> None:
        """Time runs from here: what passed while the rig was made is no picture and no stall."""
        now_ns = time.monotonic_ns()
        self._shutter = Shutter(self._rules, self._seed, now_ns)
        self._heart = Heartbeat(now_ns)
        self.plant.advance(now_ns)

    def step(self) -> None:
        """Wait for bytes or the next thing due; then bring everything up to now."""
        self._server.serve_once(self._wait_s())
        now_ns = time.monotonic_ns()
        self._heart.beat(now_ns)
        self._take_pictures(now_ns)
        self._show_truth(now_ns)

    def _wait_s(self) -> float:
        if self._eye is None:
            return LONGEST_WAIT_S
        due_ns = self._shutter.next_ns
        if self._flying:
            due_ns = min(due_ns, self._flying[0].arrival_ns)
        return min(max((due_ns - time.monotonic_ns()) / NANOSECONDS, 0.0), LONGEST_WAIT_S)

    def _take_pictures(self, now_ns: int) -> None:
        if self._eye is None or self._ring is None:
            return
        while self._shutter.next_ns <= now_ns:
            shot = self._shutter.expose(self._seen(self._shutter.next_ns))
            if not shot.lost:
                self._flying.append(shot)
        while self._flying and self._flying[0].arrival_ns <= now_ns:
            shot = self._flying.popleft()
            if self._ring.plugged:
                self._ring.write(self._eye.draw(shot))

    def _seen(self, t_ns: int) -> State:
        """The state at an exposure that may lie a moment before the plant's time."""
        p, v, theta, omega = self.plant.advance(t_ns)
        back = (t_ns - self.plant.t_ns) / NANOSECONDS
        return p + v * back, v, theta + omega * back, omega

    def _show_truth(self, now_ns: int) -> None:
        state = self.plant.advance(now_ns)
        self._generation += 1
        self._truth[0] = self._generation
        self._truth[1] = self.plant.t_ns / NANOSECONDS
        self._truth[2:6] = state
        self._truth[6] = self._heart.held_until_ns / NANOSECONDS
        self._truth[7] = self._heart.held_ns / NANOSECONDS
        self._truth[8] = self.plant.told[1]
        self._generation += 1
        self._truth[0] = self._generation

    def obey(self, order: tuple[Any, ...]) -> bool:
        """Carry out an order; False to stop."""
        word, *values = order
        if word == "push":
            self.plant.push(*values)
        elif word == "flood":
            self._ports[values[0]].flood(values[1])
        elif word in ("plug", "unplug"):
            name = values[0]
            if name == "camera" and self._ring is not None:
                self._ring.set_plugged(word == "plug")
            elif word == "plug":
                self._server.plug(self._ports[name])
            else:
                self._server.unplug(self._ports[name])
        return bool(word != "stop")

    def close(self) -> None:
        self._server.close()


def _ports(rules: RigRules, plant: Any, folder: Path) -> dict[str, Any]:
    """The boards that the config's protocols name, each behind its pseudo-terminal."""
    from cartpole.sim.boards import ArduinoAsciiBoard, SabertoothTextBoard
    from cartpole.sim.pty_port import PtyPort
    from cartpole.sim.rig import ENCODER_LINE, MOTOR_LINE
    from cartpole.sim.worn import worn_line
    from firmware_bridge.sabertooth_text import SabertoothText

    now_ns = time.monotonic_ns()
    ports: dict[str, Any] = {}
    if rules.told.motor.protocol == "bridge":
        from cartpole.sim.avr_board import AvrBoard

        ports[MOTOR] = PtyPort(AvrBoard(rules.true.motor, plant, t_ns=now_ns), folder / MOTOR)
    else:
        timeout_ns = round(rules.board_timeout_s * NANOSECONDS)
        driver = SabertoothText.from_config(rules.true.motor)
        board = SabertoothTextBoard(plant, driver, timeout_ns=timeout_ns)
        line = worn_line(board, rules.sim, rules.sim.seed, MOTOR_LINE, commands=True)
        ports[MOTOR] = PtyPort(line, folder / MOTOR)
    if rules.told.encoder.protocol == "arduino_ascii":
        pressed = rules.true.encoder.switch_active == "high"
        reader = ArduinoAsciiBoard(plant, pressed=pressed, t_ns=now_ns)
        encoder = worn_line(reader, rules.sim, rules.sim.seed, ENCODER_LINE)
        ports[ENCODER] = PtyPort(encoder, folder / ENCODER)
    return ports
