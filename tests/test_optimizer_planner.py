"""The bank of plans as the controller uses it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cartpole.config.schema import Config, Controller, Optimizer, Weights
from cartpole.messages import Plan, PlanStatus
from cartpole.model.dynamics import rig_step
from cartpole.optimizer.backends import make_planner
from cartpole.optimizer.bank.planner import Planner
from cartpole.optimizer.penalty.planner import PenaltyPlanner
from cartpole.optimizer.problem import PESSIMISM, ramped
from cartpole.rules.model import model_of
from cartpole.rules.optimizer import planner_rules

PERIOD_NS = 20_000_000
CONFIG = Config(optimizer=Optimizer(candidates=4))
REFERENCE = np.zeros(CONFIG.optimizer.horizon_steps + 1)
BUDGET = 20


def advance(state: np.ndarray, u: float, period: float = 0.02) -> np.ndarray:
    model = model_of(CONFIG)
    x = tuple(state[:4])
    for _ in range(4):
        x = rig_step(x, u, period / 4, model.coefficients)
    return np.array([*x, u])


def fly(
    planner: Planner | PenaltyPlanner, state: np.ndarray, ticks: int
) -> tuple[np.ndarray, list[Plan]]:
    plans = []
    for tick in range(ticks):
        plans.append(planner.plan(state, REFERENCE, BUDGET, tick * PERIOD_NS))
        planner.prepare()
        state = advance(state, float(plans[-1].states[1, 4]))
    return state, plans


@pytest.mark.parametrize("turns", [0, -7])
def test_swings_up_and_holds_inside_the_limits(turns: int) -> None:
    start = np.array([0.0, 0.0, 2 * np.pi * turns, 0.0, 0.0])
    state, plans = fly(make_planner(planner_rules(CONFIG)), start, 250)
    assert abs((state[2] % (2 * np.pi)) - np.pi) < 0.01
    assert np.abs(state[[0, 1, 3]]).max() < 0.02
    for plan in plans:
        assert plan.newton_steps <= BUDGET
        assert np.abs(plan.states[1:, 0]).max() <= CONFIG.rig.position_limit_m
        assert np.abs(plan.states[:, 4]).max() <= CONFIG.rig.velocity_limit_m_s + 1e-9
        assert np.abs(plan.inputs).max() <= CONFIG.rig.acceleration_limit_m_s2 + 1e-9
        assert np.allclose(np.diff(plan.states[:, 4]), 0.02 * plan.inputs, atol=1e-12)
    assert plans[-1].status is PlanStatus.CONVERGED
    assert plans[-1].newton_steps <= 3


def test_the_same_calls_give_the_same_bytes() -> None:
    first = fly(make_planner(planner_rules(CONFIG)), np.zeros(5), 60)[1]
    planner = make_planner(planner_rules(CONFIG))
    fly(planner, np.array([0.1, 0.0, 2.0, 3.0, 0.1]), 15)
    planner.reset()
    second = fly(planner, np.zeros(5), 60)[1]
    for a, b in zip(first, second, strict=True):
        assert a.states.tobytes() == b.states.tobytes()
        assert a.inputs.tobytes() == b.inputs.tobytes()
        assert (a.status, a.candidate, a.cost) == (b.status, b.candidate, b.cost)


@pytest.mark.parametrize("budget", [1, 2, 7, 50])
def test_the_budget_is_kept(budget: int) -> None:
    planner = make_planner(planner_rules(CONFIG))
    state = np.array([0.05, 0.2, 0.3, -1.0, 0.2])
    for tick in range(12):
        plan = planner.plan(state, REFERENCE, budget, tick * PERIOD_NS)
        assert plan.newton_steps <= budget
        state = advance(state, float(plan.states[1, 4]))


def test_without_a_budget_the_shifted_plan() -> None:
    planner = make_planner(planner_rules(CONFIG))
    hollow = planner.plan(np.zeros(5), REFERENCE, 0, 0)
    assert hollow.status is PlanStatus.NO_BUDGET
    assert not hollow.states[1:, 4].any()
    _, plans = fly(planner, np.zeros(5), 40)
    last = plans[-1]
    plan = planner.plan(last.states[1], REFERENCE, 0, 40 * PERIOD_NS)
    assert plan.status is PlanStatus.NO_BUDGET
    assert plan.newton_steps == 0
    n = len(plan.inputs)
    assert np.allclose(plan.states[: n - 1, 4], last.states[1:n, 4], rtol=0, atol=1e-6)


@pytest.mark.parametrize("place", range(5))
def test_nonsense_from_the_estimator(place: int) -> None:
    planner = make_planner(planner_rules(CONFIG))
    _, plans = fly(planner, np.zeros(5), 20)
    state = plans[-1].states[1].copy()
    good = state.copy()
    state[place] = np.nan
    plan = planner.plan(state, REFERENCE, BUDGET, 20 * PERIOD_NS)
    assert plan.status is PlanStatus.NOT_FINITE
    assert np.isfinite(plan.states).all()
    plan = planner.plan(good, REFERENCE, BUDGET, 21 * PERIOD_NS)
    assert plan.status in (PlanStatus.CONVERGED, PlanStatus.FEASIBLE, PlanStatus.BUDGET)


@pytest.mark.parametrize("p", [0.362, 0.5, -0.43])
def test_beyond_the_track_the_plan_leads_back(p: float) -> None:
    planner = make_planner(planner_rules(CONFIG))
    state = np.array([p, 0.0, np.pi, 0.0, 0.0])
    plan = planner.plan(state, REFERENCE, 40, 0)
    outside = abs(p) > CONFIG.rig.position_limit_m + 0.02
    assert (plan.status is PlanStatus.INFEASIBLE_START) == outside
    assert abs(plan.states[-1, 0]) <= CONFIG.rig.position_limit_m
    assert plan.states[:, 0].max() <= max(p, 0.0) + 1e-3 or p < 0


def test_a_gap_in_time_starts_afresh() -> None:
    planner = make_planner(planner_rules(CONFIG))
    fly(planner, np.zeros(5), 30)
    plan = planner.plan(np.zeros(5), REFERENCE, BUDGET, 10**12)
    cold = make_planner(planner_rules(CONFIG)).plan(np.zeros(5), REFERENCE, BUDGET, 10**12)
    assert plan.states.tobytes() == cold.states.tobytes()


def test_live_weights_change_the_plan() -> None:
    planner = make_planner(planner_rules(CONFIG))
    state = np.array([0.2, 0.0, np.pi, 0.0, 0.0])
    before = planner.plan(state, REFERENCE, 60, 0)
    heavy = Config(
        optimizer=CONFIG.optimizer, controller=Controller(weights=Weights(position=30.0))
    )
    planner.update(planner_rules(heavy))
    after = planner.plan(state, REFERENCE, 60, 0)
    assert after.status is PlanStatus.CONVERGED
    assert abs(after.states[40, 0]) < abs(before.states[40, 0]) - 1e-3


def test_the_cart_follows_its_target() -> None:
    planner = make_planner(planner_rules(CONFIG))
    state = np.array([0.0, 0.0, np.pi, 0.0, 0.0])
    reference = np.full_like(REFERENCE, 0.15)
    for tick in range(250):
        plan = planner.plan(state, reference, BUDGET, tick * PERIOD_NS)
        state = advance(state, float(plan.states[1, 4]))
    assert abs(state[0] - 0.15) < 0.005


def test_plans_are_for_the_model_that_is_handed_in() -> None:
    planner, state = make_planner(planner_rules(CONFIG)), np.array([0.0, 0.0, 0.1, 0.0, 0.0])
    assert isinstance(planner, Planner)
    believed = model_of(CONFIG)
    planner.believe(replace(believed, length_m=0.55, tau_s=0.08, gain=0.9))
    plan = planner.plan(state, REFERENCE, 400, 0)
    # Its commands are speeds of the cart: 0.9 of what the wire may carry.
    assert np.abs(plan.states[:, 4]).max() == pytest.approx(
        0.9 * CONFIG.rig.velocity_limit_m_s, abs=0.01
    )
    flown, x = replace(believed, length_m=PESSIMISM * 0.55, tau_s=0.08), plan.states[0]
    for k in range(20):
        u = float(plan.states[k + 1, 4])
        after = rig_step(tuple(x[:4]), u, 0.02, flown.coefficients)
        x = np.array([*after, u])
    assert x[:4] == pytest.approx(plan.states[20, :4], abs=0.02)


def test_a_driver_that_ramps_is_asked_for_no_more_and_given_the_room_to_stop() -> None:
    rules = planner_rules(CONFIG)
    planner, state = make_planner(rules), np.array([0.0, 0.0, 0.1, 0.0, 0.0])
    assert isinstance(planner, Planner)
    planner.believe(replace(model_of(CONFIG), motor_acceleration_m_s2=4.0))
    plan = planner.plan(state, REFERENCE, 400, 0)
    assert np.abs(plan.inputs).max() == pytest.approx(4.0, abs=0.02)
    before, after = rules.limits, ramped(rules.limits, 4.0)
    # At full speed v^2 / 2 (1 / 4 - 1 / 8) further from the end, at rest no further.
    further = (after.lead_v - before.lead_v) * before.command
    assert further == pytest.approx(before.command**2 / 2 * (1 / 4 - 1 / 8))
    assert (after.lead, after.lead_p) == (before.lead, before.lead_p)
    assert ramped(rules.limits, 9.0) is rules.limits


@pytest.mark.parametrize(("ticks", "left"), [(35, 0.85), (45, 0.75)])
def test_a_pole_that_falls_short_goes_up_by_the_plan_it_has(ticks: int, left: float) -> None:
    """Its plan asks for more steps, up to all of the tick's; any other costs a whole swing more."""
    planner = make_planner(planner_rules(CONFIG))
    assert isinstance(planner, Planner)
    state = np.zeros(5)
    for tick in range(ticks):
        before = planner.plan(state, REFERENCE, 60, tick * PERIOD_NS)
        planner.prepare()
        state = advance(state, float(before.states[1, 4]))
    state[3] *= left
    after = planner.plan(state, REFERENCE, 60, ticks * PERIOD_NS)
    assert after.candidate == before.candidate
    assert after.status is PlanStatus.CONVERGED
    assert after.newton_steps <= 60
    assert after.cost < 1.1 * before.cost


@pytest.mark.parametrize("sooner_ns", [0, 13_000_000, 25_000_000])
def test_plans_moved_ahead_between_ticks_or_not_are_the_same(sooner_ns: int) -> None:
    """A replay prepares nothing; commands found to act sooner make the next plan begin sooner."""
    model = model_of(CONFIG)
    pair, plans = [make_planner(planner_rules(CONFIG)) for _ in range(2)], []
    state = np.zeros(5)
    for tick in range(8):
        start_ns = tick * PERIOD_NS - (sooner_ns if tick >= 5 else 0)
        plans = [one.plan(state, REFERENCE, 60, start_ns, model) for one in pair]
        assert plans[0].candidate == plans[1].candidate
        assert np.array_equal(plans[0].states, plans[1].states)
        pair[0].prepare()
        state = advance(state, float(plans[0].states[1, 4]))
    assert plans[0].status in (PlanStatus.CONVERGED, PlanStatus.FEASIBLE)
