"""Where cart and pole are, as far as homing knows: by its counts, its switches and the swing."""

from __future__ import annotations

from cartpole.control import calm, swing
from cartpole.control.homing_records import HomingRules, HomingState
from cartpole.messages import NANOSECONDS

RELEASE_M = 0.03  # a switch that stays pressed so far from it is stuck
NEAR_SWITCH_M = 0.03
SURE_ZERO_RAD = 0.03  # a zero less sure than this is taken from a pole at rest instead
SPAN_S = 0.03  # over which the cart's speed is taken


def cart_at(state: HomingState, rules: HomingRules, now_ns: int) -> tuple[float, float]:
    """(position [m], speed [m/s]) of the cart at ``now_ns``, whatever the newest sample's age."""
    position, speed, _, _ = swing.motion(state.swing, rules.scales, SPAN_S)
    age_s = (now_ns - state.swing.trail[-1].t_ns) / NANOSECONDS if state.swing.trail else 0.0
    return position + age_s * speed, speed


def cart(state: HomingState, rules: HomingRules) -> tuple[float, float]:
    """(p, v) from the middle of the track, when the next command acts."""
    low, high = state.low_counts or 0, state.high_counts or 0
    position, speed, _, _ = swing.motion(state.swing, rules.scales)
    position += speed * (rules.delay_s + 0.25 * rules.period_s)
    return position - 0.5 * (low + high) / rules.scales.cart_counts_per_m, speed


def near_end(state: HomingState, rules: HomingRules) -> bool:
    """Whether the cart may still stand on the switch it came from."""
    return abs(cart(state, rules)[0]) > _half_m(state, rules) - RELEASE_M


def near_switch(state: HomingState, rules: HomingRules, p_m: float) -> bool:
    """Whether a switch may still be pressed: a board must go on blocking there, not trip."""
    return abs(p_m) > _half_m(state, rules) - NEAR_SWITCH_M


def zero_rad(state: HomingState, rules: HomingRules, pole: swing.Seen | None) -> float:
    """Raw angle of the hanging pole, in the turn where the pole is now."""
    _, _, now, _ = swing.motion(state.swing, rules.scales)
    if pole is None or pole.zero_sigma_rad > SURE_ZERO_RAD:
        return calm.mean_angle(state.swing, rules.scales)
    return calm.nearest_turn(pole.zero_rad, now)


def _half_m(state: HomingState, rules: HomingRules) -> float:
    """Half of the travel between the switches that were found."""
    low, high = state.low_counts or 0, state.high_counts or 0
    return 0.5 * abs(high - low) / abs(rules.scales.cart_counts_per_m)
