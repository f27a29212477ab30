"""The simulated rig in virtual time: plant, boards and camera, stepped by the times of the ticks.

Every encoder sample and every command passes as bytes through the drivers that serve a real rig.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cartpole.messages import (
    NANOSECONDS,
    Command,
    DetectionHint,
    HomingResult,
    Measurement,
)
from cartpole.sim.boards import NEVER, ArduinoAsciiBoard, SabertoothTextBoard
from cartpole.sim.camera import State, VirtualCamera
from cartpole.sim.plant import Plant
from cartpole.sim.truth import true_motor
from firmware_bridge.arduino_ascii import POLL, ArduinoAscii
from firmware_bridge.sabertooth_text import SabertoothText

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.vision.frame import Frame

FAR_NS = 1 << 62  # later than anything

Tap = Callable[[int, str, str, bytes], None]  # t_ns, link, "in" or "out", bytes


def start_state(config: Config, seed: int) -> State:
    """Hanging nearly at rest near the middle; off to one side while homing is still to do."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    p, theta = rng.uniform(-0.02, 0.02), rng.uniform(-0.03, 0.03)
    if not config.sim.homed:
        p, theta = rng.uniform(-0.5, 0.5) * config.rig.position_limit_m, 0.0
    return float(p), 0.0, float(theta), 0.0


def true_driver(config: Config) -> SabertoothText:
    """The motor driver as it is, wiring, gain and dead band included."""
    return SabertoothText.from_config(true_motor(config))


class VirtualRig:
    """``advance`` to a tick's time and read; ``send`` its command."""

    def __init__(
        self,
        config: Config,
        seed: int,
        *,
        hint: Callable[[int], DetectionHint | None] = lambda _t_ns: None,
        start: State | None = None,
        t_ns: int = 0,
        tap: Tap | None = None,
        on_frame: Callable[[Frame], None] | None = None,
    ) -> None:
        self.plant = Plant(
            config, seed, start_state(config, seed) if start is None else start, t_ns
        )
        self._tap = tap
        self._zero = self.plant.counts(t_ns)
        self._camera = (
            VirtualCamera(config, seed, hint, t_ns, on_frame)
            if config.camera.source != "none"
            else None
        )
        self._has_encoder = config.encoder.protocol != "none"
        self._board = ArduinoAsciiBoard(self.plant, t_ns=t_ns)
        self._encoder = ArduinoAscii.from_config(config)
        self._poll_ns = round(NANOSECONDS / config.encoder.poll_hz)
        self._next_poll_ns = t_ns + self._poll_ns
        self._driver = SabertoothText.from_config(config.motor)
        self._motor = SabertoothTextBoard(self.plant, true_driver(config))

    @property
    def homing(self) -> HomingResult:
        """What a perfect homing would find."""
        return HomingResult(-float(self._zero[0]), -float(self._zero[1]))

    def truth(self, t_ns: int) -> State:
        """(p, v, theta, omega) at a time not before the last one asked for."""
        return self.plant.advance(t_ns)

    def advance(self, now_ns: int) -> tuple[Measurement, ...]:
        """Everything that reached the host by ``now_ns``, in the order of arrival."""
        out: list[Measurement] = []
        while True:
            answer_ns, poll_ns, shot_ns = self._due()
            if min(answer_ns, poll_ns, shot_ns) > now_ns:
                break
            if answer_ns <= poll_ns and answer_ns <= shot_ns:
                self._read_board(answer_ns, out)
            elif poll_ns <= shot_ns:
                self._poll(poll_ns)
            else:
                self._expose(shot_ns)
        self.plant.advance(now_ns)
        if self._camera is not None:
            out.extend(self._camera.arrived(now_ns))
        return tuple(out)

    def send(self, now_ns: int, command: Command) -> None:
        """The command's bytes, written at ``now_ns``."""
        data = self._driver.encode(command.velocity_m_s)
        if self._tap is not None:
            self._tap(now_ns, "motor", "out", data)
        self._motor.exchange(now_ns, data)

    def _due(self) -> tuple[int, int, int]:
        """When the board answers next, when it is asked next, when the camera exposes next."""
        shot_ns = self._camera.next_ns if self._camera is not None else FAR_NS
        if not self._has_encoder:
            return FAR_NS, FAR_NS, shot_ns
        answer_ns = self._board.next_ns()
        return FAR_NS if answer_ns == NEVER else answer_ns, self._next_poll_ns, shot_ns

    def _poll(self, t_ns: int) -> None:
        self._next_poll_ns += self._poll_ns
        if self._tap is not None:
            self._tap(t_ns, "encoder", "out", POLL)
        self._encoder.asked(t_ns)
        self._board.exchange(t_ns, POLL)

    def _read_board(self, t_ns: int, out: list[Measurement]) -> None:
        data = self._board.exchange(t_ns, b"")
        if not data:
            return
        if self._tap is not None:
            self._tap(t_ns, "encoder", "in", data)
        out.extend(self._encoder.feed(data, t_ns))

    def _expose(self, t_ns: int) -> None:
        if self._camera is not None:
            self._camera.expose(self.plant.advance(t_ns))
