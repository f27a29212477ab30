"""The guide keeps a rig safe whatever the settings believe, and its recordings say it all again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from calibration import procedures
from calibration.bench import quiet
from calibration.guide import Guide, led
from calibration.run import calibrate_recording, calibrate_rig, moves
from calibration.sessions import load_recording
from calibration.simulated import SimulatedBench, SimulatedLead, pinned
from cartpole.config.load import load_config, with_values
from cartpole.config.schema import Config
from cartpole.errors import DeviceLost, SessionError
from cartpole.messages import (
    BoardStatus,
    Command,
    EncoderSample,
    Link,
    LinkEvent,
    LinkState,
    Measurement,
)
from cartpole.session.invariants import Invariants
from cartpole.session.reader import open_session
from cartpole.session.writer import SessionWriter

Tamper = Callable[[tuple[Measurement, ...]], tuple[Measurement, ...]]


class Watched(SimulatedBench):
    """Remembers the commands and how far the cart came; a test may tamper with what arrives."""

    def __init__(self, config: Config, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.commands: list[Command] = []
        self.worst_m = 0.0
        self.tamper: Tamper = lambda found: found

    def wait(self) -> tuple[int, tuple[Measurement, ...]]:
        now_ns, found = super().wait()
        self.worst_m = max(self.worst_m, abs(self._rig.plant.state[0]))
        return now_ns, self.tamper(found)

    def send(self, command: Command) -> None:
        self.commands.append(command)
        super().send(command)


def test_programmes_stay_on_the_track() -> None:
    config = with_values(load_config(None), {"sim.cart_counts_per_m": 24000.0})
    bench = Watched(config, 5)
    guide = Guide(config, bench)
    guide.settle(may_move=True)
    for part in ("motor", "camera", "pole"):
        for move in moves(part, config):
            guide.follow(move)
    assert bench.worst_m < config.rig.track_length_m / 2
    assert all(math.isfinite(one.velocity_m_s) for one in bench.commands)


def test_a_swinging_pole_is_calmed() -> None:
    config = load_config(None)
    bench = Watched(config)
    guide = Guide(config, bench)
    guide.settle(may_move=True)
    bench._rig.plant.push(pole_rad_s=9.0)
    for _ in range(120):
        bench.wait()
    assert not any(one.velocity_m_s for one in bench.commands)
    guide.settle(may_move=True)
    assert any(one.velocity_m_s for one in bench.commands)
    assert bench.commands[-1].velocity_m_s == 0.0


def silent(found: tuple[Measurement, ...]) -> tuple[Measurement, ...]:
    return tuple(one for one in found if not isinstance(one, EncoderSample))


def unplugged(found: tuple[Measurement, ...]) -> tuple[Measurement, ...]:
    return (*found, LinkEvent(0, Link.ENCODER, LinkState.DOWN, "gone"))


def at_a_switch(found: tuple[Measurement, ...]) -> tuple[Measurement, ...]:
    return tuple(
        replace(one, limit_high=True) if isinstance(one, EncoderSample) else one for one in found
    )


def tripped(found: tuple[Measurement, ...]) -> tuple[Measurement, ...]:
    return (*found, BoardStatus(0, fault_code=3))


def red_button(found: tuple[Measurement, ...]) -> tuple[Measurement, ...]:
    return (*found, BoardStatus(0, estop=True))


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (tripped, "code 3"),
        (red_button, "emergency stop"),
        (silent, "fell silent"),
        (unplugged, "gone"),
        (at_a_switch, "limit switch"),
    ],
)
def test_whatever_goes_wrong_the_cart_is_stopped(tamper: Tamper, says: str) -> None:
    config = load_config(None)
    bench = Watched(config)
    with led(config, bench, "motor", quiet, None) as guide:
        guide.settle(may_move=True)
        guide.follow(procedures.chirp(config, 1.0))
        bench.tamper = tamper
        with pytest.raises(DeviceLost, match=says):
            guide.follow(procedures.chirp(config, 5.0))
        assert bench.commands[-1].velocity_m_s == 0.0
    assert bench.commands[-1].velocity_m_s == 0.0
    assert not bench.commands[-1].enable


def test_a_short_silence_is_waited_out_with_the_brake_on() -> None:
    config = load_config(None)
    bench = Watched(config)
    guide = Guide(config, bench)
    guide.settle(may_move=True)
    ticks = iter(range(10**6))
    bench.tamper = lambda found: silent(found) if 40 <= next(ticks) < 52 else found
    guide.follow(procedures.chirp(config, 2.0))
    speeds = [abs(one.velocity_m_s) for one in bench.commands[-101:]]
    assert min(speeds[44:52]) == 0.0
    assert max(speeds[60:]) > 0.1


def test_a_stuck_cart_is_noticed() -> None:
    config = load_config(None)
    bench = Watched(config)
    guide = Guide(config, bench)
    guide.settle(may_move=True)
    bench.tamper = lambda found: tuple(
        replace(one, cart_counts=0) if isinstance(one, EncoderSample) else one for one in found
    )
    with pytest.raises(DeviceLost, match="does not move"):
        guide.follow(procedures.sweep(config))
    assert len([one for one in bench.commands if one.velocity_m_s]) < 60


def test_without_samples_nothing_moves() -> None:
    config = load_config(None)
    bench = Watched(config)
    bench.tamper = silent
    with pytest.raises(DeviceLost, match="does not answer"):
        Guide(config, bench).settle(may_move=True)
    assert not any(one.velocity_m_s or one.enable for one in bench.commands)


def keep_in(folder: Path, config: Config, part: str) -> SessionWriter:
    frames = config.session.model_copy(update={"frames": "all"})
    config = config.model_copy(update={"session": frames})
    return SessionWriter(
        folder / f"{part}.mcap", config, {"made_by": f"calibrate {part}"}, live=False
    )


@pytest.mark.parametrize("part", ["encoder", "motor", "latency"])
def test_a_recording_says_it_again(tmp_path: Path, part: str) -> None:
    """What a procedure found is found again in its file: bit for bit, or by pictures that were
    compressed within a hundredth of the interval."""
    config = pinned(with_values(load_config(None), {"sim.length_m": 0.45, "sim.tau_s": 0.06}))
    lead = SimulatedLead(2, keep=partial(keep_in, tmp_path))
    (found,) = calibrate_rig(part, config, lead)
    path = tmp_path / f"{part}.mcap"
    (again,) = calibrate_recording(part, *load_recording(path, load_config(None)))
    assert found.source == again.source != ""
    assert found.estimates.keys() == again.estimates.keys()
    for name, one in found.estimates.items():
        other = again.estimates[name]
        room = 0.15 * (one.ci95[1] - one.ci95[0]) if part == "latency" else 1e-12
        assert other.value == pytest.approx(one.value, abs=room, rel=1e-12), name
    session = open_session(path)
    invariants = Invariants(session.config)
    for tick in session.ticks():
        assert not invariants.check(tick.record(), tick.truth)


def test_a_recording_of_a_calibration_is_no_run(tmp_path: Path) -> None:
    from cartpole.session.replay import replay

    config = pinned(load_config(None))
    with led(config, SimulatedBench(config, 0), "x", quiet, partial(keep_in, tmp_path)) as guide:
        guide.settle(may_move=True)
        guide.begin()
        guide.follow(procedures.hold(0.5))
    with pytest.raises(SessionError, match="calibrate"):
        replay(open_session(tmp_path / "x.mcap"))
