"""The links to boards that speak text: an encoder board that is asked, a motor driver that is told.

Threads: each link has one (see ``keeper``) that reads and reopens. ``MotorLink.send`` runs in the
tick and costs one non-blocking write.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Protocol

from cartpole.errors import UsageError
from cartpole.messages import NANOSECONDS, Command, Link, LinkEvent, LinkState
from firmware_bridge.arduino_ascii import ArduinoAscii
from firmware_bridge.keeper import Clock, DriveKeeper, Keeper, OpenPort, Outbox, Tap
from firmware_bridge.ports import READ_AT_MOST, Port
from firmware_bridge.rules import LinkRules
from firmware_bridge.sabertooth_text import SabertoothReplies, SabertoothReply


class EncoderLink(Keeper):
    """Asks the encoder board on a fixed grid of times; one question outstanding at most.

    Two questions in flight would leave open which one an answer belongs to, and so when its counts
    were latched. The link is UP when the board has answered, not when the port opened.
    """

    def __init__(
        self,
        driver: ArduinoAscii,
        poll_hz: float,
        open_port: OpenPort,
        outbox: Outbox,
        tap: Tap,
        clock: Clock,
    ) -> None:
        super().__init__(Link.ENCODER.value, open_port, outbox, tap, clock)
        self.driver = driver
        self._period_ns = round(NANOSECONDS / poll_hz)
        self._due_ns = 0

    def close(self) -> None:
        """Let the port go; never raises."""
        port = self.stop()
        if port is not None:
            port.close()

    def figures(self) -> dict[str, int]:
        """Counters of port and driver."""
        return asdict(self.statistics) | asdict(self.driver.statistics)

    def _opened(self, port: Port, first: bool) -> None:
        self._due_ns = self._clock()

    def _gone(self, why: str) -> None:
        # May run in either thread; the driver belongs to the reader's, which is the only one that
        # writes to this port, so it is the reader's here.
        for event in self.driver.lost(self._clock(), why):
            self._outbox.put(event)

    def _step(self, port: Port) -> None:
        now_ns = self._clock()
        due_ns = self._next_question_ns()
        if now_ns >= due_ns:
            self._ask()
            due_ns = self._next_question_ns()
        data, arrival_ns = self._read(port, max(due_ns - now_ns, 0) / NANOSECONDS)
        for message in self.driver.feed(data, arrival_ns) if data else ():
            self._outbox.put(message)
        for event in self.driver.silence(arrival_ns):
            self._outbox.put(event)
        if len(data) == READ_AT_MOST:  # a flood: take the next bite a period later
            self._wait_ns(self._period_ns)

    def _next_question_ns(self) -> int:
        asked_ns = self.driver.waiting_since_ns
        if asked_ns < 0:
            return self._due_ns
        return max(self._due_ns, asked_ns + self.driver.patience_ns)

    def _ask(self) -> None:
        now_ns = self._clock()
        self._due_ns += self._period_ns
        if self._due_ns < now_ns:  # late: keep to the grid, make up for nothing
            self._due_ns = now_ns + self._period_ns - (now_ns - self._due_ns) % self._period_ns
        question = self.driver.dialect.question
        if question and self._write(question):
            self.driver.asked(now_ns)


class MotorDriver(Protocol):
    """Velocity to bytes: what a driver of a motor board that only listens must offer."""

    def encode(self, velocity_m_s: float) -> bytes:
        """The command of a velocity [m/s, positive to the right]; UsageError if not finite."""
        ...

    def stop(self) -> bytes:
        """The command that stops the motor."""
        ...

    @property
    def hello(self) -> bytes:
        """Said when the port is opened, before the first stop."""
        ...


class MotorLink(DriveKeeper):
    """Tells the motor driver a velocity; the driver need not answer.

    After a reconnect nothing but zero goes out until a command with ``enable`` false has been sent:
    the core must have noticed.
    """

    def __init__(
        self,
        driver: MotorDriver,
        open_port: OpenPort,
        outbox: Outbox,
        tap: Tap,
        clock: Clock,
    ) -> None:
        super().__init__(Link.MOTOR.value, driver.stop(), open_port, outbox, tap, clock)
        self.driver = driver
        self.last_replies: dict[str, SabertoothReply] = {}
        self._replies = SabertoothReplies()
        self._locked = False

    def send(self, command: Command) -> bool:
        """Put a command on the wire at once; False if the port did not take it."""
        if not command.enable:
            self._locked = False
        moving = command.enable and not self._locked
        try:
            data = self.driver.encode(command.velocity_m_s) if moving else self.driver.stop()
        except UsageError:  # not finite: the governor's last line of defence is the wire
            data = self.driver.stop()
        return self._send(data)

    def update(self, rules: LinkRules) -> None:
        """The driver keeps no limits: there is nothing to tell."""

    def close(self) -> None:
        """Stop the motor and let the port go; never raises."""
        self._close_with(self.driver.stop())

    def figures(self) -> dict[str, int]:
        """Counters of the port."""
        return asdict(self.statistics)

    def _opened(self, port: Port, first: bool) -> None:
        self._say(port, self.driver.hello + self.driver.stop())
        self._locked = not first
        detail = "motor driver connected" if first else "motor driver reconnected: disarmed"
        self._outbox.put(LinkEvent(self._clock(), Link.MOTOR, LinkState.UP, detail))

    def _gone(self, why: str) -> None:
        self._outbox.put(LinkEvent(self._clock(), Link.MOTOR, LinkState.DOWN, why))

    def _step(self, port: Port) -> None:
        data, _ = self._read(port, 0.05)
        for reply in self._replies.feed(data):
            self.last_replies[reply.quantity.value] = reply
        if len(data) == READ_AT_MOST:
            self._wait_ns(5_000_000)
