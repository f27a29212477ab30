"""The model learned in flight reaches the filter."""

from __future__ import annotations

import numpy as np
import pytest

from cartpole.config.schema import Config, Motor, Pole, Rig, Sim
from cartpole.messages import NANOSECONDS, Mode
from cartpole.session.summary import from_upright
from cartpole.sim.run import VirtualRun


def rate_error(config: Config, duration_s: float) -> float:
    """RMS error of the pole's rate while it swings up [rad/s]."""
    run, found = VirtualRun(config, 3), []
    for tick in run.ticks():
        record = tick.record
        if record.mode.value in ("SWING_UP", "BALANCE") and record.estimate is not None:
            found.append(record.estimate.state[3] - tick.truth[3])
        if len(found) * config.controller.period_s > duration_s:
            break
    return float(np.sqrt(np.mean(np.square(found))))


def test_the_filter_predicts_with_what_was_learned() -> None:
    # The settings alone give 0.14 rad/s here: a pole 20 % longer, a drive 30 % slower.
    assert rate_error(Config(sim=Sim(length_m=0.6, tau_s=0.065)), 6.0) < 0.08


def test_a_cart_on_a_soft_belt_is_followed_by_its_counts() -> None:
    # A model that is believed as ever gives 0.22 rad/s here, and a pole that falls again.
    assert rate_error(Config(sim=Sim(belt_hz=6.0)), 6.0) < 0.13


@pytest.mark.parametrize(("known", "most_mrad"), [(0.7, 5.0), (0.0, 8.0)])
def test_dry_friction_leaves_no_limit_cycle(known: float, most_mrad: float) -> None:
    """Plans that know viscous friction alone sway by 25 mrad here."""
    config = Config(pole=Pole(coulomb_rad_s2=known), sim=Sim(coulomb_rad_s2=0.7))
    run, begun_ns, tail = VirtualRun(config, 3), -1, []
    for tick in run.ticks():
        now_ns = tick.record.input.now_ns
        if begun_ns < 0 and tick.record.mode is Mode.SWING_UP:
            begun_ns = now_ns
        if begun_ns > 0 and now_ns - begun_ns > 6 * NANOSECONDS:
            tail.append(from_upright(tick.truth[2]))
        if len(tail) == 150:
            break
    assert 1e3 * float(np.sqrt(np.mean(np.square(tail)))) < most_mrad


def test_homing_teaches_the_pole_before_it_is_swung_up() -> None:
    config = Config(sim=Sim(length_m=0.6, damping_1_s=0.08, homed=False))
    run = VirtualRun(config, 3)
    for tick in run.ticks():
        if tick.record.mode is Mode.SWING_UP:
            break
    model = run.core._observer.model
    assert model.length_m == pytest.approx(0.6, rel=0.03)
    assert model.coulomb_rad_s2 == 0.0


def test_a_held_pole_is_no_rubbing_one() -> None:
    """It sits on two or three counts, whose edges had said .38 rad/s² of a pivot without any."""
    length, tau, speed = 0.3803606166160039, 0.02001872211026022, 1.0599181573553804
    rate, room = 9.312263672911488, 0.3004052416028604
    config = Config(
        rig=Rig(
            track_length_m=2.0 * room + 0.16,
            position_limit_m=room,
            velocity_limit_m_s=speed,
            acceleration_limit_m_s2=rate,
        ),
        pole=Pole(length_m=length),
        motor=Motor(tau_s=tau, acceleration_m_s2=1.2 * rate, counts_per_m_s=1700.0 / speed),
    )
    run, most = VirtualRun(config, 25), 0.0
    for tick in run.ticks():
        most = max(most, run.core._observer.model.coulomb_rad_s2)
        if tick.record.index == 250:
            break
    assert most < 0.1
