"""Bad wires: bytes lost, doubled, spoilt, bunched; and the driver's time-out behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from cartpole.config.load import load_config
from cartpole.config.schema import Config
from cartpole.messages import NANOSECONDS, Command, EncoderSample, Mode
from cartpole.rules.sim import rig_rules
from cartpole.sim.boards import NEVER
from cartpole.sim.rig import VirtualRig
from cartpole.sim.run import START_NS, VirtualRun
from cartpole.sim.worn import Wear, WornLine, worn_line

CONFIG = Path(__file__).parent / "golden" / "settings.yaml"
MS = 1_000_000


def settings(*overrides: str) -> Config:
    return load_config(CONFIG, ["camera.source=none", *overrides])


class Echo:
    """A board that answers what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes]] = []

    def exchange(self, t_ns: int, received: bytes) -> bytes:
        if received:
            self.heard.append((t_ns, received))
        return received

    def next_ns(self) -> int:
        return NEVER


def through(inward: Wear, outward: Wear, writes: Sequence[bytes]) -> tuple[Echo, bytes]:
    board = Echo()
    line = WornLine(board, inward, outward, (1, 2))
    out = b"".join(line.exchange(k * MS, data) for k, data in enumerate(writes))
    return board, out + line.exchange(NANOSECONDS, b"")


def test_a_good_line_is_no_line() -> None:
    board = Echo()
    assert worn_line(board, settings().sim, 0, 5) is board


@pytest.mark.parametrize(
    ("wear", "low", "high"),
    [
        (Wear(lost=0.1), 8_800, 9_200),
        (Wear(doubled=0.1), 10_800, 11_200),
        (Wear(corrupted=0.1), 10_000, 10_000),
        (Wear(writes_lost=0.1), 8_000, 9_900),
    ],
)
def test_shares_are_kept(wear: Wear, low: int, high: int) -> None:
    _, out = through(wear, Wear(), [b"x" * 100] * 100)
    assert low <= len(out) <= high
    if wear.corrupted:
        wrong = [value for value in out if value != ord("x")]
        assert 850 <= len(wrong) <= 1150
        assert all((value ^ ord("x")).bit_count() == 1 for value in wrong)
    else:
        assert set(out) == {ord("x")}


def test_a_parity_bit_notices_one_wrong_bit() -> None:
    """No line of text holds a zero: what was spoilt is no digit of another value."""
    _, out = through(Wear(corrupted=0.1, parity=True), Wear(), [b"x" * 100] * 100)
    assert set(out) == {0, ord("x")}


def test_bursts_hold_back_and_lose_nothing() -> None:
    writes = [bytes((k,)) for k in range(40)]
    board, out = through(Wear(burst_ns=16 * MS), Wear(burst_ns=16 * MS), writes)
    assert out == b"".join(writes)
    assert {t % (16 * MS) for t, _ in board.heard} == {0}


def test_a_bunched_line_says_when_it_speaks() -> None:
    line = WornLine(Echo(), Wear(), Wear(burst_ns=16 * MS), (1, 2))
    assert line.exchange(3 * MS, b"a") == b""
    assert line.next_ns() == 16 * MS
    assert line.exchange(15 * MS, b"") == b""
    assert line.exchange(16 * MS, b"") == b"a"
    assert line.next_ns() == NEVER


def samples(*overrides: str, seconds: float = 1.0) -> list[EncoderSample]:
    rig = VirtualRig(rig_rules(settings(*overrides)), 1)
    found = rig.advance(round(seconds * NANOSECONDS))
    return [item for item in found if isinstance(item, EncoderSample)]


def test_one_question_outstanding_through_a_bunched_line() -> None:
    every = samples("sim.answers_burst_s=0.016")
    assert 55 <= len(every) <= 63  # one a burst, as the real link asks
    # Latched when asked, not when the bunch came: never stamped later than it arrived.
    assert all(sample.t_ns <= sample.arrival_ns for sample in every)
    assert len(samples()) == 199


def test_a_lost_answer_is_asked_for_again() -> None:
    assert len(samples("sim.bytes_lost=0.02")) < 199
    assert len(samples("sim.bytes_lost=0.02")) > 15


def test_same_seed_same_bytes() -> None:
    overrides = ("sim.bytes_lost=0.01", "sim.bytes_corrupted=0.01", "sim.drive_ripple_m_s=0.02")
    assert samples(*overrides) == samples(*overrides)


def test_a_silent_host_stops_the_drive() -> None:
    config = settings()
    rig = VirtualRig(rig_rules(config), 1)
    rig.advance(20 * MS)
    rig.send(20 * MS, Command(20 * MS, 0, 0.4, True, 0.4))
    rig.advance(119 * MS)
    assert rig.truth(119 * MS)[1] > 0.3
    rig.advance(400 * MS)
    assert abs(rig.truth(400 * MS)[1]) < 0.01


def test_a_moderately_bad_world_is_flown() -> None:
    config = load_config(CONFIG, [
        "sim.drive_stiction_m_s2=0.3", "sim.drive_ripple_m_s=0.005", "sim.supply_sag=0.03",
        "sim.command_step_m_s=0.001", "sim.track_tilt_rad=0.003", "sim.pole_bend_rad=0.001",
        "sim.belt_hz=25.0", "sim.answers_burst_s=0.004",
    ])  # fmt: skip
    for tick in VirtualRun(config, 3).ticks():
        assert tick.record.mode is not Mode.FAULT, tick.record.faults
        if tick.record.input.now_ns - START_NS > 8 * NANOSECONDS:
            break
    assert tick.record.mode is Mode.BALANCE
