"""Homing: find both encoders' zero by gravity and the limit switches, and check the numbers.

A state machine without clock or device: fed with encoder samples, it answers a velocity. Nothing is
taken for granted. The switches are judged before and during every move; the first centimetre is
crawled and shows whether the cart goes the way it is told, and how fast; a cart that is held is
let go within a quarter of a second; the travel between the switches must hold the configured
limits. The pole is not waited for: its zero, its coupling and its friction come out of how it
swings while the cart moves (`swing`), and when the track is known the cart calms it (`calm`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from cartpole.control import calm, homing_drive, homing_ramp, homing_view, swing
from cartpole.control.homing_records import HomingPhase, HomingRules, HomingState, HomingStep
from cartpole.control.homing_view import RELEASE_M
from cartpole.control.homing_words import (
    both_pressed,
    explain_gain,
    explain_ramp,
    explain_sign,
    explain_travel,
    held_up,
    switch_stays,
    wrong_switch,
)
from cartpole.messages import NANOSECONDS, EncoderSample, HomingResult

LOOK_S = 0.2  # switches and pole are looked at before anything moves
GIVE_UP_LOOK_S = 3.0
CRAWL_M_S = 0.06
FIRM_M_S = 0.12  # for a cart that stays behind: a drive that sticks at the crawl is not held
FIRM_M = 0.005
FIRST_M = 0.01
BACKWARD_M = 0.0025
HELD_M = 0.02  # commanded way that was not gone
FREE_SHARE = 0.12  # of the configured travel, kept for the slow approach
SURE_SIGMAS = 5.0  # beyond this the pole's sense is no accident
REST_S = 0.3
CALM_S = 7.0  # a pole that swings longer is left to the filter ...
LATEST_S, LEAST_CALM_S = 11.4, 1.0  # ... as one is for which the way to the switches left no time
FREE_SPEED_M_S = 0.02  # faster than this without a command is no cart at rest
RAMP_SHARE = 0.55  # of the rate that commands may have: limits are not kept by a slower driver


@dataclass(frozen=True, slots=True)
class _Heard:
    """One tick's samples, and the switches pressed in any of them (counts of the first)."""

    samples: tuple[EncoderSample, ...]
    low: EncoderSample | None
    high: EncoderSample | None


class Homing:
    """The rules; holds settings only, the state goes in and comes out."""

    def __init__(self, rules: HomingRules) -> None:
        self.rules = rules

    def believes(self, result: HomingResult) -> bool:
        """Whether an earlier result stands the present tolerances; one never measured does."""
        rules = self.rules
        if result.travel_m > 0.0 and self._judge_travel(result.travel_m) is not None:
            return False
        return abs(result.gain - 1.0) <= rules.gain_tolerance

    def start(self, now_ns: int) -> HomingState:
        """Begin at ``now_ns``."""
        return HomingState(started_ns=now_ns, since_ns=now_ns)

    def step(
        self,
        state: HomingState,
        now_ns: int,
        samples: tuple[EncoderSample, ...],
        sent_m_s: float,
    ) -> HomingStep:
        """One tick with the samples since the last one; ``sent_m_s`` is the last command sent."""
        if state.phase in (HomingPhase.DONE, HomingPhase.FAILED):
            return HomingStep(state, 0.0)
        state = replace(state, swing=swing.watch(state.swing, samples, self.rules.scales))
        seen = homing_view.cart_at(state, self.rules, now_ns) if samples else None
        state = replace(
            state,
            ramp=homing_ramp.follow(
                state.ramp,
                seen,
                sent_m_s,
                self.rules.period_s,
                self.rules.acceleration_m_s2,
            ),
            drive=homing_drive.follow(
                state.drive,
                seen,
                sent_m_s,
                self.rules.period_s,
                self.rules.tau_s,
                self.rules.acceleration_m_s2,
            ),
        )
        heard = _Heard(
            samples,
            next((s for s in samples if s.limit_low), None),
            next((s for s in samples if s.limit_high), None),
        )
        if heard.low is not None and heard.high is not None:
            return _fail(state, *both_pressed(self.rules.switch_active))
        return self._phase(state, now_ns, heard)

    def _phase(self, state: HomingState, now_ns: int, heard: _Heard) -> HomingStep:
        if state.phase is HomingPhase.LOOK:
            return self._look(state, now_ns, heard)
        if state.phase is HomingPhase.CRAWL:
            return self._crawl(state, now_ns, heard)
        if state.phase in (HomingPhase.SEEK, HomingPhase.RETURN):
            return self._seek(state, now_ns, heard)
        pressed = heard.low or heard.high
        if pressed is not None and not homing_view.near_end(state, self.rules):
            return _fail(
                state,
                "a switch was pressed between the switches",
                "check both switches and their cables, then home again",
            )
        if state.phase is HomingPhase.CALM:
            return self._calm(state, now_ns)
        return self._rest(state, now_ns)

    # Before and at the start of the first move

    def _look(self, state: HomingState, now_ns: int, heard: _Heard) -> HomingStep:
        state = _standing_on(state, heard)
        elapsed = _seconds(state, now_ns)
        if elapsed < LOOK_S or not heard.samples:
            return HomingStep(state, 0.0)
        _, speed, _, _ = swing.motion(state.swing, self.rules.scales)
        if abs(speed) > FREE_SPEED_M_S:
            if elapsed < GIVE_UP_LOOK_S:
                return HomingStep(state, 0.0)
            return _fail(
                state,
                f"the cart moves by {speed:.2f} m/s without a command",
                "let go of it; else check the driver's zero and encoder.cart_counts_per_m",
            )
        if state.held_low and state.held_high:
            return _fail(state, *both_pressed(self.rules.switch_active))
        state = replace(state, direction=1.0 if state.held_low else -1.0)
        return self._begin(state, HomingPhase.CRAWL, now_ns)

    def _begin(self, state: HomingState, phase: HomingPhase, now_ns: int) -> HomingStep:
        moved = replace(
            state,
            drive=homing_drive.leg(state.drive, homing_view.cart_at(state, self.rules, now_ns)[1]),
        )
        return HomingStep(_enter(moved, phase, now_ns), 0.0)

    def _crawl(self, state: HomingState, now_ns: int, heard: _Heard) -> HomingStep:
        wanted = state.direction * homing_drive.wanted_m(state.drive)
        scale = self.rules.scales.cart_counts_per_m
        places = [sample.cart_counts / scale for sample in heard.samples[-2:]]
        gone = homing_drive.likely_way_m(state.drive, places, state.direction, wanted)
        if gone < -BACKWARD_M:
            turned = calm.answered(state.swing, self.rules.scales, state.direction)
            return _fail(state, *explain_sign(turned))
        if gone > 2.0 * wanted + 0.8 * FIRST_M:
            return _fail(state, *explain_gain(gone / max(wanted, 1e-3)))
        switch = self._judge_switches(state, heard, gone)
        if switch is not None:
            return switch
        state = _last_pressed(state, heard)
        if ahead := heard.low if state.direction < 0.0 else heard.high:
            state = _first_pressed(state, ahead)
        if wanted - gone > HELD_M:
            return _fail(state, *explain_gain(gone / wanted))
        if gone >= FIRST_M:
            state = _released(state, heard)
            return HomingStep(_enter(state, HomingPhase.SEEK, now_ns), state.direction * CRAWL_M_S)
        speed = FIRM_M_S if wanted - gone > FIRM_M else CRAWL_M_S
        return HomingStep(state, state.direction * speed)

    def _judge_switches(self, state: HomingState, heard: _Heard, gone: float) -> HomingStep | None:
        """A failure if a switch is pressed that cannot be, or stays so."""
        for name, pressed, held, ahead in (
            ("left", heard.low, state.held_low, state.direction < 0.0),
            ("right", heard.high, state.held_high, state.direction > 0.0),
        ):
            if pressed is None or ahead:
                continue
            if held and gone <= RELEASE_M:
                continue
            if held:
                return _fail(state, *switch_stays(name, self.rules.switch_active))
            if gone > RELEASE_M or state.phase is HomingPhase.CRAWL:
                return _fail(state, *wrong_switch(name))
        return None

    # Between the switches

    def _seek(self, state: HomingState, now_ns: int, heard: _Heard) -> HomingStep:
        gone = state.direction * homing_drive.gone_m(state.drive)
        switch = self._judge_switches(state, heard, gone)
        if switch is not None:
            return switch
        state = _released(_last_pressed(state, heard), heard)
        wanted = heard.low if state.direction < 0.0 else heard.high
        if wanted is not None:
            return self._at_switch(state, now_ns, wanted)
        gain = homing_drive.strike(state.drive)
        if gain is not None:
            return _fail(state, *self._held_up(state, gain))
        if gone > (1.0 + 2.0 * self.rules.travel_tolerance) * self.rules.travel_m:
            return _fail(
                state,
                f"no limit switch was reached in {gone:.2f} m",
                "check the switches, rig.track_length_m and encoder.cart_counts_per_m",
            )
        return HomingStep(state, state.direction * self._speed(state, gone))

    def _held_up(self, state: HomingState, gain: float) -> tuple[str, str]:
        if gain > 1.0:
            return explain_gain(gain)
        if 0.0 < homing_ramp.seen(state.ramp) < RAMP_SHARE:
            return self._slow(state)
        return held_up()

    def _slow(self, state: HomingState) -> tuple[str, str]:
        most = self.rules.acceleration_m_s2
        return explain_ramp(homing_ramp.seen(state.ramp) * most, most)

    def _speed(self, state: HomingState, gone: float) -> float:
        """Fast where the other switch cannot be, slow towards it."""
        slow = self.rules.speed_m_s
        behind = state.high_counts if state.direction < 0.0 else state.low_counts
        if behind is None or state.held_low or state.held_high:
            return slow
        free = self.rules.travel_m * (1.0 - FREE_SHARE - self.rules.travel_tolerance / 2.0) - gone
        fast = self.rules.between_m_s
        # v^2 = 2 a s, with half the deceleration and the way of the lag left over.
        ahead = max(free - fast * (self.rules.tau_s + 2.0 * self.rules.period_s), 0.0)
        most = math.sqrt(self.rules.acceleration_m_s2 * ahead)
        calming = state.direction * self._calming(state, swing.seen(state.swing))
        return max(slow, min(max(fast + calming, 0.5 * slow), most, self.rules.fastest_m_s))

    def _at_switch(self, state: HomingState, now_ns: int, at: EncoderSample) -> HomingStep:
        state = _first_pressed(state, at)
        low, high = state.low_counts, state.high_counts
        if low is None or high is None:
            turned = replace(state, direction=-state.direction)
            return self._begin(turned, HomingPhase.RETURN, now_ns)
        travel = (high - low) / self.rules.scales.cart_counts_per_m
        wrong = self._judge(state, travel)
        if wrong is not None:
            return _fail(state, *wrong)
        return HomingStep(_enter(state, HomingPhase.CALM, now_ns), 0.0)

    def _judge(self, state: HomingState, travel: float) -> tuple[str, str] | None:
        """(failure, advice) if a figure cannot be."""
        rules = self.rules
        gain = homing_drive.gain(state.drive)
        if abs(gain - 1.0) > rules.gain_tolerance:
            return explain_gain(gain)
        return self._judge_travel(travel)

    def _judge_travel(self, travel: float) -> tuple[str, str] | None:
        rules = self.rules
        return explain_travel(
            travel,
            rules.travel_m,
            rules.travel_tolerance,
            rules.position_limit_m,
            rules.stop_margin_m,
        )

    # In the middle

    def _calm(self, state: HomingState, now_ns: int) -> HomingStep:
        cart = homing_view.cart(state, self.rules)
        pole = swing.seen(state.swing)
        if pole is not None and pole.sense < 0 and pole.sense_sigmas > SURE_SIGMAS:
            return _fail(
                state,
                "the pole answers the cart the wrong way round",
                "encoder.pole_sign is reversed; or motor.sign and encoder.cart_sign both are",
            )
        spent_s = _seconds(state, now_ns)
        late = (now_ns - state.started_ns) / NANOSECONDS > LATEST_S and spent_s > LEAST_CALM_S
        if self._settled(state, pole, cart) or spent_s > CALM_S or late:
            rest = _enter(state, HomingPhase.REST, now_ns)
            return HomingStep(rest, 0.0, cart=cart, at_switch=False)
        velocity = self._calming(state, pole) + calm.spring(cart, self._lead_s)
        if near := homing_view.near_switch(state, self.rules, cart[0]):
            most = self.rules.fastest_m_s
            velocity = min(max(velocity, -most), most)
        return HomingStep(state, velocity, cart=cart, at_switch=near)

    @property
    def _lead_s(self) -> float:
        return self.rules.tau_s + self.rules.delay_s + 0.75 * self.rules.period_s

    def _settled(
        self, state: HomingState, pole: swing.Seen | None, cart: tuple[float, float]
    ) -> bool:
        _, _, angle, rate = swing.motion(state.swing, self.rules.scales)
        return calm.settled(cart, angle - homing_view.zero_rad(state, self.rules, pole), rate)

    def _calming(self, state: HomingState, pole: swing.Seen | None) -> float:
        """The velocity that takes energy out of the pole; 0 while its sense is not known."""
        if pole is None or pole.sense < 0 or pole.sense_sigmas < SURE_SIGMAS:
            return 0.0
        _, _, angle, rate = swing.motion(state.swing, self.rules.scales)
        sure = pole.coupling_sigma_1_m < 0.1 * pole.coupling_1_m
        return calm.velocity(
            angle - homing_view.zero_rad(state, self.rules, pole),
            rate,
            pole.coupling_1_m if sure else self.rules.coupling_1_m,
            lead_s=self._lead_s,
            fastest_m_s=self.rules.calming_m_s,
            room_m=self.rules.position_limit_m,
        )

    def _rest(self, state: HomingState, now_ns: int) -> HomingStep:
        cart = homing_view.cart(state, self.rules)
        if _seconds(state, now_ns) < REST_S:
            return HomingStep(state, 0.0, cart=cart, at_switch=False)
        ramp = homing_ramp.seen(state.ramp)
        if 0.0 < ramp < RAMP_SHARE:
            return _fail(state, *self._slow(state))
        pole = swing.seen(state.swing)
        low, high = state.low_counts or 0, state.high_counts or 0
        zero_rad = homing_view.zero_rad(state, self.rules, pole)
        result = HomingResult(
            cart_zero_counts=0.5 * (low + high) + 0.5,
            pole_zero_counts=zero_rad * self.rules.scales.pole_counts_per_rad,
            travel_m=(high - low) / self.rules.scales.cart_counts_per_m,
            gain=homing_drive.gain(state.drive),
            lag_s=homing_drive.lag_s(state.drive),
            coupling_1_m=0.0 if pole is None else pole.coupling_1_m,
            coupling_sigma_1_m=0.0 if pole is None else pole.coupling_sigma_1_m,
            damping_1_s=0.0 if pole is None else pole.damping_1_s,
            dry_rad_s2=0.0 if pole is None else pole.dry_rad_s2,
            ramp_m_s2=ramp * self.rules.acceleration_m_s2,
        )
        done = _enter(state, HomingPhase.DONE, now_ns)
        return HomingStep(done, 0.0, result, cart=cart, at_switch=False)


def _standing_on(state: HomingState, heard: _Heard) -> HomingState:
    """The switches that are pressed before anything moved: on its edge one comes and goes."""
    low, high = state.held_low or heard.low is not None, state.held_high or heard.high is not None
    return _last_pressed(replace(state, held_low=low, held_high=high), heard)


def _last_pressed(state: HomingState, heard: _Heard) -> HomingState:
    """A switch that the cart stood on is where it was seen pressed last."""
    for sample in heard.samples:
        if state.held_low and sample.limit_low:
            state = replace(state, low_counts=sample.cart_counts)
        if state.held_high and sample.limit_high:
            state = replace(state, high_counts=sample.cart_counts)
    return state


def _first_pressed(state: HomingState, at: EncoderSample) -> HomingState:
    """The switch ahead is where it was seen pressed first, perhaps while the cart crawled."""
    if state.direction < 0.0 and state.low_counts is None:
        return replace(state, low_counts=at.cart_counts)
    if state.direction > 0.0 and state.high_counts is None:
        return replace(state, high_counts=at.cart_counts)
    return state


def _released(state: HomingState, heard: _Heard) -> HomingState:
    """Without the switches that the cart has left."""
    if not heard.samples:
        return state
    return replace(
        state,
        held_low=state.held_low and heard.low is not None,
        held_high=state.held_high and heard.high is not None,
    )


def _seconds(state: HomingState, now_ns: int) -> float:
    return (now_ns - state.since_ns) / NANOSECONDS


def _enter(state: HomingState, phase: HomingPhase, now_ns: int) -> HomingState:
    return replace(state, phase=phase, since_ns=now_ns)


def _fail(state: HomingState, failure: str, advice: str) -> HomingStep:
    failed = replace(state, phase=HomingPhase.FAILED, failure=failure, advice=advice)
    return HomingStep(failed, 0.0)
