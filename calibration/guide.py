"""Leads a rig through a calibration's motions and keeps what it showed.

The same guide leads a simulated rig in virtual time and a real one: a ``Bench`` is all it knows of
either. The governor's speed, slew and track bounds stand before every command; a silent encoder
board, a lost link, or a limit switch inside the guarded part ends the motion with the cart stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from calibration import procedures
from calibration.bench import Bench, Keep, Progress, Seen, quiet, stops
from calibration.notes import Notes
from calibration.place import Place, between_switches, hanging
from cartpole.control.governor import govern, outward_bound, slew
from cartpole.errors import DeviceLost
from cartpole.messages import NANOSECONDS, Command, EncoderSample
from cartpole.rules.control import governor_limits

if TYPE_CHECKING:
    from calibration.procedures import Move
    from calibration.recording import Recording
    from cartpole.config.schema import Config
    from cartpole.session.writer import SessionWriter

FIRST_SAMPLE_S = 5.0  # a board may be booting
STILL_S = 2.0  # longer than a period of any pole
STILL_RAD = 0.15  # swings less than this from side to side: nearly still
LARGEST_RAD = 2.0  # from side to side; of a larger swing STILL_S may not show both sides
CALMING_S, WAITING_S = 20.0, 12.0  # for a pole to come to rest by the cart, by itself
WEAK_M_S2, SLOW_S = 5.0, 0.08  # how little a drive may brake, and how slowly it may follow
NO_SAMPLE_NS = 10**12
READY_TICKS = 5
SILENT_S = 0.5  # a busy host may be late by a tenth of a second, a lost board stays away


class Guide:
    """One recording of one rig: ``settle``, ``begin``, then ``follow`` motions.

    ``config`` may be replaced between motions by what a first motion has shown.
    """

    def __init__(
        self,
        config: Config,
        bench: Bench,
        progress: Progress = quiet,
        open_writer: Callable[[], SessionWriter] | None = None,
    ) -> None:
        self._bench, self._progress = bench, progress
        self.notes = Notes(config.camera, open_writer)
        self._zero = (0.0, 0.0)
        self._half_counts = 0.0  # from the middle to a switch; 0: the middle is not known
        self._made: Recording | None = None
        self._last, self._sequence = 0.0, 0
        self.believe(config)

    def believe(self, config: Config) -> None:
        """Go on by other settings (scales, signs, a pole's length)."""
        self.config = config
        self._limits = replace(
            governor_limits(config), acceleration_m_s2=config.rig.acceleration_limit_m_s2
        )
        self._stale_ns = round(config.safety.stale_state_s * NANOSECONDS)

    def arrive(self, place: Place | None) -> None:
        """Wait for samples and take the place that an earlier part has measured, if there is one.

        A board that was opened anew may count from zero again; the cart stands where it stood. A
        cart that stands elsewhere was moved by hand, and its place is not known any more.
        """
        waited_s = 0.0
        while not self.notes.samples:
            self._tick(0.0, enable=False)
            waited_s += self.config.controller.period_s
            if waited_s > FIRST_SAMPLE_S:
                raise DeviceLost("the encoder board does not answer; try `cartpole doctor`")
        if place is None:
            return
        here = place.seen_from(self.notes.samples[-1].cart_counts)
        if here is not None:
            self._stand(here)

    def _stand(self, here: Place) -> None:
        self._zero = (here.middle_counts, self._zero[1])
        self._half_counts = here.half_counts
        self.believe(self.config)

    def find_place(self) -> None:
        """Go to both switches, unless the place is known; raises DeviceLost if it cannot."""
        if self._half_counts > 0.0:
            return
        self.ready()
        move = procedures.Sweep(self.config)
        self.follow(move.move())
        if move.failed:
            raise DeviceLost(move.failed + "; `cartpole calibrate encoder` finds out which")
        self.zero_between_switches()

    def place(self) -> Place | None:
        """Where the cart stands, for the next part; None if no switches were seen."""
        if self._half_counts <= 0.0 or not self.notes.samples:
            return None
        return Place(self.notes.samples[-1].cart_counts, self._zero[0], self._half_counts)

    def settle(self, *, may_move: bool) -> None:
        """Let the pole hang nearly still; its zero is in the middle of what swing is left.

        With ``may_move`` the cart takes the swing away; else it is waited for, but not for ever: a
        pole that swings on shows its zero, too. Raises DeviceLost without encoder samples, or for
        a pole that goes on turning over.
        """
        self.arrive(None)
        patience_s = CALMING_S if may_move else WAITING_S
        begin_ns = since_ns = self._tick(0.0, enable=False)
        while True:
            now_ns = self._tick(0.0, enable=False)
            waited_s = (now_ns - begin_ns) / NANOSECONDS
            self._progress("waits for the pole to hang still", waited_s)
            if (now_ns - since_ns) / NANOSECONDS < STILL_S:
                continue
            lately = self._lately(now_ns)
            counts = [one.pole_counts for one in lately]
            low, high = min(counts), max(counts)
            span_rad = (high - low) * 2.0 * math.pi / self.config.encoder.pole_counts_per_turn
            if span_rad < STILL_RAD or (span_rad < LARGEST_RAD and waited_s > patience_s):
                break
            if waited_s > 2.0 * patience_s:
                raise DeviceLost("the pole goes on turning; hold it still and start again")
            if may_move:
                middle: float | None = 0.5 * (low + high)
                if span_rad >= LARGEST_RAD:
                    middle = hanging(lately, self.config.encoder.pole_counts_per_turn)
                if middle is not None:
                    self._zero_here(middle)
                    self.ready()
                    self.follow(procedures.calm(self.config))
                since_ns = self._tick(0.0, enable=False)
        self._zero_here(0.5 * (low + high))

    def switches(self) -> tuple[bool, bool]:
        """Whether the left and the right one are pressed."""
        last = self.notes.samples[-1]
        return last.limit_low, last.limit_high

    def _zero_here(self, hanging: float) -> None:
        known = self._half_counts > 0.0
        cart = self._zero[0] if known else float(self.notes.samples[-1].cart_counts)
        self._zero = (cart, hanging)

    def zero_between_switches(self) -> None:
        """After a sweep: p = 0 is the middle of the track from now on."""
        here = between_switches(self.notes.samples)
        if here is None:
            raise DeviceLost("both limit switches must be seen to find the middle of the track")
        self._stand(here)

    def _lately(self, now_ns: int) -> list[EncoderSample]:
        """The samples of the last STILL_S."""
        since_ns = now_ns - round(STILL_S * NANOSECONDS)
        lately = [one for one in self.notes.samples if one.t_ns >= since_ns]
        if not lately:
            raise DeviceLost("the encoder board fell silent; try `cartpole doctor`")
        return lately

    def begin(self) -> None:
        """Forget what was before; from now on all is kept, and written where that is wanted."""
        self._bench.frames()
        self.notes.begin(self._zero)
        self.ready()

    def ready(self) -> None:
        """After a pause (a file was opened, a fit was made) make the drive willing again.

        A board that heard nothing for its time-out takes no command before it was told to be off.
        """
        for _ in range(READY_TICKS):
            self._tick(0.0, enable=False)

    def keep(self) -> Recording:
        """Finish the recording; what moves from now on is not in it."""
        if self._made is None:
            self._tick(0.0, enable=False)
            self.notes.flush()
            self._made = self.recording()
            self.notes.close()
        return self._made

    def end(self) -> None:
        """Stop the cart and finish the recording."""
        self._stop()
        if self.notes.is_written:
            self._tick(0.0, enable=False)
            self.notes.close()

    def follow(self, move: Move) -> None:
        """Fly a motion to its end; raises DeviceLost, with the cart stopped, if it cannot.

        While the newest sample is too old to steer by the cart brakes; soon after that it is over.
        """
        start_ns = -1
        try:
            while True:
                now_ns = self._take(moving=True)
                start_ns = now_ns if start_ns < 0 else start_ns
                age_ns = self._age_ns(now_ns)
                if age_ns > SILENT_S * NANOSECONDS:
                    raise DeviceLost("the encoder board fell silent; the cart was stopped")
                if age_ns > self._stale_ns:
                    self._send(now_ns, slew(0.0, self._last, self._limits), move)
                    continue
                seen = self._see()
                self._refuse_switch(move, seen)
                t_s = (now_ns - start_ns) / NANOSECONDS
                wanted = move.programme(t_s, seen)
                self._progress(move.name, t_s)
                if wanted is None:
                    self._send(now_ns, self._last, move)
                    return
                self._send(now_ns, self._governed(wanted, seen, move), move)
        except BaseException:
            self._stop()
            raise

    def _age_ns(self, now_ns: int) -> int:
        newest = self.notes.recent[-1:]
        return now_ns - newest[0].t_ns if newest else NO_SAMPLE_NS

    @staticmethod
    def _refuse_switch(move: Move, seen: Seen) -> None:
        if move.guarded and (seen.limit_low or seen.limit_high):
            raise DeviceLost(
                "the cart reached a limit switch and was stopped; put it in the middle and start "
                "again, with `calibrate encoder` if its scale or sign is in doubt"
            )

    def _see(self) -> Seen:
        """Position and rates from the last encoder samples, by the configured scales."""
        encoder = self.config.encoder
        last = self.notes.recent
        new, old = last[-1], last[0]
        to_m = encoder.cart_sign / encoder.cart_counts_per_m
        to_rad = encoder.pole_sign * 2.0 * math.pi / encoder.pole_counts_per_turn
        span = max(1, new.t_ns - old.t_ns) / NANOSECONDS
        return Seen(
            (new.cart_counts - self._zero[0]) * to_m,
            (new.cart_counts - old.cart_counts) * to_m / span,
            (new.pole_counts - self._zero[1]) * to_rad,
            (new.pole_counts - old.pole_counts) * to_rad / span,
            new.limit_low,
            new.limit_high,
            new.cart_counts,
        )

    def _governed(self, wanted: float, seen: Seen, move: Move) -> float:
        cart = (seen.p_m, seen.v_m_s) if move.guarded else None
        flying = self._last * self.config.motor.delay_s
        if cart is not None:  # a drive that nobody has measured may brake late and weakly
            weak = replace(
                self._limits,
                acceleration_m_s2=min(self._limits.acceleration_m_s2, WEAK_M_S2),
                lag_s=max(self._limits.lag_s, SLOW_S),
            )
            high = outward_bound(seen.p_m, seen.v_m_s, flying, weak)
            low = -outward_bound(-seen.p_m, -seen.v_m_s, -flying, weak)
            wanted = min(max(wanted, low), high) if low <= high else 0.0
        return govern(wanted, self._last, cart, flying, self._limits).velocity_m_s

    def _take(self, *, moving: bool) -> int:
        """Wait for a tick and keep what came; DeviceLost for what must not be while ``moving``."""
        now_ns, arrived = self._bench.wait()
        self.notes.take(arrived, self._bench.frames())
        for one in arrived if moving else ():
            stops(one)
        return now_ns

    def _tick(self, velocity: float, *, enable: bool) -> int:
        now_ns = self._take(moving=False)
        self._put(now_ns, velocity, enable=enable)
        return now_ns

    def _send(self, now_ns: int, velocity: float, move: Move) -> None:
        self._put(now_ns, velocity, homing=not move.guarded, name=move.name)

    def _stop(self) -> None:
        """At once, without waiting for a tick (which is why no recording holds it)."""
        self._sequence += 1
        self._last = 0.0
        self._bench.send(Command(self.notes.last_told_ns + 1, self._sequence, 0.0, False, 0.0))

    def _put(
        self,
        now_ns: int,
        velocity: float,
        *,
        enable: bool = True,
        homing: bool = False,
        name: str = "",
    ) -> None:
        self._sequence += 1
        self._last = velocity
        command = Command(
            now_ns,
            self._sequence,
            velocity,
            enable,
            velocity,
            homing=homing,
            clear_fault=not enable,
        )
        self._bench.send(command)
        self.notes.tell(command, name)

    def recording(self) -> Recording:
        """What was kept since ``begin``, by the settings of now; named after its file."""
        return self.notes.recording(self.config, self._zero)


@contextmanager
def led(
    config: Config, bench: Bench, part: str, progress: Progress, keep: Keep | None
) -> Iterator[Guide]:
    """A guide for one part; leaving it, in whatever way, stops the cart and closes the file."""
    open_writer = None if keep is None else partial(keep, config, part)
    guide = Guide(config, bench, progress, open_writer)
    try:
        yield guide
    finally:
        guide.end()
