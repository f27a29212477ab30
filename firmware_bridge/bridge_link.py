"""The link to the bridge board: one port that measures and drives.

The codec's HELLO and CONFIG go out from the reader's thread, commands from the tick; a lock keeps
the frames in the order of their counters.
"""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from cartpole.errors import UsageError
from cartpole.messages import (
    Command,
    EncoderSample,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
)
from firmware_bridge.bridge_codec import BridgeCodec
from firmware_bridge.keeper import Clock, DriveKeeper, OpenPort, Outbox, Tap
from firmware_bridge.ports import READ_AT_MOST, Port
from firmware_bridge.rules import LinkRules

if TYPE_CHECKING:
    from cartpole.config.schema import Encoder, Motor

SILENT_NS = 250_000_000  # not a sound frame for this long: the board is gone


def bridge_baud(encoder: Encoder, motor: Motor) -> int:
    """Speed of the board's one line: the encoder's if the board measures, else the motor's."""
    return encoder.baud if encoder.protocol == "bridge" else motor.baud


class BridgeLink(DriveKeeper):
    """Talks with the bridge board; UP when the board has answered and holds the configuration."""

    def __init__(
        self, rules: LinkRules, open_port: OpenPort, outbox: Outbox, tap: Tap, clock: Clock
    ) -> None:
        super().__init__("bridge", b"\x00", open_port, outbox, tap, clock)
        self._rules = rules
        self._measures = rules.encoder.protocol == "bridge"
        self._codec_lock = threading.Lock()
        self.codec = self._new_codec()
        self._up = False
        self._to_tell = self._telling = False  # other limits
        self._heard_ns = 0
        self._locked = False

    def send(self, command: Command) -> bool:
        """Put a command on the wire at once; False if it did not go."""
        if not command.enable:
            self._locked = False
        with self._codec_lock:
            try:
                if self._locked:  # in the command's own sequence: a stop of an older one is stale
                    command = replace(command, velocity_m_s=0.0, enable=False)
                data = self.codec.encode_velocity(command)
            except UsageError:  # not finite: the governor's last line of defence is the wire
                data = self.codec.encode_stop()
            return self._send(data)

    def update(self, rules: LinkRules) -> None:
        """Tell the board other limits, from the reader's thread; UP says that it holds them.

        The board takes them only while the drive is off. A port that is closed just now will tell
        them when it opens.
        """
        self._rules = rules
        self._to_tell = True

    def close(self) -> None:
        """Stop the motor and let the port go; never raises."""
        with self._codec_lock:
            last_words = self.codec.encode_stop()
        self._close_with(last_words)

    def _new_codec(self) -> BridgeCodec:
        return BridgeCodec(self._rules, baud=bridge_baud(self._rules.encoder, self._rules.motor))

    def _links(self) -> tuple[Link, ...]:
        return (Link.MOTOR, Link.ENCODER) if self._measures else (Link.MOTOR,)

    def _opened(self, port: Port, first: bool) -> None:
        with self._codec_lock:
            self.codec = self._new_codec()
            self._say(port, b"")
        self._locked = not first

    def _gone(self, why: str) -> None:
        if not self._up:
            return
        self._up = False
        self._locked = True
        for link in self._links():
            self._outbox.put(LinkEvent(self._clock(), link, LinkState.DOWN, why))

    def _step(self, port: Port) -> None:
        if self._to_tell:
            self._to_tell, self._telling = False, True
            self.codec.reconfigure(self._rules)
        with self._codec_lock:
            question = self.codec.service(self._clock())
            if question:
                self._send(question)
        data, arrival_ns = self._read(port, 0.01)
        messages = self.codec.feed(data, arrival_ns) if data else []
        if any(not isinstance(message, LinkEvent) for message in messages):
            self._heard_ns = arrival_ns
            self._greet(arrival_ns)
        elif self._up and arrival_ns - self._heard_ns > SILENT_NS:
            self._gone("the board does not answer")
        for message in messages:
            self._pass_on(message)
        if len(data) == READ_AT_MOST:
            self._wait_ns(5_000_000)

    def _greet(self, now_ns: int) -> None:
        if not self.codec.ready:
            return
        if not self._up:
            self._up = True
            for link in self._links():
                self._outbox.put(LinkEvent(now_ns, link, LinkState.UP, "the board answers"))
        elif self._telling:
            detail = "the board holds the new limits"
            self._outbox.put(LinkEvent(now_ns, Link.MOTOR, LinkState.UP, detail))
        self._telling = False

    def _pass_on(self, message: Measurement) -> None:
        if self._measures or not isinstance(message, EncoderSample):
            self._outbox.put(message)

    def figures(self) -> dict[str, int]:
        """Counters of port, codec and board."""
        counts = self.codec.statistics
        figures = asdict(self.statistics)
        for name in ("frames", "spoilt", "lost", "samples"):
            figures[name] = getattr(counts, name)
        board = asdict(counts.counters)
        figures |= {
            f"board_{key}": int(value) for key, value in board.items() if key != "loop_max_s"
        }
        figures["board_loop_max_us"] = round(counts.counters.loop_max_s * 1e6)
        return figures
