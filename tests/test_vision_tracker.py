"""What the tracker measures, and when it refuses."""

import math
from typing import Literal

import numpy as np
import pytest

from cartpole.config.schema import Camera
from cartpole.messages import NANOSECONDS, Detection, DetectionHint, DetectionStatus
from cartpole.sim.render import Renderer
from cartpole.vision.geometry import CameraGeometry
from cartpole.vision.overlay import draw_overlay
from cartpole.vision.tracker import Tracker

T0 = NANOSECONDS
State = tuple[float, float, float, float]


def hint_at(state: State, sigma_p: float = 0.003, sigma_theta: float = 0.03) -> DetectionHint:
    p, v, theta, omega = state
    return DetectionHint(T0, p, v, theta, omega, sigma_p, sigma_theta)


def errors(found: Detection, state: State, t_ns: int = T0) -> tuple[float, float]:
    """(theta, p) measured minus true at the detection's own time."""
    assert found.status is DetectionStatus.OK
    dt = (found.t_ns - t_ns) / NANOSECONDS
    theta = math.remainder(found.theta_rad - state[2] - state[3] * dt, 2.0 * math.pi)
    return theta, found.p_m - state[0] - state[1] * dt


def random_states(count: int, seed: int) -> list[State]:
    rng = np.random.default_rng(seed)
    return [
        (
            float(rng.uniform(-0.3, 0.3)),
            float(rng.uniform(-1.0, 1.0)),
            float(rng.uniform(-math.pi, math.pi)),
            float(rng.uniform(-15.0, 15.0)),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("distractors", [0, 4])
def test_moving_pole_through_lens_and_rolling_shutter(distractors: int) -> None:
    renderer = Renderer(Camera(), seed=1, distractors=distractors)
    theta, p, z = [], [], []
    for state in random_states(200, 2):
        tracker = Tracker(Camera())
        found = tracker.detect(renderer.render(state), T0, T0, 0, hint_at(state))
        off_theta, off_p = errors(found, state)
        theta.append(off_theta)
        p.append(off_p)
        z.append(off_theta / found.sigma_theta_rad)
    assert np.sqrt(np.mean(np.square(theta))) < 3e-4
    assert np.max(np.abs(theta)) < 2e-3
    assert np.sqrt(np.mean(np.square(p))) < 5e-4
    assert 0.4 < np.sqrt(np.mean(np.square(z))) < 1.6  # the sigma is honest


def test_neglecting_the_rolling_shutter_would_show() -> None:
    state = (0.0, 0.0, 0.3, 15.0)
    frame = Renderer(Camera(), seed=1).render(state)
    blind = Tracker(Camera(readout_s=0.0)).detect(frame, T0, T0, 0, hint_at(state))
    assert abs(errors(blind, state)[0]) > 5e-3


def test_time_is_that_of_the_lines_the_pole_covers() -> None:
    for theta, sign in ((0.1, 1), (math.pi - 0.1, -1)):
        state = (0.0, 0.0, theta, 0.0)
        found = Tracker(Camera()).detect(
            Renderer(Camera()).render(state), T0, T0 + 7, 3, hint_at(state)
        )
        delay_s = (found.t_ns - T0) / NANOSECONDS
        # The tape lies 5 to 86 lines from the middle line: so much of the readout.
        assert 5 / 239 * 0.0053 < sign * delay_s < 90 / 239 * 0.0053
        # There the error of the angle is free of the rate's.
        assert abs(found.corr_theta_omega) < 0.6
        assert (found.arrival_ns, found.sequence) == (T0 + 7, 3)


def test_swing_without_hints() -> None:
    renderer, tracker = Renderer(Camera(), seed=3, distractors=2), Tracker(Camera())
    step_ns, rate = round(NANOSECONDS / 150), 2.0 * math.pi * 0.8
    off = []
    for k in range(150):
        t = k / 150
        theta = math.pi - 3.0 * math.cos(rate * t)
        omega = 3.0 * rate * math.sin(rate * t)
        alpha = 3.0 * rate * rate * math.cos(rate * t)
        state = (0.2 * math.sin(4.0 * t), 0.8 * math.cos(4.0 * t), theta, omega)
        t_ns = T0 + k * step_ns
        found = tracker.detect(renderer.render(state, alpha), t_ns, t_ns, k)
        assert found.status is DetectionStatus.OK
        dt = (found.t_ns - t_ns) / NANOSECONDS
        truth = theta + omega * dt + 0.5 * alpha * dt * dt
        off.append(math.remainder(found.theta_rad - truth, 2.0 * math.pi))
    assert np.sqrt(np.mean(np.square(off[5:]))) < 5e-4
    assert np.max(np.abs(off)) < 0.02  # never the wrong end, not even before the rate is known


@pytest.mark.parametrize("method", ["line_fit", "min_area_rect"])
def test_strided_luma_and_read_only_pictures(
    method: Literal["line_fit", "min_area_rect"],
) -> None:
    camera = Camera(method=method)
    state = (0.1, 0.0, 2.0, 0.0)
    frame = Renderer(Camera(), seed=4).render(state)
    buffer = np.full((240, 640), 128, np.uint8)
    buffer[:, ::2] = frame
    buffer.flags.writeable = False
    plain = Tracker(camera).detect(frame, T0, T0, 0, hint_at(state))
    strided = Tracker(camera).detect(buffer[:, ::2], T0, T0, 0, hint_at(state))
    assert strided.status is plain.status
    # Sums over a view may be taken in another order: rounding, no more.
    for name in ("t_ns", "theta_rad", "p_m", "sigma_theta_rad", "sigma_p_m", "residual"):
        assert getattr(strided, name) == pytest.approx(getattr(plain, name), rel=1e-9), name
    assert abs(errors(plain, state)[0]) < (1e-3 if method == "line_fit" else 0.02)


@pytest.mark.parametrize(("inside_m", "theta"), [(0.05, -0.2), (0.08, -0.2), (0.1, -0.35)])
def test_a_pole_that_leaves_the_picture_aslant_is_not_told_too_surely(
    inside_m: float, theta: float
) -> None:
    """At the border one edge of the tape is seen: where it lies depends on the tape's width."""
    left = CameraGeometry.from_camera(Camera()).unproject(0.0, 120.0)[0]
    state = (left + inside_m, 0.0, theta, 4.0)
    z = []
    for seed in range(12):
        frame = Renderer(Camera(), seed=seed).render(state)
        found = Tracker(Camera()).detect(frame, T0, T0, 0, hint_at(state))
        if found.status is DetectionStatus.OK:
            z.append(errors(found, state)[0] / found.sigma_theta_rad)
    assert len(z) >= 3
    assert np.sqrt(np.mean(np.square(z))) < 1.5


def test_bayer_pattern_does_not_turn_the_axis() -> None:
    # Infrared passes all four filters nearly alike: 10 % between them.
    state = (0.05, 0.0, 2.6, 0.0)
    frame = Renderer(Camera(), seed=4).render(state).astype(float)
    frame[0::2, 1::2] *= 0.9
    frame[1::2, 0::2] *= 0.92
    found = Tracker(Camera()).detect(frame.astype(np.uint8), T0, T0, 0, hint_at(state))
    assert abs(errors(found, state)[0]) < 2e-3


def test_end_after_300_ms_blind_at_20_rad_s() -> None:
    """The prediction is good to some tenths of a radian after a gap: never the wrong end."""
    renderer = Renderer(Camera(), seed=6)
    rng = np.random.default_rng(7)
    for state in random_states(150, 8):
        fast = (state[0], state[1], state[2], math.copysign(20.0, state[3]))
        guess = (
            fast[0] + rng.normal(0.0, 0.01),
            fast[1],
            fast[2] + rng.normal(0.0, 0.4),
            fast[3] + rng.normal(0.0, 1.0),
        )
        found = Tracker(Camera()).detect(
            renderer.render(fast), T0, T0, 0, hint_at(guess, 0.01, 0.4)
        )
        if found.status is DetectionStatus.OK:
            assert abs(errors(found, fast)[0]) < 0.1
        else:
            assert found.status is DetectionStatus.AMBIGUOUS


def test_side_of_the_pivot_decides_when_the_pole_lies_level() -> None:
    for theta in (math.pi / 2, -math.pi / 2):
        state = (0.1, 0.0, theta, 0.0)
        frame = Renderer(Camera(), seed=9).render(state)
        assert Tracker(Camera()).detect(frame, T0, T0, 0).status is DetectionStatus.AMBIGUOUS
        # The angle is unknown; the cart's place is not.
        found = Tracker(Camera()).detect(frame, T0, T0, 0, hint_at((0.1, 0, 0, 0), 0.005, 10.0))
        assert abs(errors(found, state)[0]) < 2e-3


def test_pole_cut_by_the_pictures_edge() -> None:
    state = (0.62, 0.0, 2.0, 0.0)
    found = Tracker(Camera()).detect(Renderer(Camera()).render(state), T0, T0, 0, hint_at(state))
    theta, p = errors(found, state)
    assert abs(theta) < 1e-3
    assert abs(p) < 2e-3
    assert found.confidence < 0.9


def test_nothing_there_and_out_of_the_picture() -> None:
    empty = Renderer(Camera()).render((5.0, 0.0, 0.0, 0.0))
    assert Tracker(Camera()).detect(empty, T0, T0, 0).status is DetectionStatus.NO_BLOB
    away = hint_at((1.2, 0.0, 1.5, 0.0))
    found = Tracker(Camera()).detect(empty, T0, T0, 0, away)
    assert found.status is DetectionStatus.OUT_OF_FRAME
    assert found.sigma_theta_rad == math.inf


def test_a_flash_is_refused() -> None:
    flash = np.full((240, 320), 240, np.uint8)
    state = (0.0, 0.0, 0.5, 0.0)
    for hint in (None, hint_at(state)):
        found = Tracker(Camera()).detect(flash, T0, T0, 0, hint)
        assert found.status is DetectionStatus.SATURATED


def test_two_poles_are_ambiguous_unless_a_hint_tells() -> None:
    left, right = (-0.2, 0.0, 3.0, 0.0), (0.2, 0.0, 3.2, 0.0)
    renderer = Renderer(Camera(), pixel_noise=0.0)
    frame = np.maximum(renderer.render(left), renderer.render(right))
    assert Tracker(Camera()).detect(frame, T0, T0, 0).status is DetectionStatus.AMBIGUOUS
    for state in (left, right):
        found = Tracker(Camera()).detect(frame, T0, T0, 0, hint_at(state))
        assert abs(errors(found, state)[0]) < 2e-3


def test_a_strip_that_is_not_on_the_track_is_not_the_pole() -> None:
    low = Camera(homography=(180.0, 0.0, 160.0, 0.0, -180.0, 60.0, 0.0, 0.0, 1.0))
    frame = Renderer(low).render((0.0, 0.0, 0.4, 0.0))
    found = Tracker(Camera()).detect(frame, T0, T0, 0)
    assert found.status is not DetectionStatus.OK


def test_a_repeated_noisy_picture_is_frozen() -> None:
    tracker, renderer = Tracker(Camera()), Renderer(Camera(), seed=1)
    state = (0.0, 0.0, 0.2, 0.0)
    frame = renderer.render(state)
    step = NANOSECONDS // 150
    assert tracker.detect(frame, T0, T0, 0).status is DetectionStatus.OK
    for k in (1, 2, 3):
        t_ns = T0 + k * step
        assert tracker.detect(frame.copy(), t_ns, t_ns, k).status is DetectionStatus.FROZEN
    t_ns = T0 + 4 * step
    assert tracker.detect(renderer.render(state), t_ns, t_ns, 4).status is DetectionStatus.OK


def test_a_noise_free_picture_may_repeat_only_at_rest() -> None:
    frame = Renderer(Camera(), pixel_noise=0.0).render((0.0, 0.0, 0.2, 0.0))
    tracker, step = Tracker(Camera()), NANOSECONDS // 150
    still = DetectionHint(T0, 0.0, 0.0, 0.2, 0.0, 0.003, 0.03)
    for k in range(3):
        found = tracker.detect(frame, T0 + k * step, T0, k, still)
        assert found.status is DetectionStatus.OK
    moving = DetectionHint(T0 + 3 * step, 0.0, 0.0, 0.3, 8.0, 0.003, 0.03)
    found = tracker.detect(frame, T0 + 3 * step, T0, 3, moving)
    assert found.status is DetectionStatus.FROZEN


def test_threshold_can_be_changed_while_running() -> None:
    tracker = Tracker(Camera())
    frame = (Renderer(Camera(), seed=2).render((0.0, 0.0, 0.2, 0.0)) // 4).astype(np.uint8)
    assert tracker.detect(frame, T0, T0, 0).status is DetectionStatus.NO_BLOB
    tracker.set_threshold(25)
    assert tracker.detect(frame, T0, T0, 1).status is DetectionStatus.OK


def test_wrong_size_is_misuse() -> None:
    with pytest.raises(ValueError, match="160x120"):
        Tracker(Camera()).detect(np.zeros((120, 160), np.uint8), T0, T0, 0)


def test_rectangle_method_is_honest_about_its_error() -> None:
    camera = Camera(method="min_area_rect")
    renderer, z, off = Renderer(camera, seed=3), [], []
    for state in random_states(100, 4):
        found = Tracker(camera).detect(renderer.render(state), T0, T0, 0, hint_at(state))
        if found.status is DetectionStatus.OK:
            off.append(errors(found, state)[0])
            z.append(off[-1] / found.sigma_theta_rad)
    assert len(off) > 95
    assert np.median(np.abs(off)) < 6e-3
    assert np.sqrt(np.mean(np.square(z))) < 3.0


def test_overlay_draws_the_rectangle_or_the_reason() -> None:
    state = (0.0, 0.0, 2.5, 0.0)
    frame = Renderer(Camera(), seed=1).render(state)
    found = Tracker(Camera()).detect(frame, T0, T0, 0, hint_at(state))
    plain = draw_overlay(frame, None, 2)
    drawn = draw_overlay(frame, found, 2)
    assert plain.shape == drawn.shape == (480, 640, 3)
    rows, columns = np.nonzero(np.any(plain != drawn, axis=2))
    corners = np.array(found.corners_px) * 2.0
    assert rows.min() == pytest.approx(corners[:, 1].min(), abs=3)
    assert columns.max() == pytest.approx(corners[:, 0].max(), abs=3)
    lost = draw_overlay(frame, Detection(T0, T0, 0, DetectionStatus.NO_BLOB), 2)
    assert np.any(lost != plain)
