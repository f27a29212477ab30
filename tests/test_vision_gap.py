"""Tracker and estimator together: a fast pole after a gap without pictures."""

import math

import pytest

from cartpole.config.schema import Camera, Config
from cartpole.estimation.filter import StateFilter
from cartpole.messages import NANOSECONDS, DetectionStatus
from cartpole.model.dynamics import rig_step
from cartpole.rules.estimation import filter_rules
from cartpole.rules.model import model_of
from cartpole.sim.render import Renderer
from cartpole.vision.tracker import Tracker

STEP_NS = round(NANOSECONDS / 150)
GAP = 45  # pictures: 300 ms


@pytest.mark.parametrize("phase", range(12))
def test_right_end_after_300_ms_without_pictures_at_20_rad_s(phase: int) -> None:
    config = Config(
        camera=Camera(),
        encoder=Config().encoder.model_copy(update={"protocol": "none"}),
    )
    model = model_of(config)
    renderer = Renderer(config.camera, seed=phase, distractors=2)
    tracker, state_filter = Tracker(config.camera), StateFilter(filter_rules(config))
    state = (0.1, 0.0, 2.0 * math.pi * phase / 12, 20.0 if phase % 2 else -20.0)
    seen_after_gap = 0
    for k in range(30 + GAP + 6):
        t_ns = NANOSECONDS + k * STEP_NS
        if k < 30 or k >= 30 + GAP:
            hint = state_filter.hint(t_ns)
            found = tracker.detect(renderer.render(state), t_ns, t_ns + 10_000_000, k, hint)
            if found.status is DetectionStatus.OK:
                dt = (found.t_ns - t_ns) / NANOSECONDS
                off = math.remainder(found.theta_rad - state[2] - state[3] * dt, 2.0 * math.pi)
                assert abs(off) < 0.3, (k, off)
                state_filter.add_camera(found)
                seen_after_gap += k >= 30 + GAP
        for _ in range(4):
            state = rig_step(state, 0.0, STEP_NS / NANOSECONDS / 4, model.coefficients)
    assert seen_after_gap >= 4
    estimate = state_filter.estimate(t_ns + STEP_NS).state
    assert abs(math.remainder(estimate[2] - state[2], 2.0 * math.pi)) < 0.05
