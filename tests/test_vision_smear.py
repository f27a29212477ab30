"""The smear of a picture's edges tells the pole's rate beside the skew of its lines."""

import math

import numpy as np

from cartpole.config.schema import Camera
from cartpole.messages import NANOSECONDS, Detection, DetectionHint, DetectionStatus, FloatArray
from cartpole.sim.render import Renderer
from cartpole.vision.tracker import Tracker

T0 = NANOSECONDS
CAMERA = Camera(readout_s=0.0053, exposure_s=0.003)
State = tuple[float, float, float, float]  # p, v, theta, omega
FAST = [
    (0.05 * math.sin(k), 0.3 * math.cos(2 * k), 0.45 + 0.61 * k, (-1) ** k * (9.0 + 0.4 * k))
    for k in range(10)
]


def seen(state: State, told: Camera = CAMERA, frames: int = 4, off: float = 0.0) -> list[Detection]:
    """Pictures of a state through one tracker, with a rate predicted wrongly by ``off``."""
    renderer, tracker = Renderer(CAMERA, seed=3), Tracker(told)
    found = []
    for _ in range(frames):
        hint = DetectionHint(T0, state[0], state[1], state[2], state[3] + off, 0.003, 0.02)
        tracker.reset()
        found.append(tracker.detect(renderer.render(state), T0, T0, 0, hint))
        assert found[-1].status is DetectionStatus.OK
    return found


def rates(states: list[State], told: Camera = CAMERA, off: float = 0.0) -> FloatArray:
    """Errors of the rate and their sigmas (n, 2) [rad/s]."""
    rows = [
        (found.omega_rad_s - state[3], found.sigma_omega_rad_s)
        for state in states
        for found in seen(state, told, off=off)
    ]
    return np.array(rows)


def test_the_smear_tells_the_rate() -> None:
    """By the skew alone the median sigma is .43 rad/s."""
    errors, sigmas = rates(FAST).T
    assert np.median(sigmas) < 0.25
    assert np.median(np.abs(errors)) < 0.2
    assert 0.5 < np.sqrt(np.mean(np.square(errors / sigmas))) < 1.3


def test_a_prediction_that_is_wrong_pulls_no_rate() -> None:
    errors = rates(FAST, off=0.3)[:, 0] - rates(FAST)[:, 0]
    assert np.median(np.abs(errors)) < 0.06


def test_edges_that_lie_are_not_believed() -> None:
    """Told an exposure half as long as it is, the smear would say nearly twice the rate."""
    errors, sigmas = rates(FAST, CAMERA.model_copy(update={"exposure_s": 0.0015})).T
    assert np.median(np.abs(errors / sigmas)) < 1.5


def test_a_pole_that_hardly_moves_smears_nothing() -> None:
    """The tip by half a pixel: the rate is the skew's, whatever the exposure is said to be."""
    state = (0.0, 0.0, math.pi - 0.3, 1.5)
    longer = CAMERA.model_copy(update={"exposure_s": 0.0035})
    for one, other in zip(seen(state), seen(state, longer), strict=True):
        assert abs(one.omega_rad_s - other.omega_rad_s) < 0.03 * one.sigma_omega_rad_s


def test_what_moves_with_the_lines_smears_farther() -> None:
    """Lines are exposed one after the other: a level pole that falls with them smears by four per
    cent more, one that rises by as much less."""
    slow = CAMERA.model_copy(update={"readout_s": 0.0106})
    growth = []
    for rate in (-11.0, 11.0):
        renderer, state = Renderer(slow, seed=5), (0.0, 0.0, 1.4, rate)
        hint = DetectionHint(T0, *state, 0.003, 0.02)
        found = [Tracker(slow).detect(renderer.render(state), T0, T0, 0, hint) for _ in range(6)]
        growth.append(np.mean([abs(one.omega_rad_s) for one in found]))
    assert abs(growth[1] - growth[0]) < 0.3
