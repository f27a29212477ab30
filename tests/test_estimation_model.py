"""The model learned in flight reaches the filter."""

from __future__ import annotations

import numpy as np

from cartpole.config.schema import Config, Sim
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
