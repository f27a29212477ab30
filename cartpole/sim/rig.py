"""The simulated rig in virtual time: plant, boards and camera, stepped by the times of the ticks.

Every encoder sample and every command passes as bytes through the drivers that serve a real rig.
"""

from __future__ import annotations

from collections import deque
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
from cartpole.sim.camera import VirtualCamera
from cartpole.sim.plant import Plant
from cartpole.sim.shutter import State
from cartpole.sim.worn import worn_line
from firmware_bridge.arduino_ascii import ArduinoAscii
from firmware_bridge.board_lines import POLL
from firmware_bridge.sabertooth_text import SabertoothText

if TYPE_CHECKING:
    from cartpole.sim.rules import RigRules
    from cartpole.vision.frame import Frame

ENCODER_LINE, MOTOR_LINE = 5, 6  # of the seeds that a rig draws from
SENT = 16  # commands that may still be on their way, or in force

Tap = Callable[[int, str, str, bytes], None]  # t_ns, link, "in" or "out", bytes


def start_state(rules: RigRules, seed: int, *, homed: bool) -> State:
    """Hanging nearly at rest near the middle; off to one side while homing is still to do."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    p, theta = rng.uniform(-0.02, 0.02), rng.uniform(-0.03, 0.03)
    if not homed:
        p, theta = rng.uniform(-0.5, 0.5) * rules.position_limit_m, 0.0
    return float(p), 0.0, float(theta), 0.0


class VirtualRig:
    """``advance`` to a tick's time and read; ``send`` its command.

    ``plant``: cart and pole that were there before, under new wires.
    """

    def __init__(
        self,
        rules: RigRules,
        seed: int,
        *,
        hint: Callable[[int], DetectionHint | None] = lambda _t_ns: None,
        start: State | None = None,
        t_ns: int = 0,
        tap: Tap | None = None,
        on_frame: Callable[[Frame], None] | None = None,
        plant: Plant | None = None,
    ) -> None:
        begin = start_state(rules, seed, homed=rules.sim.homed) if start is None else start
        self.plant = Plant(rules, seed, begin, t_ns) if plant is None else plant
        self.trouble = self.plant.trouble
        self.position_limit_m = rules.position_limit_m
        self._tap = tap
        self._zero = self.plant.counts(t_ns)
        self._camera = (
            VirtualCamera(rules, seed, hint, t_ns, on_frame)
            if rules.told.camera.source != "none"
            else None
        )
        self._shot_ns = self._camera.next_ns if self._camera is not None else NEVER
        pressed = rules.true.encoder.switch_active == "high"
        self.encoder_board = ArduinoAsciiBoard(self.plant, pressed=pressed, t_ns=t_ns)
        self._board = worn_line(self.encoder_board, rules.sim, seed, ENCODER_LINE)
        self._answer_ns = NEVER
        self._encoder = ArduinoAscii.from_config(rules.told.encoder, rules.velocity_limit_m_s)
        self._poll_ns = round(NANOSECONDS / rules.told.encoder.poll_hz)
        self._due_ns = t_ns + self._poll_ns if rules.told.encoder.protocol != "none" else NEVER
        self._next_poll_ns = self._due_ns
        self._driver = SabertoothText.from_config(rules.told.motor)
        motor = SabertoothTextBoard(
            self.plant,
            SabertoothText.from_config(rules.true.motor),
            timeout_ns=round(rules.board_timeout_s * NANOSECONDS),
        )
        self._motor_board, self._sent = motor, deque[int](maxlen=SENT)
        self._motor = worn_line(motor, rules.sim, seed, MOTOR_LINE, commands=True)
        self._motor_ns = NEVER

    @property
    def homing(self) -> HomingResult:
        """What a perfect homing would find."""
        return HomingResult(-float(self._zero[0]), -float(self._zero[1]))

    @property
    def misheard(self) -> bool:
        """Whether the drive does what it was not told: a digit turned on its line, which has no
        check sum.
        """
        units = self._motor_board.units
        return units != 0 and units not in self._sent

    def truth(self, t_ns: int) -> State:
        """(p, v, theta, omega) at a time not before the last one asked for."""
        return self.plant.advance(t_ns)

    def advance(self, now_ns: int) -> tuple[Measurement, ...]:
        """Everything that reached the host by ``now_ns``, in the order of arrival."""
        out: list[Measurement] = []
        while True:
            answer_ns, poll_ns, shot_ns = self._answer_ns, self._next_poll_ns, self._shot_ns
            first_ns = min(answer_ns, poll_ns, shot_ns, self._motor_ns)
            if first_ns > now_ns:
                break
            if answer_ns == first_ns:
                self._hear(answer_ns, self._board.exchange(answer_ns, b""), out)
            elif poll_ns == first_ns:
                self._poll(poll_ns, out)
            elif shot_ns == first_ns:
                self._expose(shot_ns)
            else:
                self._tell_motor(first_ns, b"")
        self.plant.advance(now_ns)
        if self._camera is not None:
            seen = map(self.trouble.see, self._camera.arrived(now_ns))
            out.extend(detection for detection in seen if detection is not None)
        return tuple(out)

    def send(self, now_ns: int, command: Command) -> None:
        """The command's bytes, written at ``now_ns``."""
        data = self._driver.encode(command.velocity_m_s)
        self._sent.append(self._driver.units(command.velocity_m_s))
        if self._tap is not None:
            self._tap(now_ns, "motor", "out", data)
        if not self.trouble.motor_deaf:
            self._tell_motor(now_ns, data)

    def _tell_motor(self, t_ns: int, data: bytes) -> None:
        self._motor.exchange(t_ns, data)
        self._motor_ns = self._motor.next_ns()

    def _poll(self, t_ns: int, out: list[Measurement]) -> None:
        # As `firmware_bridge.link.EncoderLink` asks: on a grid, one question outstanding at most.
        self._due_ns += self._poll_ns
        if self._due_ns < t_ns:
            self._due_ns = t_ns + self._poll_ns - (t_ns - self._due_ns) % self._poll_ns
        if self._tap is not None:
            self._tap(t_ns, "encoder", "out", POLL)
        self._encoder.asked(t_ns)
        self._hear(t_ns, self._board.exchange(t_ns, POLL), out)
        self._when_to_poll(t_ns)

    def _hear(self, t_ns: int, data: bytes, out: list[Measurement]) -> None:
        """Take what the board says, and see when it speaks again."""
        self._answer_ns = self._board.next_ns()
        heard = self.trouble.answer(data) if data else b""
        if heard:
            if self._tap is not None:
                self._tap(t_ns, "encoder", "in", heard)
            out.extend(self._encoder.feed(heard, t_ns))
            self._when_to_poll(t_ns)  # silence changes nothing about that

    def _when_to_poll(self, t_ns: int) -> None:
        asked_ns = self._encoder.waiting_since_ns
        again_ns = t_ns if asked_ns < 0 else asked_ns + self._encoder.patience_ns
        self._next_poll_ns = max(self._due_ns, again_ns)

    def _expose(self, t_ns: int) -> None:
        if self._camera is not None:
            self._camera.expose(self.plant.advance(t_ns))
            self._shot_ns = self._camera.next_ns
