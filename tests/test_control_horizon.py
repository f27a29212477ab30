"""Plans are as long as the rig that was found needs, not only the one of the settings."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.control.core import ControlCore
from cartpole.control.memory import CoreMemory
from cartpole.control.timed_planner import TimedPlanner
from cartpole.errors import SessionError
from cartpole.estimation.learner import LENGTH
from cartpole.messages import Mode, Plan, PlanStatus
from cartpole.rules.control import settings_of
from cartpole.rules.optimizer import planner_rules
from cartpole.session.codec import decoder
from cartpole.session.packing import pack
from cartpole.session.summary import from_upright
from cartpole.sim.run import VirtualRun

LONG_M = 0.72
CONFIG = with_values(Config(), {"sim.length_m": LONG_M})
USUAL = planner_rules(CONFIG).horizon_steps


class Stumbling(TimedPlanner):
    """A planner whose plans fail when told to."""

    fails = False

    def plan(self, *asked: Any, **more: Any) -> Plan:
        plan = super().plan(*asked, **more)
        return dataclasses.replace(plan, status=PlanStatus.BUDGET) if self.fails else plan


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


def test_one_found_longer_in_flight_gets_them_where_plans_fail() -> None:
    planner = Stumbling(planner_rules(CONFIG))
    run = VirtualRun(CONFIG, 0, planner=planner)
    lengths, flown = [], 0
    for tick in run.ticks():
        if tick.record.plan is None:
            continue
        flown += 1
        lengths.append(len(tick.record.plan.inputs))
        if flown == 10:
            tell(run.core, LONG_M)
        planner.fails = 30 <= flown < 34
        if flown == 40:
            break
    assert set(lengths[:33]) == {USUAL}
    assert lengths[-1] >= 1.35 * USUAL


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
