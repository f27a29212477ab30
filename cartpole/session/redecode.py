"""Replay from raw: serial bytes decoded anew, recorded pictures tracked anew.

So a new codec or tracker can be tried on old recordings. A sample reaches the controller with the
first tick not before its arrival; a picture's measurement takes the place of the recorded one with
the same sequence number. What no raw channel carries (a measurement without its picture, a device
that came or went) stays as recorded.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from cartpole.messages import (
    BoardStatus,
    Detection,
    EncoderSample,
    Measurement,
    TickInput,
)
from cartpole.rules.firmware_bridge import link_rules

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.session.reader import RawPiece, RecordedFrame, RecordedTick, Session
    from cartpole.session.replay import Hints
    from cartpole.vision.tracker import Tracker

MOST_PICTURE_BYTES = 96 << 20


class _Decoder(Protocol):
    """Bytes in, samples out."""

    def take(self, piece: RawPiece) -> list[EncoderSample | BoardStatus]: ...


class _Ascii:
    """The polled board: its clock needs the questions, too."""

    def __init__(self, config: Config) -> None:
        from firmware_bridge.arduino_ascii import ArduinoAscii

        self._codec = ArduinoAscii.from_config(config.encoder, config.rig.velocity_limit_m_s)

    def take(self, piece: RawPiece) -> list[EncoderSample | BoardStatus]:
        if piece.link != "encoder":
            return []
        if piece.direction == "out":
            self._codec.asked(piece.t_ns)
            return []
        found = self._codec.feed(piece.data, piece.t_ns)
        return [item for item in found if isinstance(item, EncoderSample)]


class _Bridge:
    """The board that streams samples and tells its own state."""

    def __init__(self, config: Config) -> None:
        from firmware_bridge.bridge_codec import BridgeCodec

        self._codec = BridgeCodec(link_rules(config))

    def take(self, piece: RawPiece) -> list[EncoderSample | BoardStatus]:
        if piece.direction != "in":
            return []
        found = self._codec.feed(piece.data, piece.t_ns)
        return [item for item in found if isinstance(item, EncoderSample | BoardStatus)]


class RawInputs:
    """The inputs of a session's ticks, made anew from what the devices said."""

    def __init__(self, session: Session, config: Config) -> None:
        self._session = session
        self._config = config
        self._decoder = _decoder(config)
        self._pieces = session.raw() if self._decoder is not None else iter(())
        self._next: RawPiece | None = next(self._pieces, None)
        self._samples: deque[EncoderSample | BoardStatus] = deque()
        self._frames = _frames(session) if config.camera.source != "none" else {}
        self._tracker: Tracker | None = None

    def __call__(self, core: Hints) -> Iterator[tuple[RecordedTick, TickInput]]:
        """Ticks with their new inputs; ``core`` tells the tracker where to look."""
        for tick in self._session.ticks():
            measurements = self._camera(self._serial(tick), core)
            yield tick, dataclasses.replace(tick.input, measurements=measurements)

    def _serial(self, tick: RecordedTick) -> tuple[Measurement, ...]:
        recorded = tick.input.measurements
        if self._decoder is None:
            return recorded
        now_ns = tick.input.now_ns
        while self._next is not None and self._next.t_ns <= now_ns:
            self._samples.extend(self._decoder.take(self._next))
            self._next = next(self._pieces, None)
        samples, self._samples = tuple(self._samples), deque()
        kinds = (EncoderSample, BoardStatus)
        place = next(
            (k for k, item in enumerate(recorded) if isinstance(item, kinds)), len(recorded)
        )
        before = tuple(item for item in recorded[:place])
        after = tuple(item for item in recorded[place:] if not isinstance(item, kinds))
        return before + samples + after

    def _camera(
        self, measurements: tuple[Measurement, ...], core: Hints
    ) -> tuple[Measurement, ...]:
        if not self._frames:
            return measurements
        return tuple(
            self._track(item, core) if isinstance(item, Detection) else item
            for item in measurements
        )

    def _track(self, recorded: Detection, core: Hints) -> Detection:
        frame = self._frames.get(recorded.sequence)
        if frame is None:
            return recorded
        if self._tracker is None:
            from cartpole.vision.tracker import Tracker

            self._tracker = Tracker(self._config.camera)
        return self._tracker.detect(
            frame.pixels(), frame.t_ns, recorded.arrival_ns, frame.sequence, core.hint(frame.t_ns)
        )


def _decoder(config: Config) -> _Decoder | None:
    if config.encoder.protocol in ("arduino_ascii", "lines"):
        return _Ascii(config)
    return _Bridge(config) if config.encoder.protocol == "bridge" else None


def _frames(session: Session) -> dict[int, RecordedFrame]:
    """Pictures by sequence number, as many as memory should hold."""
    frames: dict[int, RecordedFrame] = {}
    total = 0
    for frame in session.frames():
        total += len(frame.data)
        if total > MOST_PICTURE_BYTES:
            break
        frames[frame.sequence] = frame
    return frames
