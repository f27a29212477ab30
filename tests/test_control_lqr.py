"""LQR: the region it names is one it can hold, and energy control reaches it."""

from __future__ import annotations

import math

import numpy as np

from cartpole.config.schema import Config, Controller, Weights
from cartpole.control.lqr import design
from cartpole.messages import THETA, P, U
from cartpole.model.dynamics import rig_step
from cartpole.model.linear import linear_model
from cartpole.optimizer.problem import regulator
from cartpole.rules.control import feedback_rules
from cartpole.rules.model import model_of
from cartpole.rules.optimizer import problem_from_config
from cartpole.sim.run import VirtualRun

CONFIG = Config()
MODEL = model_of(CONFIG)


def step(x: np.ndarray, u: float) -> np.ndarray:
    after = rig_step(tuple(x[:U]), u, CONFIG.controller.period_s, MODEL.coefficients)
    return np.array([*after, u])


def test_linear_model_is_the_derivative_of_the_step() -> None:
    a, b = linear_model(MODEL, CONFIG.controller.period_s)
    upright = np.array([0.0, 0.0, math.pi, 0.0, 0.0])
    small = 1e-6
    for column in range(5):
        nudge = np.zeros(5)
        nudge[column] = small
        found = (step(upright + nudge, (upright + nudge)[U]) - step(upright - nudge, -nudge[U])) / (
            2 * small
        )
        np.testing.assert_allclose(found, a[:, column], atol=2e-5)
    h = CONFIG.controller.period_s
    found = (step(upright, small * h) - step(upright, -small * h)) / (2 * small)
    np.testing.assert_allclose(found, b, atol=2e-6)


def test_every_start_in_the_region_settles_inside_the_limits() -> None:
    lqr = design(feedback_rules(CONFIG))
    rng = np.random.default_rng(3)
    inverse = np.linalg.cholesky(np.linalg.inv(lqr.cost_to_go))
    for _ in range(40):
        direction = rng.standard_normal(5)
        direction /= np.linalg.norm(direction)
        x = inverse @ direction * math.sqrt(lqr.level) * 0.999
        x *= min(1.0, 0.36 / abs(x[P]), 1.0 / abs(x[U]))  # as far as room and speed limit allow
        x[THETA] += math.pi
        assert lqr.contains(x, 0.0)
        for _ in range(250):
            u = float(np.clip(x[U] + lqr.rate(x, 0.0) * 0.02, -1.0, 1.0))
            x = step(x, u)
            assert abs(x[P]) <= CONFIG.rig.position_limit_m
        assert abs(x[THETA] - math.pi) < 0.02


def test_region_is_bounded_and_periodic() -> None:
    lqr = design(feedback_rules(CONFIG))
    assert not lqr.contains(np.zeros(5), 0.0)
    assert lqr.contains(np.array([0.0, 0.0, math.pi, 0.0, 0.0]), 0.0)
    assert lqr.contains(np.array([0.0, 0.0, -7 * math.pi, 0.0, 0.0]), 0.0)
    assert not lqr.contains(np.array([0.37, 0.0, math.pi, 0.0, 0.0]), 0.36)


def test_energy_and_lqr_alone_swing_up() -> None:
    config = Config(controller=Controller(feed_back_only=True))
    run = VirtualRun(config, 1)
    worst = 0.0
    for count, tick in enumerate(run.ticks()):
        worst = max(worst, abs(tick.truth[0]))
        if count > 50 * 30:
            break
    assert worst <= config.rig.position_limit_m
    assert abs(math.remainder(tick.truth[2] - math.pi, 2 * math.pi)) < 0.05


def test_fallback_and_plan_have_one_regulator_from_the_users_weights() -> None:
    heavy = Config(controller=Controller(weights=Weights(position=20.0)))
    default, changed = design(feedback_rules(CONFIG)), design(feedback_rules(heavy))
    assert abs(changed.gain[P]) > 2.0 * abs(default.gain[P])
    assert changed.level != default.level
    planned = problem_from_config(heavy)
    gain, _cost = regulator(MODEL, planned.weights, heavy.optimizer.step_s)
    np.testing.assert_array_equal(changed.gain, gain)
    _gain, cost_to_go = regulator(planned.model, planned.weights, heavy.optimizer.step_s)
    np.testing.assert_array_equal(cost_to_go, planned.terminal)
