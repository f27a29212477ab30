"""The board's clock on the host's: drift, jitter, stalls, wrap, restart, nonsense."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cartpole.estimation.clock import WRAP_US, BoardClock

HOST_NS = 10**12
WIRE_NS = 500_000
Delay = Callable[[np.random.Generator], float]

DELAYS: dict[str, Delay] = {
    "exponential": lambda rng: rng.exponential(3e-4),
    "usb frames": lambda rng: rng.uniform(0.0, 1e-3),
    "stalls": lambda rng: rng.exponential(3e-4) + (0.05 if rng.random() < 0.05 else 0.0),
}


def errors_us(drift: float, delay: Delay, first_us: int, seconds: float = 8.0) -> np.ndarray:
    rng, clock = np.random.default_rng(1), BoardClock()
    out, last = [], 0
    for k in range(int(200 * seconds)):
        host_ns = HOST_NS + k * 5_000_000
        board_us = (first_us + round(k * 5000 * (1.0 - drift))) % WRAP_US
        arrival_ns = max(last, host_ns + WIRE_NS + round(1e9 * delay(rng)))
        last = arrival_ns
        latch_ns = clock.observe(board_us, arrival_ns)
        assert latch_ns <= arrival_ns
        out.append((latch_ns - WIRE_NS - host_ns) / 1e3)
    return np.array(out)


@pytest.mark.parametrize("drift", [0.0, 5e-5, -5e-3])
@pytest.mark.parametrize("name", DELAYS)
def test_within_fifty_microseconds_after_two_seconds(name: str, drift: float) -> None:
    errors = errors_us(drift, DELAYS[name], first_us=0)
    assert np.abs(errors[400:]).max() < 50.0


def test_counter_may_wrap() -> None:
    errors = errors_us(5e-5, DELAYS["exponential"], first_us=WRAP_US - 5_000_000)
    assert np.abs(errors[400:]).max() < 50.0


def test_one_wrong_stamp_changes_nothing_after_it() -> None:
    clock, twin = BoardClock(), BoardClock()
    for k in range(400):
        arrival_ns = HOST_NS + k * 5_000_000 + (k * 37_000) % 700_000
        for one in (clock, twin):
            one.observe(k * 5000, arrival_ns)
        if k % 100 == 50:
            assert clock.observe(k * 5000 + 2**30, arrival_ns) == arrival_ns
    assert clock.observe(2_000_000, HOST_NS + 2_001_000_000) == twin.observe(
        2_000_000, HOST_NS + 2_001_000_000
    )


def test_restarted_board_is_followed_again() -> None:
    clock = BoardClock()
    for k in range(1000):
        clock.observe(50_000_000 + 5000 * k, HOST_NS + 5_000_000 * k)
    later_ns = HOST_NS + 10_000_000_000
    latches = [clock.observe(5000 * k, later_ns + 5_000_000 * k) for k in range(100)]
    assert latches[-1] == later_ns + 5_000_000 * 99


def test_samples_out_of_order_keep_their_times() -> None:
    clock = BoardClock()
    for k in range(100):
        clock.observe(5000 * k, HOST_NS + 5_000_000 * k)
    ahead = clock.observe(5000 * 101, HOST_NS + 5_000_000 * 101)
    behind = clock.observe(5000 * 100, HOST_NS + 5_000_000 * 101 + 1000)
    assert ahead - behind == 5_000_000
