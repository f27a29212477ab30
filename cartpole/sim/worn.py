"""Worn encoders and bad wires: what stands between the true rig and the bytes that arrive.

All off by default. Each draws from random numbers of its own, so that switching one on changes
nothing about the others.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cartpole.messages import NANOSECONDS
from cartpole.sim.boards import NEVER, Board

if TYPE_CHECKING:
    from cartpole.config.schema import Sim


class WornCounter:
    """One encoder's counts as they come out; ``misses`` is N where one rising count in N is lost.

    Only rising counts are lost: the worst case, a count that drifts with every way there and back.
    """

    def __init__(self, misses: int = 0) -> None:
        self._misses = misses
        self._rising = 0
        self._before: int | None = None
        self._shift = 0
        self._held: int | None = None
        self._held_until_ns = -1

    def slip(self, counts: int) -> None:
        """The disc turns on its shaft."""
        self._shift += counts

    def stick(self, until_ns: int) -> None:
        """The same count until then; what passed in between is lost."""
        self._held_until_ns = until_ns

    def read(self, t_ns: int, true: int) -> int:
        """The count shown at ``t_ns`` while the shaft stands at ``true``."""
        if self._misses:
            self._rising += max(0, true - (true if self._before is None else self._before))
            self._before = true
        shown = true + self._shift - (self._rising // self._misses if self._misses else 0)
        if t_ns < self._held_until_ns:
            self._held = shown if self._held is None else self._held
            return self._held
        if self._held is not None:
            self._shift += self._held - shown
            shown, self._held = self._held, None
        return shown


class Encoders:
    """Both encoders; ``slip`` and ``stick`` of the settings strike at their time."""

    def __init__(self, sim: Sim, t_ns: int) -> None:
        self.cart = WornCounter(sim.cart_misses_one_in)
        self.pole = WornCounter(sim.pole_misses_one_in)
        self._slip = sim.pole_slip_counts
        self._stick_ns = round(sim.pole_stick_s * NANOSECONDS)
        self._at_ns = t_ns + round(sim.encoder_upset_at_s * NANOSECONDS)
        self._struck = not (self._slip or self._stick_ns)

    def read(self, t_ns: int, cart: int, pole: int) -> tuple[int, int]:
        """What both show at ``t_ns``."""
        if not self._struck and t_ns >= self._at_ns:
            self._struck = True
            self.pole.slip(self._slip)
            if self._stick_ns:
                self.pole.stick(self._at_ns + self._stick_ns)
        return self.cart.read(t_ns, cart), self.pole.read(t_ns, pole)


@dataclass(frozen=True, slots=True)
class Wear:
    """Of a serial line, one way: shares of bytes, share of whole writes, and how bytes bunch up."""

    lost: float = 0.0
    doubled: float = 0.0
    corrupted: float = 0.0
    writes_lost: float = 0.0
    burst_ns: int = 0  # what a USB bridge gathers before it passes on; 0: nothing
    parity: bool = False  # a byte with one bit wrong is noticed, and arrives as 0

    @property
    def none(self) -> bool:
        """Whether the line is good."""
        return replace(self, parity=False) == Wear()


def answers_wear(sim: Sim) -> Wear:
    """From a board to the host."""
    burst_ns = round(sim.answers_burst_s * NANOSECONDS)
    return Wear(sim.bytes_lost, sim.bytes_doubled, sim.bytes_corrupted, 0.0, burst_ns)


def commands_wear(sim: Sim, commands: bool) -> Wear:
    """From the host to a board."""
    burst_ns = round(sim.commands_burst_s * NANOSECONDS)
    whole = sim.commands_lost if commands else 0.0
    return Wear(sim.bytes_lost, sim.bytes_doubled, sim.bytes_corrupted, whole, burst_ns)


class _Fate:
    """Strikes one in so many, by chance: drawn ahead, so that what is spared costs nothing."""

    def __init__(self, share: float, rng: np.random.Generator) -> None:
        self._share, self._rng = share, rng
        self.due = self._draw()  # the number of the one that is struck next, counted from 0

    def _draw(self) -> int:
        return int(self._rng.geometric(self._share)) - 1 if self._share > 0.0 else 1 << 62

    def strikes(self, number: int) -> bool:
        """Whether this one is struck; each is asked for, but for those before ``due``."""
        if number < self.due:
            return False
        self.due = number + 1 + self._draw()
        return True


class _Way:
    """One direction: spoils what passes, holds it back until the next burst."""

    def __init__(self, wear: Wear, rng: np.random.Generator) -> None:
        self._burst_ns, self._parity, self._rng = wear.burst_ns, wear.parity, rng
        shares = (wear.lost, wear.doubled, wear.corrupted)
        self._fates = tuple(_Fate(share, rng) for share in shares)
        self._due = min(fate.due for fate in self._fates)
        self._write_fate = _Fate(wear.writes_lost, rng)
        self._bytes = self._writes = 0  # that came so far
        self.held: deque[tuple[int, bytes]] = deque()  # (due, bytes), in the order of time

    def put(self, t_ns: int, data: bytes) -> None:
        """``data`` is not empty."""
        number, self._writes = self._writes, self._writes + 1
        if self._write_fate.strikes(number):
            return
        first, self._bytes = self._bytes, self._bytes + len(data)
        spoilt = data if self._bytes <= self._due else self._spoil(data, first)
        if spoilt:
            burst_ns = self._burst_ns
            due_ns = -(-t_ns // burst_ns) * burst_ns if burst_ns else t_ns
            self.held.append((due_ns, spoilt))

    def due(self, t_ns: int) -> list[tuple[int, bytes]]:
        out = []
        while self.held and self.held[0][0] <= t_ns:
            out.append(self.held.popleft())
        return out

    def _spoil(self, data: bytes, first: int) -> bytes:
        lost, doubled, corrupted = self._fates
        out = bytearray()
        for number, value in enumerate(data, first):
            fates = lost.strikes(number), doubled.strikes(number), corrupted.strikes(number)
            if fates[0]:
                continue
            if fates[2]:
                bit = 1 << int(self._rng.integers(8))
                value = 0 if self._parity else value ^ bit
            out += bytes((value,)) * (2 if fates[1] else 1)
        self._due = min(fate.due for fate in self._fates)
        return bytes(out)


class WornLine:
    """A board at the far end of a bad line: a ``Board`` itself."""

    def __init__(self, board: Board, inward: Wear, outward: Wear, seed: tuple[int, int]) -> None:
        """``inward`` is towards the board, ``outward`` towards the host."""
        self.board = board
        one, two = np.random.SeedSequence(seed).spawn(2)
        self._inward = _Way(inward, np.random.default_rng(one))
        self._outward = _Way(outward, np.random.default_rng(two))

    def exchange(self, t_ns: int, received: bytes) -> bytes:
        """See ``Board``."""
        inward, outward = self._inward, self._outward
        if received:
            inward.put(t_ns, received)
        due_ns = NEVER
        if inward.held:
            for due_ns, data in inward.due(t_ns):
                said = self.board.exchange(due_ns, data)
                if said:
                    outward.put(due_ns, said)
        if due_ns != t_ns:  # asked a second time at once, a board has nothing to add
            said = self.board.exchange(t_ns, b"")
            if said:
                outward.put(t_ns, said)
        return b"".join([data for _, data in outward.due(t_ns)]) if outward.held else b""

    def next_ns(self) -> int:
        """See ``Board``: the board's own time, or that of a burst."""
        due_ns = self.board.next_ns()
        for held in (self._inward.held, self._outward.held):
            if held and held[0][0] < due_ns:
                due_ns = held[0][0]
        return due_ns


def worn_line(board: Board, sim: Sim, seed: int, number: int, *, commands: bool = False) -> Board:
    """``board`` behind the line that the settings describe; a good line is none at all.

    ``commands`` tells the motor's line, on which whole commands are lost, too; the encoder board's
    has a parity bit.
    """
    inward = replace(commands_wear(sim, commands), parity=not commands)
    outward = replace(answers_wear(sim), parity=not commands)
    if inward.none and outward.none:
        return board
    return WornLine(board, inward, outward, (seed, number))
