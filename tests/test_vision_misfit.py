"""Pictures that are not one picture of the pole are refused for that reason."""

import math

import numpy as np
import pytest

from cartpole.config.schema import Camera
from cartpole.messages import NANOSECONDS, DetectionHint, DetectionStatus
from cartpole.sim.render import Renderer
from cartpole.vision.slices import OPTICS_SIZE
from cartpole.vision.tracker import Tracker
from cartpole.vision.verdict import ODD_IN_A_ROW, odd

T0 = NANOSECONDS
STATES = ((0.0, 0.3, 0.4, 6.0), (0.1, -0.2, 2.6, -8.0), (-0.1, 0.0, -2.2, 9.0))


def hint_at(state: tuple[float, float, float, float]) -> DetectionHint:
    p, v, theta, omega = state
    return DetectionHint(T0, p, v, theta, omega, 0.003, 0.03)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("old_above", [True, False])
def test_torn_pictures_are_refused(
    state: tuple[float, float, float, float], old_above: bool
) -> None:
    renderer = Renderer(Camera(), seed=1)
    p, v, theta, omega = state
    new = renderer.render(state)
    old = renderer.render((p - v / 150, v, theta - omega / 150, omega))
    lit = np.nonzero((new > 100).any(axis=1))[0]
    for share in (0.25, 0.35, 0.5, 0.65, 0.75):
        row = int(lit[0] + share * (lit[-1] - lit[0]))
        upper, lower = (old, new) if old_above else (new, old)
        torn = np.vstack([upper[:row], lower[row:]])
        found = Tracker(Camera()).detect(torn, T0, T0, 0, hint_at(state))
        assert found.status is DetectionStatus.MISFIT
        assert found.sigma_theta_rad == math.inf


@pytest.mark.parametrize("state", STATES)
def test_half_a_picture_is_refused(state: tuple[float, float, float, float]) -> None:
    half = Renderer(Camera(), seed=1).render(state)
    lit = np.nonzero((half > 100).any(axis=1))[0]
    half[int(0.5 * (lit[0] + lit[-1])) :] = 0
    found = Tracker(Camera()).detect(half, T0, T0, 0, hint_at(state))
    assert found.status is DetectionStatus.MISFIT


def test_a_tape_in_two_parts_is_one_tape() -> None:
    state = (0.0, 0.0, 0.5, 0.0)
    renderer = Renderer(Camera(), seed=1)
    frame, empty = renderer.render(state), renderer.render((5.0, 0.0, 0.0, 0.0))
    rows, columns = np.mgrid[0:240, 0:320]
    x, y = (columns - 160) / 180 - state[0], -(rows - 120) / 180
    along = x * math.sin(state[2]) - y * math.cos(state[2])
    # A thing in front of it, with an edge as soft as the lens draws it.
    share = np.clip(0.5 + (np.abs(along - 0.25) - 0.06) * 180 / 2.2, 0.0, 1.0)
    covered = (share * frame + (1.0 - share) * empty).astype(np.uint8)
    tracker = Tracker(Camera())
    found = tracker.detect(covered, T0, T0, 0, hint_at(state))
    assert found.status is DetectionStatus.OK
    assert abs(found.theta_rad - state[2]) < 4.0 * found.sigma_theta_rad < 2e-3
    assert abs(found.p_m - state[0]) < 5e-4


def test_a_rolling_shutter_shows_the_rate() -> None:
    errors, sigmas = [], []
    camera = Camera(readout_s=0.03)
    renderer = Renderer(camera, seed=3)
    for k in range(40):
        state = (0.0, 0.0, math.pi + 0.01 * (k - 20), 0.1 * (k - 20))
        found = Tracker(camera).detect(renderer.render(state), T0, T0, 0, hint_at(state))
        assert found.status is DetectionStatus.OK
        errors.append(found.omega_rad_s - state[3])
        sigmas.append(found.sigma_omega_rad_s)
    assert np.median(sigmas) < 0.12
    normalised = np.array(errors) / np.array(sigmas)
    assert 0.6 < np.sqrt(np.mean(normalised**2)) < 1.5


def test_no_rate_without_a_rolling_shutter() -> None:
    camera = Camera(readout_s=0.0)
    state = (0.0, 0.0, 2.5, 3.0)
    found = Tracker(camera).detect(Renderer(camera).render(state), T0, T0, 0, hint_at(state))
    assert found.status is DetectionStatus.OK
    assert (found.omega_rad_s, found.sigma_omega_rad_s) == (0.0, math.inf)


def test_one_odd_picture_is_refused_a_crooked_tape_is_not() -> None:
    optics = np.zeros(OPTICS_SIZE)
    assert not odd(0.01, optics)
    seen = [odd(0.1, optics) for _ in range(40)]
    assert seen == [True] * ODD_IN_A_ROW + [False] * (40 - ODD_IN_A_ROW)
    assert odd(0.4, optics)
