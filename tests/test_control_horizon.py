"""Plans are as long as the rig that was found needs, not only the one of the settings."""

from __future__ import annotations

import math

import pytest

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.control.core import ControlCore
from cartpole.control.memory import CoreMemory
from cartpole.errors import SessionError
from cartpole.estimation.learner import LENGTH
from cartpole.messages import Mode
from cartpole.rules.control import settings_of
from cartpole.rules.optimizer import planner_rules
from cartpole.session.codec import decoder
from cartpole.session.packing import pack
from cartpole.session.summary import from_upright
from cartpole.sim.run import VirtualRun

LONG_M = 0.72
CONFIG = with_values(Config(), {"sim.length_m": LONG_M})
USUAL = planner_rules(CONFIG).horizon_steps


def tell(core: ControlCore, length_m: float) -> None:
    """What homing would have found of the pole."""
    core._observer._learner.told(LENGTH, math.log(1.5 / length_m), 0.01)


def test_a_pole_found_longer_is_swung_up_by_longer_plans() -> None:
    """Told of .5 m, plans of two seconds end with the pole on its way: none is the next one's."""
    run = VirtualRun(CONFIG, 0)
    tell(run.core, LONG_M)
    steps, up_s = [], None
    for tick in run.ticks():
        if tick.record.plan is None:
            continue
        steps.append(len(tick.record.plan.inputs))
        if abs(from_upright(tick.truth[2])) >= 0.1:
            up_s = None
        elif up_s is None:
            up_s = len(steps) * 0.02
        if len(steps) == 200:
            break
    assert min(steps) == max(steps) >= 1.35 * USUAL
    assert up_s is not None
    assert up_s <= 3.6


def test_one_that_is_as_the_settings_say_keeps_its_plans() -> None:
    run = VirtualRun(Config(), 0)
    tell(run.core, 1.02 * Config().pole.length_m)
    plans = [tick.record.plan for tick, _ in zip(run.ticks(), range(60), strict=False)]
    assert {len(plan.inputs) for plan in plans if plan is not None} == {USUAL}


SHORT_TRACK = with_values(
    Config(),
    {
        "pole.length_m": 0.836, "rig.position_limit_m": 0.344, "rig.track_length_m": 0.884,
        "rig.velocity_limit_m_s": 1.83, "rig.acceleration_limit_m_s2": 6.93,
        "motor.acceleration_m_s2": 6.93, "motor.tau_s": 0.07,
    },
)  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_plans_that_go_on_ending_too_early_get_longer(seed: int) -> None:
    """A long pole on a short track: it dithered at the bottom, each plan unlike the one before."""
    run = VirtualRun(SHORT_TRACK, seed)
    lengths, up_s = [], None
    for tick in run.ticks():
        if tick.record.plan is None:
            continue
        lengths.append(len(tick.record.plan.inputs))
        if abs(from_upright(tick.truth[2])) < 0.1:
            up_s = len(lengths) * 0.02
        if up_s is not None or len(lengths) == 300:
            break
    assert lengths[0] == planner_rules(SHORT_TRACK).horizon_steps < lengths[-1]
    assert up_s is not None


def longer() -> tuple[VirtualRun, CoreMemory]:
    """In flight with longer plans, and the state then."""
    run = VirtualRun(CONFIG, 0)
    tell(run.core, LONG_M)
    for tick in run.ticks():
        if tick.record.mode is Mode.SWING_UP and tick.record.plan is not None:
            break
    return run, run.core.state()


def test_a_recorded_state_with_longer_plans_goes_on() -> None:
    run, state = longer()
    twin = ControlCore(settings_of(CONFIG))
    twin.restore(decoder(CoreMemory)(pack(state)))
    twins = []
    for tick, _ in zip(run.ticks(), range(10), strict=False):
        twins.append((twin.tick(tick.record.input).command, tick.record.command))
        twin.after_tick()
    assert all(ours == theirs for ours, theirs in twins)


@pytest.mark.parametrize("steps", [-1, 7, USUAL, 10**9])
def test_a_state_with_plans_of_a_length_that_no_rig_has_is_refused(steps: int) -> None:
    _, state = longer()
    state.pilot.steps = steps
    with pytest.raises(SessionError, match="the length of its plans"):
        ControlCore(settings_of(CONFIG)).restore(state)
