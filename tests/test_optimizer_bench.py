"""The bench measures what it says: full Newton steps, and ticks of a whole run."""

from __future__ import annotations

import math

from cartpole.config.schema import Config
from cartpole.timing import HORIZON, newton_figures, tick_figures


def test_figures_are_of_the_problem_named_and_consistent() -> None:
    figures = newton_figures(10)
    assert figures["horizon"] == HORIZON
    assert all(math.isfinite(value) for value in figures.values())
    # One step with its call cannot be free; a step of a solve that gave up early would be.
    assert figures["newton_step_us"] > 0.0
    ratio = figures["solveh_banded_us"] / figures["newton_step_us"]
    assert figures["solveh_banded_over_newton_step"] == ratio


def test_tick_figures_cover_the_run() -> None:
    config = Config()
    figures = tick_figures(config, 1.0)
    assert figures["ticks"] >= 1.0 / config.controller.period_s
    assert figures["plan_us"] is not None
    assert figures["plan_us"] <= figures["tick_max_us"]
