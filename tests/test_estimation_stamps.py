"""How well counts are stamped is told by the counts."""

from __future__ import annotations

import math
import random

import pytest

from cartpole.estimation.stamps import StampMemory, StampRules

RULES = StampRules(count_m=5e-5, acceleration_m_s2=8.0, velocity_m_s=1.0)
PERIOD_NS = 5_000_000


def cart(t_ns: int) -> float:
    """A cart swinging by 8 m/s² and .8 m/s, in counts [m]."""
    return round(0.08 * math.sin(10.0 * t_ns * 1e-9) / RULES.count_m) * RULES.count_m


def seen(late_ns: int, seconds: float = 2.0) -> StampMemory:
    """Samples latched up to ``late_ns`` after their stamp."""
    rng, memory = random.Random(2), StampMemory()
    for t_ns in range(0, round(seconds * 1e9), PERIOD_NS):
        memory.take(t_ns, cart(t_ns + rng.randrange(late_ns + 1)), RULES)
    return memory


def test_good_stamps_are_good_to_the_last_bit() -> None:
    """Rounding and the drive's own acceleration are no jitter: nothing changes on a good rig."""
    assert seen(0).jitter_s == 0.0


@pytest.mark.parametrize("late_ns", [2_000_000, 4_000_000])
def test_jitter_is_found(late_ns: int) -> None:
    assert seen(late_ns).jitter_s == pytest.approx(late_ns * 1e-9 / math.sqrt(12.0), rel=0.3)


def test_it_is_forgotten_when_the_wires_are_good_again() -> None:
    memory = seen(4_000_000)
    for t_ns in range(3 * 10**9, 8 * 10**9, PERIOD_NS):
        memory.take(t_ns, cart(t_ns), RULES)
    assert memory.jitter_s < 1e-4


def test_a_cart_that_balances_forgets_nothing() -> None:
    """Forgotten by then, a swing's late stamps accused the camera's delay ten seconds later."""
    memory = seen(4_000_000)
    known_s = memory.jitter_s
    for t_ns in range(2 * 10**9, 20 * 10**9, PERIOD_NS):
        place = 0.006 * math.sin(5.0 * t_ns * 1e-9)
        memory.take(t_ns, round(place / RULES.count_m) * RULES.count_m, RULES)
    assert memory.jitter_s == pytest.approx(known_s, rel=0.05)


def test_one_wrong_count_and_a_hole_say_little() -> None:
    memory = seen(0)
    memory.take(2 * 10**9, 0.3, RULES)
    memory.take(3 * 10**9, -0.3, RULES)
    assert memory.jitter_s < 1e-3
