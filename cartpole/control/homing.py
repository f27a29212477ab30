"""Homing: find both encoders' zero by gravity and the limit switches, and check the numbers.

A state machine without clock or device: fed with encoder samples, it answers a velocity.
Plausibility comes before arming: the cart must move the way it is told, at the speed it is told,
and the travel between the switches must be the configured one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from cartpole.messages import NANOSECONDS, EncoderSample, HomingResult

if TYPE_CHECKING:
    from cartpole.config.schema import Config

STILL_S = 0.6  # the pole must hang still this long
STILL_COUNTS = 3
GIVE_UP_STILL_S = 60.0
GAIN_WINDOW_S = 0.6  # measured after the drive has settled
SETTLE_S = 0.4
CENTRE_TOLERANCE_M = 0.002


class HomingPhase(StrEnum):
    """Where homing is."""

    STILL = "waiting for the pole to hang still"
    RELEASE = "leaving the switch"
    SEEK_LOW = "moving to the left switch"
    SEEK_HIGH = "moving to the right switch"
    CENTRE = "moving to the middle"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class HomingState:
    """Everything homing remembers between two ticks."""

    phase: HomingPhase = HomingPhase.STILL
    since_ns: int = 0
    still_counts: int = 0
    still_since_ns: int = 0
    pole_zero: float = 0.0
    low_counts: int = 0
    high_counts: int = 0
    window_ns: int = 0
    window_counts: int = 0
    gain: float = 1.0
    failure: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class HomingStep:
    """What to do now: the velocity to command, and the result once there is one."""

    state: HomingState
    velocity_m_s: float
    result: HomingResult | None = None


class Homing:
    """The rules; holds configuration only, the state goes in and comes out."""

    def __init__(self, config: Config) -> None:
        self._counts_per_m = config.encoder.cart_counts_per_m * config.encoder.cart_sign
        self._speed = min(config.safety.homing_speed_m_s, 0.5 * config.rig.velocity_limit_m_s)
        self._travel = config.rig.track_length_m
        self._travel_tolerance = config.safety.travel_tolerance
        self._gain_tolerance = config.safety.gain_tolerance
        self._braking = config.rig.acceleration_limit_m_s2 / 4.0

    def believes(self, result: HomingResult) -> bool:
        """Whether an earlier result stands the present tolerances; one never measured does."""
        off = result.travel_m / self._travel - 1.0 if result.travel_m > 0.0 else 0.0
        return abs(off) <= self._travel_tolerance and abs(result.gain - 1.0) <= self._gain_tolerance

    def start(self, now_ns: int) -> HomingState:
        """Begin at ``now_ns``."""
        return HomingState(since_ns=now_ns, still_since_ns=now_ns, still_counts=-(2**31))

    def step(self, state: HomingState, now_ns: int, sample: EncoderSample) -> HomingStep:
        """One tick with the newest encoder sample."""
        if state.phase is HomingPhase.STILL:
            return self._wait_still(state, now_ns, sample)
        if state.phase is HomingPhase.RELEASE:
            if not sample.limit_low:
                return self._seek(_enter(state, HomingPhase.SEEK_LOW, now_ns), now_ns, sample)
            if self._seconds(state, now_ns) > 3.0:
                return self._stuck(state, "left switch stays pressed")
            return HomingStep(state, self._speed)
        if state.phase in (HomingPhase.SEEK_LOW, HomingPhase.SEEK_HIGH):
            return self._seek(state, now_ns, sample)
        if state.phase is HomingPhase.CENTRE:
            return self._centre(state, now_ns, sample)
        return HomingStep(state, 0.0)

    @staticmethod
    def _seconds(state: HomingState, now_ns: int) -> float:
        return (now_ns - state.since_ns) / NANOSECONDS

    def _wait_still(self, state: HomingState, now_ns: int, sample: EncoderSample) -> HomingStep:
        if abs(sample.pole_counts - state.still_counts) > STILL_COUNTS:
            state = replace(state, still_counts=sample.pole_counts, still_since_ns=now_ns)
        if now_ns - state.still_since_ns >= STILL_S * NANOSECONDS:
            state = replace(state, pole_zero=sample.pole_counts + 0.5)
            if sample.limit_low:
                return HomingStep(_enter(state, HomingPhase.RELEASE, now_ns), 0.0)
            return HomingStep(_enter(state, HomingPhase.SEEK_LOW, now_ns), 0.0)
        if self._seconds(state, now_ns) > GIVE_UP_STILL_S:
            return _fail(
                state,
                "the pole does not come to rest",
                "let it hang still, then home again; if it does, check the pole encoder",
            )
        return HomingStep(state, 0.0)

    def _seek(self, state: HomingState, now_ns: int, sample: EncoderSample) -> HomingStep:
        leftward = state.phase is HomingPhase.SEEK_LOW
        direction = -1.0 if leftward else 1.0
        wanted = sample.limit_low if leftward else sample.limit_high
        wrong = sample.limit_high if leftward else sample.limit_low
        elapsed = self._seconds(state, now_ns)
        if wrong and elapsed > 1.0:
            return _fail(
                state,
                "the cart reached the wrong switch",
                "motor.sign is reversed, or the switches are swapped",
            )
        if wanted:
            return self._at_switch(state, now_ns, sample, leftward)
        if elapsed > 2.0 * self._travel / self._speed + 2.0:
            return self._stuck(state, "no limit switch was reached")
        state = self._measure_gain(state, now_ns, sample, direction)
        if state.phase is HomingPhase.FAILED:
            return HomingStep(state, 0.0)
        return HomingStep(state, direction * self._speed)

    def _measure_gain(
        self, state: HomingState, now_ns: int, sample: EncoderSample, direction: float
    ) -> HomingState:
        """Compare seen with commanded speed once the drive has settled."""
        if self._seconds(state, now_ns) < SETTLE_S:
            return state
        if state.window_ns == 0:
            return replace(state, window_ns=sample.t_ns, window_counts=sample.cart_counts)
        elapsed = (sample.t_ns - state.window_ns) / NANOSECONDS
        if elapsed < GAIN_WINDOW_S:
            return state
        seen = (sample.cart_counts - state.window_counts) / self._counts_per_m / elapsed
        gain = seen / (direction * self._speed)
        if abs(gain - 1.0) <= self._gain_tolerance:
            return replace(
                state, gain=gain, window_ns=sample.t_ns, window_counts=sample.cart_counts
            )
        return _fail(state, *_explain_gain(gain)).state

    def _at_switch(
        self, state: HomingState, now_ns: int, sample: EncoderSample, leftward: bool
    ) -> HomingStep:
        if leftward:
            state = replace(state, low_counts=sample.cart_counts)
            return HomingStep(_enter(state, HomingPhase.SEEK_HIGH, now_ns), 0.0)
        state = replace(state, high_counts=sample.cart_counts)
        travel = (state.high_counts - state.low_counts) / self._counts_per_m
        if abs(travel / self._travel - 1.0) > self._travel_tolerance:
            return _fail(
                state,
                f"found {travel:.3f} m between the switches, configured {self._travel:.3f} m",
                "measure the track; then correct rig.track_length_m or encoder.cart_counts_per_m",
            )
        return HomingStep(_enter(state, HomingPhase.CENTRE, now_ns), 0.0)

    def _centre(self, state: HomingState, now_ns: int, sample: EncoderSample) -> HomingStep:
        middle = 0.5 * (state.low_counts + state.high_counts)
        offset = (sample.cart_counts - middle) / self._counts_per_m
        if abs(offset) <= CENTRE_TOLERANCE_M:
            travel = (state.high_counts - state.low_counts) / self._counts_per_m
            result = HomingResult(middle + 0.5, state.pole_zero, travel, state.gain)
            return HomingStep(_enter(state, HomingPhase.DONE, now_ns), 0.0, result)
        if self._seconds(state, now_ns) > 2.0 * self._travel / self._speed + 5.0:
            return self._stuck(state, "the middle was not reached")
        speed = min(self._speed, 2.0 * abs(offset) + 0.01)
        return HomingStep(state, -speed if offset > 0.0 else speed)

    def _stuck(self, state: HomingState, what: str) -> HomingStep:
        return _fail(state, what, "check motor power, belt, switches and encoder.cart_counts_per_m")


def _enter(state: HomingState, phase: HomingPhase, now_ns: int) -> HomingState:
    return replace(state, phase=phase, since_ns=now_ns, window_ns=0)


def _fail(state: HomingState, failure: str, advice: str) -> HomingStep:
    failed = replace(state, phase=HomingPhase.FAILED, failure=failure, advice=advice)
    return HomingStep(failed, 0.0)


def _explain_gain(gain: float) -> tuple[str, str]:
    """(failure, advice) for a speed that is off by the factor ``gain``."""
    if abs(gain) < 0.05:
        return "the cart does not move", "check motor power, e-stop, belt and the encoder's plug"
    if gain < 0.0:
        return (
            "the cart moves against its counts",
            "encoder.cart_sign or motor.sign is reversed",
        )
    for factor in (10.0, 100.0, 1000.0):
        for wrong in (factor, 1.0 / factor):
            if 0.7 < gain / wrong < 1.4:
                return (
                    f"the cart moves {gain:.4g} times the commanded speed",
                    "a unit of motor.counts_per_m_s or encoder.cart_counts_per_m is wrong",
                )
    return (
        f"the cart moves {gain:.3f} times the commanded speed",
        "run `cartpole calibrate motor`, or correct motor.counts_per_m_s",
    )
