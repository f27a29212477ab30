"""A webcam alone: 30 pictures a second, read out for 30 ms, and no encoder at all."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cartpole.config.schema import Config
from cartpole.messages import NANOSECONDS, Mode
from cartpole.sim.run import START_NS, VirtualRun


def flown(seed: int, seconds: float, pictures: str) -> tuple[float | None, list[float], Mode]:
    """(when upright to the end [s], RMS errors of the estimate after 1 s, last mode)."""
    tree = Config().model_dump()
    tree["encoder"]["protocol"] = "none"
    tree["camera"] |= {"rate_hz": 30.0, "readout_s": 0.03}
    tree["sim"]["pictures"] = pictures
    up_s: float | None = None
    errors = []
    for tick in VirtualRun(Config.model_validate(tree), seed).ticks():
        time_s = (tick.record.input.now_ns - START_NS) / NANOSECONDS
        upright = abs(math.remainder(tick.truth[2] - math.pi, math.tau)) < 0.1
        up_s = (up_s or time_s) if upright else None
        if tick.record.estimate is not None and time_s > 1.0:
            error = np.subtract(tick.record.estimate.state, tick.truth)
            error[2] = math.remainder(error[2], math.tau)
            errors.append(error)
        if time_s > seconds:
            break
    rms = np.sqrt(np.mean(np.square(errors), axis=0))
    return up_s, rms.tolist(), tick.record.mode


@pytest.mark.parametrize("seed", range(3))
def test_it_swings_up_and_holds_by_a_webcam_alone(seed: int) -> None:
    up_s, (place, _, angle, rate), mode = flown(seed, 8.0, "measured")
    assert mode is Mode.BALANCE
    assert up_s is not None
    assert up_s < 3.0
    assert place < 1e-3
    assert angle < 2.5e-3  # a frame's angle is off by 1.5 mrad here
    assert rate < 0.04


def test_and_by_its_pictures() -> None:
    """A noiseless camera this late would leave .57 mrad and .021 rad/s (docs/results.md)."""
    up_s, (place, _, angle, rate), mode = flown(0, 5.0, "rendered")
    assert mode is Mode.BALANCE
    assert up_s is not None
    assert up_s < 3.0
    assert place < 5e-4
    assert angle < 1.0e-3
    assert rate < 0.032
