"""The pilot: decides in each tick whose command is flown.

A good plan first; a failed one is bridged by the last good plan's next command for two ticks; then
LQR where its region allows, else energy shaping. Back to the plan after a few good ones in a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from cartpole.control import energy, lqr
from cartpole.control.planning import PlanMaker
from cartpole.messages import OMEGA, THETA, FloatArray, P, Plan, PlanStatus, U
from cartpole.model.dynamics import COULOMB_BLEND_RAD_S
from cartpole.model.parameters import ModelParameters
from cartpole.optimizer.bank.planner import OUTSIDE_M, PlannerMemory
from cartpole.optimizer.compiled.layout import MAX_STEPS
from cartpole.optimizer.problem import PlannerRules, finite, grown_steps, longer_steps
from cartpole.recall import require
from cartpole.record import record

BRIDGED_TICKS = 2
BRIDGED_RAD = 0.15  # from where the last good plan has the pole, its rate's part included
GOOD_PLANS_TO_RETURN = 5
CATCH_TICKS = 15
LED_TICKS = 50  # so long after a good plan energy control leads a cart back inside its limit
SHORT_RAD = 0.5  # a plan that ends with the pole further from upright ends on its way ...
SHORT_TICKS = 10  # ... and after so many in a row they get longer
CATCH_RAD = 0.6  # of the pole's angle and its rate's part: further down it swings up again
GOOD = (PlanStatus.CONVERGED, PlanStatus.FEASIBLE)


@record
class Flight:
    """What the pilot wants: a command [m/s], and who it comes from."""

    velocity_m_s: float
    plan: Plan | None
    source: str  # "plan", "bridge", "lqr", "energy", "none"


@dataclass(frozen=True, slots=True)
class PilotRules:
    """What planner and fall-back are made of; SI."""

    planner: PlannerRules
    feedback: lqr.FeedbackRules
    backend: str
    feed_back_only: bool
    acceleration_limit_m_s2: float
    position_limit_m: float
    period_s: float


@dataclass(slots=True)
class PilotMemory:
    """The last good plan, and how many plans went well or not; ``planner`` is ``None`` where a
    planner cannot tell its own, ``steps`` where plans are as long as the rules say; ``short`` so
    many in a row ended before the pole was up."""

    bad_in_a_row: int = 0
    good_in_a_row: int = GOOD_PLANS_TO_RETURN
    planner: PlannerMemory | None = None
    good: Plan | None = None
    steps: int | None = None
    short: int = 0

    def check(self, _own: PilotMemory) -> None:
        """SessionError for a plan of ragged arrays."""
        if self.good is not None:
            n = len(self.good.inputs)
            fits = (self.good.states.shape, self.good.inputs.shape) == ((n + 1, 5), (n,))
            require(fits, "the last good plan")


def rubbing(model: ModelParameters, state: FloatArray) -> ModelParameters:
    """The model with its dry friction as the viscous one that takes as much from this motion.

    Plans know viscous friction only. The rate of the motion is what energy says of ``state`` (5,),
    seen from upright: a pole that is held sways slowly, and there dry friction weighs most.
    """
    if model.coulomb_rad_s2 <= 0.0:
        return model
    fall = 2.0 * model.coupling_1_m * model.gravity_m_s2 * (1.0 + math.cos(float(state[THETA])))
    rate = max(math.sqrt(float(state[OMEGA]) ** 2 + fall), COULOMB_BLEND_RAD_S)
    return replace(model, damping_1_s=model.damping_1_s + model.coulomb_rad_s2 / rate)


def falling(state: FloatArray, model: ModelParameters) -> bool:
    """Whether the pole falls from upright and might be caught: energy control would let it.

    Beyond the regulator's region nothing is promised; at its limits it is still the best guess.
    """
    angle = math.remainder(float(state[THETA]) - math.pi, 2.0 * math.pi)
    return abs(angle + model.characteristic_time_s * float(state[OMEGA])) < CATCH_RAD


class Pilot:
    """Owns planner and LQR; deterministic, no clock."""

    def __init__(self, rules: PilotRules, memory: PilotMemory, planner: PlanMaker) -> None:
        """``planner`` has these rules already."""
        self._rules, self._memory, self._planner = rules, memory, planner
        self.times_s = self._times_s()
        self._lqr = lqr.design(rules.feedback)
        self._period_ns = round(1e9 * rules.period_s)

    def reset(self) -> None:
        """Forget every plan."""
        self._planner.reset()
        self._memory.good = None
        self._memory.bad_in_a_row = 0
        self._memory.good_in_a_row = GOOD_PLANS_TO_RETURN
        self._memory.short = 0

    def _times_s(self) -> FloatArray:
        """Times (N + 1,) of a plan's states, from its start."""
        return np.concatenate(([0.0], np.cumsum(self._planner.problem.steps_s)))

    def fit(self, model: ModelParameters) -> None:
        """Plans as long as this model needs: before the first one, and where they end early."""
        memory, rules = self._memory, self._rules
        if rules.feed_back_only:
            return
        if memory.good is None and memory.bad_in_a_row == 0:
            self._lengthen(longer_steps(rules.planner, model))
        elif memory.short >= SHORT_TICKS:
            self._lengthen(grown_steps(rules.planner, self._planner.problem.horizon))

    def _lengthen(self, steps: int | None) -> None:
        self._memory.steps, self._memory.short = steps, 0
        self._planner.fit(steps)
        self._memory.planner = self._planner.memory
        self.times_s = self._times_s()

    def expect(self, kept: PilotMemory) -> None:
        """Plans as long as those of a memory that is about to be put in place; SessionError if no
        rig with these rules has such."""
        steps, least = kept.steps, self._rules.planner.horizon_steps
        require(steps is None or least < steps <= MAX_STEPS, "the length of its plans")
        self._planner.fit(steps)
        self._memory.planner = self._planner.memory

    def fly(
        self,
        state: FloatArray,
        reference: FloatArray,
        budget: int,
        start_ns: int,
        model: ModelParameters,
    ) -> Flight:
        """One tick: ``state`` (5,) when the command acts, ``reference`` (N + 1,) targets [m].

        Below here a command is the speed that the cart will have: ``model.gain`` times what goes on
        the wire.
        """
        if not finite(state):
            return Flight(0.0, None, "none")
        state = state.copy()
        state[U] *= model.gain
        flight = self._choose(state, reference, budget, start_ns, model)
        return Flight(flight.velocity_m_s / model.gain, flight.plan, flight.source)

    def _choose(
        self,
        state: FloatArray,
        reference: FloatArray,
        budget: int,
        start_ns: int,
        model: ModelParameters,
    ) -> Flight:
        target = float(reference[0])
        model = rubbing(model, state)
        if self._rules.feed_back_only:
            return self._fall_back(state, target, None, model)
        plan = self._planner.plan(state, reference, budget, start_ns, model)
        if plan.status in GOOD and math.isfinite(float(plan.states[1, U])):
            self._memory.good = plan
            self._memory.bad_in_a_row = 0
            off = abs(math.remainder(float(plan.states[-1, THETA]) - math.pi, 2.0 * math.pi))
            self._memory.short = self._memory.short + 1 if off > SHORT_RAD else 0
            self._memory.good_in_a_row += 1
            # A pole that falls has no time for plans that prove themselves first, and beyond its
            # limit nothing else leads a cart back.
            urgent = falling(state, model) or self._beyond_m(state) > 0.0
            if urgent or self._memory.good_in_a_row >= GOOD_PLANS_TO_RETURN:
                return Flight(float(plan.states[1, U]), plan, "plan")
            return self._fall_back(state, target, plan, model)
        self._memory.bad_in_a_row += 1
        bridge = self._bridge(start_ns, state, model)
        if bridge is not None and plan.status is not PlanStatus.NOT_FINITE:
            return Flight(bridge, plan, "bridge")
        self._memory.good_in_a_row = 0
        return self._fall_back(state, target, plan, model)

    def after(self) -> None:
        """Once the command is out: let the planner prepare the next tick."""
        if not self._rules.feed_back_only:
            self._planner.prepare()

    def _bridge(self, start_ns: int, state: FloatArray, model: ModelParameters) -> float | None:
        """The last good plan's command for now, if it is not too old and of the pole as it is."""
        if self._memory.good is None or self._memory.bad_in_a_row > BRIDGED_TICKS:
            return None
        steps = round((start_ns - self._memory.good.start_ns) / self._period_ns)
        if not 0 <= steps < len(self._memory.good.inputs):
            return None
        off = state - self._memory.good.states[steps]
        apart = abs(math.remainder(float(off[THETA]), 2.0 * math.pi))
        if apart + model.characteristic_time_s * abs(float(off[OMEGA])) > BRIDGED_RAD:
            return None  # a pole that was hit
        return float(self._memory.good.states[steps + 1, U])

    def _beyond_m(self, state: FloatArray) -> float:
        """How far the cart is outside its limit; negative inside."""
        return abs(float(state[P])) - self._rules.position_limit_m

    def _led_back(self) -> bool:
        """Whether plans have flown not long ago: a drive that does not obey brought it there."""
        return self._memory.good is not None and self._memory.bad_in_a_row <= LED_TICKS

    def _fall_back(
        self, state: FloatArray, target: float, plan: Plan | None, model: ModelParameters
    ) -> Flight:
        beyond_m = self._beyond_m(state)
        inside = beyond_m <= 0.0
        lately = 0 < self._memory.bad_in_a_row <= CATCH_TICKS  # longer, and it was no push
        catch = inside and lately and falling(state, model)
        if catch or self._lqr.contains(state, target):
            rate, source = self._lqr.rate(state, target), "lqr"
        elif inside or (beyond_m <= OUTSIDE_M and self._led_back()):
            rate = energy.swing_up_rate(
                state,
                model,
                min(self._rules.acceleration_limit_m_s2, model.motor_acceleration_m_s2),
                self._rules.position_limit_m,
            )
            source = "energy"
        else:
            return Flight(0.0, plan, "none")
        return Flight(float(state[U]) + rate * self._rules.period_s, plan, source)
