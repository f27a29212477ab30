"""A small move of the cart to one side and back, to see that drive and encoder agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cartpole.errors import DeviceError, UsageError
from cartpole.messages import NANOSECONDS, Command, EncoderSample, LinkEvent, LinkState

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from firmware_bridge.rig_links import RigLinks

RAMP_M_S2 = 0.5
SETTLE_S = 0.3
SILENT_S = 0.25
LEAST_COUNTS = 10  # fewer than this is no movement
GAIN_TOLERANCE = 0.25


@dataclass(frozen=True, slots=True)
class JogLeg:
    """One direction: what was commanded and what the encoder saw, metres."""

    commanded_m: float
    seen_m: float
    counts: int
    stopped_by: str = ""


def speed_at(t_s: float, speed_m_s: float, duration_s: float) -> float:
    """Trapezoid from rest to rest with ``RAMP_M_S2``; zero outside 0 … ``duration_s``."""
    return max(0.0, min(speed_m_s, RAMP_M_S2 * t_s, RAMP_M_S2 * (duration_s - t_s)))


class Jog:
    """Drives the links by itself; the caller has asked a person first."""

    def __init__(
        self,
        links: RigLinks,
        config: Config,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._links = links
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._sequence = 0
        self._latest: EncoderSample | None = None
        self._trouble = ""

    def run(self, speed_m_s: float, duration_s: float) -> list[JogLeg]:
        """To the right and back; UsageError for a speed beyond ``safety.homing_speed_m_s``."""
        fastest = self._config.safety.homing_speed_m_s
        if not 0.0 < speed_m_s <= fastest:
            raise UsageError(f"--speed {speed_m_s:g} must be above 0 and at most {fastest:g} m/s")
        if not 0.1 <= duration_s <= 3.0:
            raise UsageError(f"--seconds {duration_s:g} must be from 0.1 to 3")
        try:
            self._prepare()
            return [self._leg(sign * speed_m_s, duration_s) for sign in (1.0, -1.0)]
        finally:
            self._send(0.0, enable=False)

    def _prepare(self) -> None:
        end_ns = self._clock() + round(SETTLE_S * NANOSECONDS)
        while self._clock() < end_ns:
            self._tick(0.0, enable=False, clear=True)
        if self._latest is None:
            raise DeviceError("no encoder sample: nothing moves unseen")

    def _leg(self, velocity_m_s: float, duration_s: float) -> JogLeg:
        before = self._counts()
        start_ns = last_ns = self._clock()
        commanded_m, stopped_by = 0.0, ""
        while (t_s := (self._clock() - start_ns) / NANOSECONDS) < duration_s + SETTLE_S:
            sign = 1.0 if velocity_m_s > 0.0 else -1.0
            speed = sign * speed_at(t_s, abs(velocity_m_s), duration_s)
            stopped_by = stopped_by or self._obstacle(sign)
            if stopped_by:
                speed = 0.0
            self._tick(speed, enable=True)
            now_ns = self._clock()
            commanded_m += speed * (now_ns - last_ns) / NANOSECONDS
            last_ns = now_ns
        counts = self._counts() - before
        encoder = self._config.encoder
        seen_m = counts * encoder.cart_sign / encoder.cart_counts_per_m
        return JogLeg(commanded_m, seen_m, counts, stopped_by)

    def _obstacle(self, sign: float) -> str:
        sample = self._latest
        if self._trouble:
            return self._trouble
        if sample is None or self._clock() - sample.t_ns > SILENT_S * NANOSECONDS:
            return "the encoder fell silent"
        if sample.limit_high and sign > 0:
            return "the right limit switch"
        return "the left limit switch" if sample.limit_low and sign < 0 else ""

    def _counts(self) -> int:
        return self._latest.cart_counts if self._latest is not None else 0

    def _tick(self, velocity_m_s: float, enable: bool, clear: bool = False) -> None:
        for message in self._links.poll():
            if isinstance(message, EncoderSample):
                self._latest = message
            elif isinstance(message, LinkEvent) and message.state is LinkState.DOWN:
                self._trouble = message.detail
        self._send(velocity_m_s, enable, clear)
        self._sleep(self._config.controller.period_s)

    def _send(self, velocity_m_s: float, enable: bool, clear: bool = False) -> None:
        self._sequence += 1
        self._links.send(
            Command(
                self._clock(),
                self._sequence,
                velocity_m_s,
                enable,
                velocity_m_s,
                homing=enable,
                clear_fault=clear,
            )
        )


def verdict(legs: list[JogLeg]) -> str:
    """What the two legs say about signs and scales; empty if they agree."""
    for leg in legs:
        if leg.stopped_by:
            return f"stopped by {leg.stopped_by}"
        if abs(leg.counts) < LEAST_COUNTS:
            return "the cart did not move: motor supply, e-stop, motor.dead_band_counts?"
        if leg.seen_m * leg.commanded_m < 0.0:
            return (
                "the encoder counts the other way: change motor.sign if the cart moved left first, "
                "else encoder.cart_sign"
            )
        ratio = leg.seen_m / leg.commanded_m
        if abs(ratio - 1.0) > GAIN_TOLERANCE:
            return (
                f"the cart moved {ratio:.2g} times as far as commanded: motor.counts_per_m_s or "
                "encoder.cart_counts_per_m (run: cartpole calibrate encoder, then motor)"
            )
    return ""
