r"""The encoder board that answers in text: bytes in, samples out, no I/O and no clock.

The host writes ``a``; the board latches its counters and answers
``CART\tPOLE\tLIMIT_LOW\tLIMIT_HIGH\r\n`` in signed decimal counts; 1 = switch pressed, or 0 where
``encoder.switch_active`` is low. Boards with other lines are read by a pattern
(``encoder.protocol: lines``), asked another question or none.

The wire carries no check sum, so a line is believed only if its four fields parse *and* the step
since the last sample is one the rig can make. Counters of 16 and 32 bits are unwrapped by signed
modular difference. A board that restarts begins again at zero: several implausible lines that agree
with each other are reported as the link going down and up, because homing is lost with the counts.
Where the pole's count alone jumped, and not to a zero, its encoder slipped on the shaft: the counts
go on, and who reads them tells by the camera.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from cartpole.config.schema import Encoder
from cartpole.estimation.clock import BoardClock
from cartpole.messages import NANOSECONDS, EncoderSample, Link, LinkEvent, LinkState
from firmware_bridge.board_lines import CountsLine, Dialect, LineReader, PlainReader, lines_board
from firmware_bridge.latch import MOST_PATIENCE_NS, LatchClock

BITS_PER_BYTE = 11  # 8E1
LONGEST_LINE = 160  # four 32-bit numbers, a clock and words; anything longer is not a line
RESTARTED_AFTER = 3  # implausible lines in a row that agree with each other
RESTARTED_AFTER_SPOILT = 8  # where lines were spoilt lately: as many lost digits may agree
SPOILT_FOR_NS = 1_000_000_000
SILENT_AFTER_NS = 250_000_000  # no sample for this long: the board is gone, whatever the port says

RESTART_NS = 15_000_000  # no board restarts within less

ACCELERATES_1_S = 3.0  # the drive's acceleration over three times its speed

_MODULI = (1 << 16, 1 << 32)


def modular_step(raw: int, previous: int, largest: float, modulus: int = 0) -> int | None:
    """Signed step from ``previous`` to ``raw``, wrapping at 16 or 32 bits if it must.

    Returns None when no reading of the two numbers gives a step of at most ``largest`` counts. A
    wrap at 16 bits is considered only while both numbers fit into 16 bits. A ``modulus`` that is
    known (a magnetic encoder's one turn) is the only one considered.
    """
    step = raw - previous
    if modulus:
        step = (step + modulus // 2) % modulus - modulus // 2
        return step if abs(step) <= largest else None
    if abs(step) <= largest:
        return step
    for modulus in _MODULI:
        half = modulus // 2
        signed = -half <= raw < half and -half <= previous < half
        unsigned = 0 <= raw < modulus and 0 <= previous < modulus
        if signed or unsigned:
            wrapped = (step + half) % modulus - half
            if abs(wrapped) <= largest:
                return wrapped
    return None


@dataclass(frozen=True, slots=True)
class Plausible:
    """The fastest the counters can move, in counts a second, and a slack in counts."""

    cart_counts_s: float = 1e5
    pole_counts_s: float = 2e4
    slack_counts: float = 50.0


@dataclass(slots=True)
class AsciiStatistics:
    """What passed: lines accepted, refused by form, refused by size of step, restarts, overlong."""

    lines: int = 0
    garbled: int = 0
    implausible: int = 0
    restarts: int = 0
    least_round_trip_ns: int = 0


class LineSplitter:
    r"""Cuts a byte stream at ``\r`` or ``\n``; memory is bounded whatever arrives."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._rest = b""

    def split(self, data: bytes) -> list[bytes]:
        """Whole lines without their ends; an overlong one is cut to one byte too many.

        Empty lines (the ``\\n`` after a ``\\r``) are dropped.
        """
        pieces = data.replace(b"\r", b"\n").split(b"\n")
        pieces[0] = self._rest + pieces[0][: self._longest + 1]
        rest = pieces.pop()
        lines = [piece[: self._longest + 1] for piece in pieces if piece]
        self._rest = rest[: self._longest + 1]
        return lines

    def clear(self) -> None:
        """Forget an unfinished line."""
        self._rest = b""


class ArduinoAscii:
    """The board's driver without its port: tell it what was asked and what came.

    ``asked(t_ns)`` after writing ``POLL``; ``feed(data, arrival_ns)`` with whatever was read.
    Recorded bytes fed with their recorded times give the same samples again.
    """

    def __init__(
        self,
        latency_ns: int,
        request_ns: int = 0,
        plausible: Plausible | None = None,
        pressed: bool = True,
        dialect: Dialect | None = None,
        reader: LineReader | None = None,
    ) -> None:
        self.statistics = AsciiStatistics()
        self.last_unread = b""  # a line that made no sense, for whoever looks for the reason
        self.dialect = dialect or Dialect()
        self._read = reader or PlainReader()
        self._board_clock = BoardClock()
        self._latency_ns = latency_ns
        self._plausible = plausible or Plausible()
        self._pressed = pressed  # what a pressed switch reads
        self._splitter = LineSplitter()
        noise = ACCELERATES_1_S * self._plausible.cart_counts_s
        self._clock = LatchClock(latency_ns, request_ns, noise_counts_s2=noise)
        self._asked_ns = -1
        self._given_up_ns = -1
        self._last: CountsLine | None = None
        self._last_t_ns = 0
        self._cart = 0
        self._pole = 0
        self._heard_ns = -1
        self._up = False
        self._suspects: deque[tuple[int, CountsLine]] = deque(maxlen=RESTARTED_AFTER_SPOILT)
        self._spoilt_ns = -SPOILT_FOR_NS  # when a line was last found to be damaged

    @staticmethod
    def from_config(encoder: Encoder, velocity_limit_m_s: float) -> ArduinoAscii:
        """The driver the config describes; three times the rig's speed limit is plausible."""
        cart_m_s = 3.0 * velocity_limit_m_s
        pole_turns_s = 8.0  # 50 rad/s; a falling pole of half a metre reaches 15
        plausible = Plausible(
            cart_counts_s=cart_m_s * encoder.cart_counts_per_m,
            pole_counts_s=pole_turns_s * encoder.pole_counts_per_turn,
        )
        request_ns = BITS_PER_BYTE * NANOSECONDS // encoder.baud
        dialect, reader = Dialect(), None
        if encoder.protocol == "lines":
            dialect, reader = lines_board(encoder)
        return ArduinoAscii(
            round(encoder.latency_s * NANOSECONDS),
            request_ns,
            plausible,
            pressed=encoder.switch_active == "high",
            dialect=dialect,
            reader=reader,
        )

    @property
    def waiting_since_ns(self) -> int:
        """When the unanswered request was written; -1: nothing is outstanding."""
        return self._asked_ns

    @property
    def up(self) -> bool:
        """Whether the board has answered sensibly and has not been silent since."""
        return self._up

    @property
    def patience_ns(self) -> int:
        """How long to wait for an answer before asking again."""
        return self._clock.patience_ns

    def asked(self, t_ns: int) -> None:
        """A request left at ``t_ns``; an earlier one without an answer is given up."""
        if self._asked_ns >= 0:
            self._given_up_ns = t_ns
        self._asked_ns = t_ns

    def silence(self, now_ns: int) -> list[LinkEvent]:
        """The link's DOWN event, once, when the board has said nothing sensible for too long."""
        if not self._up or now_ns - self._heard_ns < SILENT_AFTER_NS:
            return []
        return self.lost(now_ns, "the encoder board does not answer")

    def lost(self, now_ns: int, why: str) -> list[LinkEvent]:
        """The port or the board is gone: unfinished lines and requests are, counts may be too.

        Returns the DOWN event if the link was up.
        """
        was_up, self._up = self._up, False
        self._splitter.clear()
        self._asked_ns = -1
        self._last = None
        self._suspects.clear()
        return [LinkEvent(now_ns, Link.ENCODER, LinkState.DOWN, why)] if was_up else []

    def feed(self, data: bytes, arrival_ns: int) -> list[EncoderSample | LinkEvent]:
        """Samples and events in ``data``; never raises, whatever the bytes are.

        However much nonsense ``data`` holds, it gives one GARBLED event.
        """
        out: list[EncoderSample | LinkEvent] = []
        garbled = 0
        for text in self._splitter.split(data):
            line = self._read(text)
            if isinstance(line, CountsLine):
                self._accept(line, arrival_ns, out)
                continue
            if not line:
                self.last_unread = text
            if not line and self._last is not None:  # before: a cut line's tail, or a greeting
                garbled += 1
                self._asked_ns = -1  # its answer is spoilt: ask again, wait for nothing
        if garbled:
            self._spoilt_ns = arrival_ns
            self.statistics.garbled += garbled
            detail = f"{garbled} line{'s' if garbled > 1 else ''} that made no sense"
            out.append(LinkEvent(arrival_ns, Link.ENCODER, LinkState.GARBLED, detail))
        return out

    def _accept(
        self, line: CountsLine, arrival_ns: int, out: list[EncoderSample | LinkEvent]
    ) -> None:
        if self._given_up_ns >= 0 and self._doubtful(line, arrival_ns):
            self._asked_ns = -1
            return
        latch_ns = self._latch_ns(line, arrival_ns)
        self._asked_ns = -1
        self.statistics.least_round_trip_ns = self._clock.least_round_trip_ns
        if self._last is None:
            self._cart, self._pole = line.cart, line.pole
        else:
            latch_ns = max(latch_ns, self._last_t_ns)
            steps = self._steps(self._last, line, latch_ns - self._last_t_ns)
            if steps is None:
                self._implausible(line, latch_ns, arrival_ns, out)
                return
            if self._suspects:  # they were damaged: the counts go on from before
                self._spoilt_ns = arrival_ns
            self._cart += steps[0]
            self._pole += steps[1]
            self._clock.learn(self._cart)
        if not self._up:
            self._up = True
            out.append(
                LinkEvent(arrival_ns, Link.ENCODER, LinkState.UP, "the encoder board answers")
            )
        self._emit(line, latch_ns, arrival_ns, out)

    def _doubtful(self, line: CountsLine, arrival_ns: int) -> bool:
        """Whether an answer may be a late one to a question that was given up: of what time, then?

        The first since is, and so is any that comes soon and unasked; a board's own stamp tells.
        """
        soon = arrival_ns - self._given_up_ns < MOST_PATIENCE_NS
        if line.stamp_us >= 0 or not soon:
            return False
        return self._asked_ns in (-1, self._given_up_ns)

    def _latch_ns(self, line: CountsLine, arrival_ns: int) -> int:
        """The board's own clock where it tells it, else question and answer."""
        if line.stamp_us < 0:
            return self._clock.latch_ns(self._asked_ns, arrival_ns)
        return self._board_clock.observe(line.stamp_us, arrival_ns) - self._latency_ns

    def _emit(
        self,
        line: CountsLine,
        latch_ns: int,
        arrival_ns: int,
        out: list[EncoderSample | LinkEvent],
    ) -> None:
        self._suspects.clear()
        self._last, self._last_t_ns, self._heard_ns = line, latch_ns, arrival_ns
        self.statistics.lines += 1
        out.append(
            EncoderSample(
                latch_ns,
                arrival_ns,
                self._cart,
                self._pole,
                line.limit_low == self._pressed,
                line.limit_high == self._pressed,
            )
        )

    def _steps(self, old: CountsLine, new: CountsLine, dt_ns: int) -> tuple[int, int] | None:
        """Unwrapped steps of cart and pole, or None if the rig cannot have moved so far."""
        dt_s = min(dt_ns, SILENT_AFTER_NS) / NANOSECONDS
        limits = self._plausible
        slack, wraps = limits.slack_counts, self.dialect
        largest = limits.cart_counts_s * dt_s + slack, limits.pole_counts_s * dt_s + slack
        cart = modular_step(new.cart, old.cart, largest[0], wraps.cart_modulus)
        pole = modular_step(new.pole, old.pole, largest[1], wraps.pole_modulus)
        return None if cart is None or pole is None else (cart, pole)

    def _cart_went_on(self, line: CountsLine, latch_ns: int) -> int | None:
        """The cart's step since the last good line where the pole's count alone jumped.

        ``None`` where the cart's did, too, or where both stand, after a silence, as those of a
        board that restarted.
        """
        last, limits = self._last, self._plausible
        if last is None:
            return None
        dt_s = min(latch_ns - self._last_t_ns, SILENT_AFTER_NS) / NANOSECONDS
        slack, silent_ns = limits.slack_counts, self._suspects[0][0] - self._last_t_ns
        near = abs(line.cart) <= limits.cart_counts_s * dt_s + slack
        near &= abs(line.pole) <= limits.pole_counts_s * dt_s + slack
        if near and silent_ns >= RESTART_NS:
            return None
        largest = limits.cart_counts_s * dt_s + slack
        return modular_step(line.cart, last.cart, largest, self.dialect.cart_modulus)

    def _implausible(
        self,
        line: CountsLine,
        latch_ns: int,
        arrival_ns: int,
        out: list[EncoderSample | LinkEvent],
    ) -> None:
        """A step too large: a damaged digit if it stays alone, a restarted board if it lasts."""
        self.statistics.implausible += 1
        if self._suspects:
            t_ns, before = self._suspects[-1]
            if self._steps(before, line, latch_ns - t_ns) is None:
                self._suspects.clear()
                self._spoilt_ns = arrival_ns
        self._suspects.append((latch_ns, line))
        lately = arrival_ns - self._spoilt_ns < SPOILT_FOR_NS
        if len(self._suspects) < (RESTARTED_AFTER_SPOILT if lately else RESTARTED_AFTER):
            return
        went = self._cart_went_on(line, latch_ns)
        if went is not None and self._last is not None:
            self._cart += went
            self._pole += line.pole - self._last.pole
            self._emit(line, latch_ns, arrival_ns, out)
            return
        self.statistics.restarts += 1
        self._cart, self._pole = line.cart, line.pole
        detail = "counts jumped: the encoder board restarted, home again"
        out.append(LinkEvent(arrival_ns, Link.ENCODER, LinkState.DOWN, detail))
        out.append(LinkEvent(arrival_ns, Link.ENCODER, LinkState.UP, detail))
        self._emit(line, latch_ns, arrival_ns, out)
