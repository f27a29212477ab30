"""The filter's promises: order does not matter, nonsense is refused, nothing is hidden."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.reference_filter import ReferenceFilter
from oracles.streams import (
    Arrival,
    CommandSent,
    Motion,
    Sensors,
    Stream,
    make_stream,
    to_reading,
)

from cartpole.config.schema import Config
from cartpole.estimation.filter import StateFilter
from cartpole.estimation.layout import RESTLESS
from cartpole.messages import NANOSECONDS, OMEGA, THETA, Detection, DetectionStatus, P
from cartpole.model.dynamics import rig_step
from cartpole.rules.estimation import filter_rules
from cartpole.rules.model import model_of

CONFIG = Config()
RULES = filter_rules(CONFIG)
SECOND = 1_000_000_000
MS = 1_000_000
CLEAN = Sensors(camera_sigma_rad=1e-6, camera_sigma_m=1e-6, camera_outliers=0.0, camera_loss=0.0)
START = (0.05, 0.0, 0.4, 0.0)
SIGMA = (1e-3, 1e-2, 1e-2, 0.1)


def feed(target: StateFilter | ReferenceFilter, arrival: Arrival) -> None:
    event = arrival[1]
    if isinstance(event, CommandSent):
        target.add_command(event.t_ns, event.velocity_m_s)
    elif isinstance(event, Detection):
        target.add_camera(event)
    else:
        target.add_encoder(event.t_ns, *to_reading(CONFIG, event))


def frame(t_ns: int, theta: float, p: float = 0.05, **changes: object) -> Detection:
    made = Detection(
        t_ns=t_ns,
        arrival_ns=t_ns + 12 * MS,
        sequence=0,
        status=DetectionStatus.OK,
        theta_rad=math.remainder(theta, 2 * math.pi),
        p_m=p,
        sigma_theta_rad=0.0015,
        sigma_p_m=0.001,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def errors(stream: Stream, target: StateFilter, step_ns: int = 7_300_000) -> np.ndarray:
    """Estimate minus truth after the first second, (n, 4)."""
    ask, out = stream.start_ns + SECOND, []
    for arrival in stream.arrivals:
        while ask < min(arrival[0], stream.end_ns):
            out.append(np.array(target.estimate(ask).state) - stream.state_at(ask))
            ask += step_ns
        feed(target, arrival)
    return np.array(out)


def rms(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.mean(values**2, axis=0)))


def free_fall(t_s: float, start: tuple[float, float, float, float]) -> np.ndarray:
    """The model's own motion with no command and no disturbance."""
    model, state, n = model_of(CONFIG), start, round(t_s / 5e-4)
    for _ in range(n):
        state = rig_step(state, 0.0, t_s / n, model.coefficients)
    return np.array(state)


@pytest.mark.parametrize("motion", ["swing", "upright"])
@pytest.mark.parametrize(
    "sensors",
    [
        Sensors(),
        Sensors(encoder_hz=0.0, camera_outliers=0.1),
        Sensors(camera_hz=0.0),
        Sensors(stamp_error_s=0.004),  # gates close and open again
    ],
    ids=["both", "camera", "encoder", "wrong delay"],
)
def test_equals_the_plain_numpy_filter(motion: Motion, sensors: Sensors) -> None:
    stream = make_stream(CONFIG, motion, 1.0, 3, sensors)
    fast, plain = StateFilter(RULES), ReferenceFilter(CONFIG)
    start = tuple(stream.truth[0].tolist())
    fast.reset(stream.start_ns, start, SIGMA)
    plain.reset(stream.start_ns, start, SIGMA)
    for arrival in stream.arrivals:
        feed(fast, arrival)
        feed(plain, arrival)
        if isinstance(arrival[1], CommandSent):
            mine, theirs = fast.estimate(arrival[0]), plain.look(arrival[0])
            np.testing.assert_allclose(mine.state, theirs.state[:4], rtol=0, atol=1e-9)
            sigma = np.sqrt(np.diag(theirs.cov))[:4]
            np.testing.assert_allclose(mine.sigma, sigma, rtol=0, atol=1e-9)
            assert mine.upright_offset_rad == pytest.approx(theirs.state[4], abs=1e-9)
            assert mine.rejected == theirs.rejected


class Counts:
    """Both filters fed with rounded counts of a cart on a soft belt and a pole that is hit."""

    def __init__(self, *targets: StateFilter | ReferenceFilter) -> None:
        self.targets, self.omega, self.theta, self.now_ns = targets, 0.0, math.pi, SECOND
        for target in targets:
            target.reset(self.now_ns, (0.0, 0.0, math.pi, 0.0), SIGMA)

    def run(self, seconds: float, swing_m: float = 0.0) -> None:
        """200 samples a second of a pole that turns evenly."""
        for _ in range(round(200 * seconds)):
            self.now_ns += 5 * MS
            self.theta += 0.005 * self.omega
            p = swing_m * math.sin(2.0 * math.pi * 6.0 * self.now_ns * 1e-9)
            step_p, step_theta = 1 / CONFIG.encoder.cart_counts_per_m, 2.0 * math.pi / 1200
            for target in self.targets:
                target.add_encoder(
                    self.now_ns,
                    step_p * (math.floor(p / step_p) + 0.5),
                    step_theta * (math.floor(self.theta / step_theta) + 0.5),
                )


def test_a_soft_belt_and_a_hit_pole_mean_the_same_to_both() -> None:
    fast, plain = StateFilter(RULES), ReferenceFilter(CONFIG)
    counts = Counts(fast, plain)
    for seconds, swing_m, omega in ((0.1, 0.0, 0.0), (0.6, 0.004, 0.0), (0.1, 0.004, 1.3)):
        counts.omega = omega
        counts.run(seconds, swing_m)
        mine, theirs = fast.estimate(counts.now_ns), plain.look(counts.now_ns)
        np.testing.assert_allclose(mine.state, theirs.state[:4], rtol=0, atol=1e-9)
        np.testing.assert_allclose(mine.sigma, np.sqrt(np.diag(theirs.cov))[:4], rtol=0, atol=1e-9)
        assert mine.rejected == theirs.rejected
    assert plain.look(counts.now_ns).cart_nis > RESTLESS


def test_a_pole_that_was_hit_is_believed_within_five_samples() -> None:
    target = StateFilter(RULES)
    counts = Counts(target)
    counts.run(0.3)
    counts.omega = 1.3
    counts.run(0.025)
    assert target.estimate(counts.now_ns).state[3] == pytest.approx(1.3, abs=0.7)


def test_a_count_that_jumps_alone_is_no_hit_pole() -> None:
    """A slipped encoder is off at once and then stays so: it has time to be told by the camera."""
    target = StateFilter(RULES)
    counts = Counts(target)
    counts.run(0.3)
    counts.theta += 0.105
    counts.run(0.02)
    assert abs(target.estimate(counts.now_ns).state[2] - math.pi) < 0.02


def short_events() -> tuple[Arrival, ...]:
    stream = make_stream(CONFIG, "swing", 0.1, 5, Sensors(camera_outliers=0.1))
    return stream.arrivals


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_order_of_arrival_does_not_matter(data: st.DataObject) -> None:
    events = short_events()
    shuffled = data.draw(st.permutations(events))
    asked = data.draw(st.sets(st.integers(0, len(events) - 1), max_size=5))
    targets = [StateFilter(RULES), StateFilter(RULES)]
    for target, order, questions in zip(targets, (events, shuffled), ((), asked), strict=True):
        target.reset(SECOND - MS, START, SIGMA)
        for k, arrival in enumerate(order):
            feed(target, arrival)
            if k in questions:  # asking in between changes nothing either
                target.predict(SECOND + 30 * MS)
    now = SECOND + 110 * MS
    assert targets[0].estimate(now) == targets[1].estimate(now)
    assert targets[0].delay(now) == targets[1].delay(now)


def test_same_bits_again() -> None:
    stream = make_stream(CONFIG, "swing", 2.0, 1)
    first = errors(stream, StateFilter(RULES))
    assert first.tobytes() == errors(stream, StateFilter(RULES)).tobytes()


def test_equals_the_batch_solution_where_all_is_linear() -> None:
    """The cart alone, below its motor's limit: weighted least squares over all states at once."""
    config = Config.model_validate({"estimator": {"encoder_jitter_s": 0.0}})
    noise, tau, h, n = CONFIG.estimator.cart_noise_m_s2, CONFIG.motor.tau_s, 0.005, 20
    decay = math.exp(-h / tau)
    f = np.array([[1.0, tau * (1 - decay)], [0.0, decay]])
    start, end = np.array([0.0, 1.0]), f[:, 1]
    cross = 0.5 * (np.outer(start, end) + np.outer(end, start))
    q = noise**2 * h / 3 * (np.outer(start, start) + cross + np.outer(end, end))
    u, sigma, prior = 0.1, 1e-4, np.array([1e-3, 1e-2])
    push = np.array([u * h - u * tau * (1 - decay), u * (1 - decay)])
    clean = [(np.linalg.matrix_power(f, k) @ [0, -u])[0] + u * k * h for k in range(1, n + 1)]
    readings = np.array(clean) + sigma * np.random.default_rng(2).standard_normal(n)

    rows, values = [np.hstack([np.diag(1 / prior), np.zeros((2, 2 * n))])], [np.zeros(2)]
    white = np.linalg.inv(np.linalg.cholesky(q))
    for k in range(n):
        row = np.zeros((2, 2 * n + 2))
        row[:, 2 * k : 2 * k + 2], row[:, 2 * k + 2 : 2 * k + 4] = -white @ f, white
        rows.append(row)
        values.append(white @ push)
        seen = np.zeros((1, 2 * n + 2))
        seen[0, 2 * k + 2] = 1 / sigma
        rows.append(seen)
        values.append(np.array([readings[k] / sigma]))
    batch = np.linalg.lstsq(np.vstack(rows), np.concatenate(values), rcond=None)[0][-2:]

    target = StateFilter(filter_rules(config))
    delay_ns = round(CONFIG.motor.delay_s * SECOND)
    target.add_command(SECOND - delay_ns, u)
    target.reset(SECOND, (0.0, 0.0, 0.0, 0.0), (*prior.tolist(), 1e-3, 1e-3))
    for k in range(n):
        t_ns = SECOND + round((k + 1) * h * SECOND)
        target.add_encoder(t_ns, readings[k], 0.0, sigma_p=sigma, sigma_theta=math.inf)
    found = target.predict(SECOND + round(n * h * SECOND))[:2]
    np.testing.assert_allclose(found, batch, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("motion", "limits"),
    [("swing", (3e-5, 5e-3, 6e-4, 0.016)), ("upright", (3e-5, 5e-3, 8e-4, 0.02))],
)
def test_accuracy_on_late_lossy_partly_wrong_streams(
    motion: Motion, limits: tuple[float, ...]
) -> None:
    found = [errors(make_stream(CONFIG, motion, 6.0, s), StateFilter(RULES)) for s in (11, 12, 13)]
    assert np.all(rms(np.concatenate(found)) <= limits)


@pytest.mark.parametrize("motion", ["swing", "upright"])
def test_camera_alone(motion: Motion) -> None:
    stream = make_stream(CONFIG, motion, 5.0, 4, Sensors(encoder_hz=0.0))
    p, v, theta, omega = rms(errors(stream, StateFilter(RULES)))
    assert p < 6e-4
    assert v < 0.012
    assert theta < 1.8e-3
    assert omega < 0.035


def test_claimed_uncertainty_is_honest() -> None:
    stream = make_stream(CONFIG, "swing", 6.0, 21, Sensors(encoder_hz=0.0))
    target = StateFilter(RULES)
    found = errors(stream, target)
    claimed = np.array(target.estimate(stream.start_ns + 6 * SECOND).sigma)
    assert np.all(rms(found) < 1.5 * claimed)
    assert np.all(rms(found) > claimed / 2)


def test_outliers_do_not_touch_the_estimate() -> None:
    good, bad = StateFilter(RULES), StateFilter(RULES)
    for target in (good, bad):
        target.reset(SECOND, START, SIGMA)
    for k in range(1, 40):
        t_ns = SECOND + k * 5 * MS
        true = free_fall(k * 0.005, START)
        for target in (good, bad):
            target.add_encoder(t_ns, true[P], true[THETA])
        if k % 10 == 0:
            bad.add_camera(frame(t_ns, true[THETA] + 1.0))
    now = SECOND + 200 * MS
    ours, theirs = bad.estimate(now), good.estimate(now)
    assert ours.rejected == 3
    np.testing.assert_allclose(ours.state, theirs.state, rtol=0, atol=1e-12)
    assert ours.camera_age_ns == -1


@pytest.mark.parametrize("sensors", ["both", "camera", "encoder"])
def test_a_hit_pole_is_caught_again(sensors: str) -> None:
    """A blow of 4 rad/s: the gate rejects, opens again, and the estimate follows."""
    target = StateFilter(RULES)
    target.reset(SECOND, START, SIGMA)
    hit_s = 0.3
    at_hit = free_fall(hit_s, START)
    hit = (at_hit[0], at_hit[1], at_hit[2], at_hit[3] + 4.0)
    true = at_hit
    for k in range(1, 120):
        t_s = 0.005 * k
        true = free_fall(t_s, START) if t_s < hit_s else free_fall(t_s - hit_s + 5e-4, hit)
        t_ns = SECOND + round(t_s * SECOND)
        if sensors != "camera":
            target.add_encoder(t_ns, true[P], true[THETA])
        if sensors != "encoder":
            target.add_camera(frame(t_ns, true[THETA], true[P]))
    found = np.array(target.predict(SECOND + 119 * 5 * MS))
    assert abs(found[THETA] - true[THETA]) < 5e-3
    assert abs(found[OMEGA] - true[OMEGA]) < 0.1
    assert abs(target.offset) < 2e-3  # and nobody blamed the camera


def test_a_moved_camera_is_blamed_on_the_camera() -> None:
    target, worst = StateFilter(RULES), 0.0
    target.reset(SECOND, START, SIGMA)
    for k in range(1, 300):
        true = free_fall(0.005 * k, START)
        t_ns = SECOND + 5 * k * MS
        target.add_encoder(t_ns, true[P], true[THETA])
        target.add_camera(frame(t_ns, true[THETA] + (0.05 if k > 100 else 0.0)))
        worst = max(worst, abs(target.predict(t_ns)[THETA] - true[THETA]))
    assert worst < 4e-3
    assert target.offset == pytest.approx(0.05, abs=3e-3)


@pytest.mark.parametrize("sensors", ["camera", "encoder", "both"])
def test_turns_are_counted(sensors: str) -> None:
    start = (0.0, 0.0, 0.0, 24.0)
    target = StateFilter(RULES)
    target.reset(SECOND, start, SIGMA)
    for k in range(1, 200):
        true = free_fall(0.01 * k, start)
        t_ns = SECOND + 10 * k * MS
        if sensors != "camera":
            target.add_encoder(t_ns, true[P], true[THETA])
        if sensors != "encoder":
            target.add_camera(frame(t_ns, true[THETA], true[P]))
    assert true[THETA] > 6 * math.pi
    assert target.predict(SECOND + 1990 * MS)[THETA] == pytest.approx(true[THETA], abs=5e-3)


def test_the_encoder_decides_the_turns_a_camera_cannot_see() -> None:
    target = StateFilter(RULES)
    target.add_camera(frame(SECOND, 0.2))
    target.add_encoder(SECOND + MS, 0.0, 0.2 + 4 * math.pi)
    assert target.predict(SECOND + MS)[THETA] == pytest.approx(0.2 + 4 * math.pi, abs=0.02)


def test_no_wrong_end_after_300_ms_without_frames() -> None:
    start = (0.0, 0.0, 0.0, 22.0)
    target = StateFilter(RULES)
    for k in range(120):
        true = free_fall(0.0067 * k, start) if k else np.array(start)
        t_ns = SECOND + round(6.7 * k * MS)
        if 60 <= k < 105:
            continue
        if k == 105:
            hint = target.hint(t_ns)
            assert hint is not None
            assert abs(hint.theta_rad - true[THETA]) < 0.1
            assert abs(hint.theta_rad - true[THETA]) < 5 * hint.sigma_theta_rad
        target.add_camera(frame(t_ns, true[THETA], true[P]))
    assert target.predict(t_ns)[THETA] == pytest.approx(true[THETA], abs=5e-3)


def test_prediction_goes_through_the_commands_in_flight() -> None:
    model, target = model_of(CONFIG), StateFilter(RULES)
    target.reset(SECOND, START, (1e-9,) * 4)
    edges = [(0.0, 0.3), (0.02, 0.55), (0.027, -0.2)]
    for t_s, u in edges:
        target.add_command(SECOND + round(t_s * SECOND), u)
    state, u, clock = START, 0.0, 0.0
    acting = [(t + model.delay_s, u) for t, u in edges] + [(0.06, 0.0)]
    for until, following in acting:
        n = math.ceil((until - clock) / 0.002)
        for _ in range(n):
            state = rig_step(state, u, (until - clock) / n, model.coefficients)
        clock, u = until, following
    np.testing.assert_allclose(target.predict(SECOND + 60 * MS), state, rtol=0, atol=5e-4)


def test_commands_sent_before_the_start_act() -> None:
    target = StateFilter(RULES)
    target.add_command(SECOND - 100 * MS, 0.2)
    target.add_command(SECOND - 2 * MS, 0.5)
    target.reset(SECOND, (0.0, 0.2, 0.0, 0.0), SIGMA)
    assert target.predict(SECOND + 6 * MS)[1] == pytest.approx(0.2)
    assert target.predict(SECOND + 300 * MS)[1] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "bad",
    [
        frame(SECOND + 50 * MS, 0.4, theta_rad=math.nan),
        frame(SECOND + 50 * MS, 0.4, theta_rad=math.inf),
        frame(SECOND + 50 * MS, 0.4, p_m=math.nan),
        frame(SECOND + 50 * MS, 0.4, sigma_theta_rad=math.nan),
        frame(SECOND + 50 * MS, 0.4, sigma_theta_rad=math.inf, sigma_p_m=math.inf),
        frame(SECOND + 50 * MS, 0.4, arrival_ns=SECOND + 49 * MS),
        frame(SECOND + 50 * MS, 0.4, arrival_ns=SECOND + 900 * MS),
        frame(SECOND - 50 * MS, 0.4),
        frame(SECOND + 40 * MS, 0.4),  # that time is taken
    ],
    ids=["nan", "inf", "nan p", "nan sigma", "nothing seen", "future", "late", "before", "twice"],
)
def test_unusable_frames_are_dropped_and_counted(bad: Detection) -> None:
    target = StateFilter(RULES)
    target.reset(SECOND, START, SIGMA)
    target.add_camera(frame(SECOND + 40 * MS, free_fall(0.04, START)[THETA]))
    before = target.estimate(SECOND + 60 * MS)
    target.add_camera(bad)
    after = target.estimate(SECOND + 60 * MS)
    assert after == replace(before, rejected=before.rejected + 1)


def test_unusable_encoder_samples_and_commands_are_dropped_and_counted() -> None:
    target = StateFilter(RULES)
    target.reset(SECOND, START, SIGMA)
    before = target.estimate(SECOND + 10 * MS)
    target.add_encoder(SECOND + 5 * MS, math.nan, 0.4)
    target.add_encoder(SECOND + 5 * MS, 0.0, math.inf)
    target.add_encoder(SECOND + 3600 * SECOND, 0.0, 0.4)
    target.add_command(SECOND + 5 * MS, math.nan)
    assert target.estimate(SECOND + 10 * MS) == replace(before, rejected=before.rejected + 4)


@pytest.mark.parametrize("status", [s for s in DetectionStatus if s is not DetectionStatus.OK])
def test_only_good_frames_count(status: DetectionStatus) -> None:
    target = StateFilter(RULES)
    target.reset(SECOND, START, SIGMA)
    before = target.estimate(SECOND + 60 * MS)
    target.add_camera(frame(SECOND + 40 * MS, 0.4, status=status))
    assert target.estimate(SECOND + 60 * MS) == before


def test_a_frozen_picture_never_updates() -> None:
    start = (0.0, 0.0, 0.5, 2.0)
    target, blind = StateFilter(RULES), StateFilter(RULES)
    for one in (target, blind):
        one.reset(SECOND, start, SIGMA)
        one.add_camera(frame(SECOND + MS, 0.502))
    for k in range(1, 30):
        target.add_camera(frame(SECOND + MS + k * 7 * MS, 0.502))
    now = SECOND + 220 * MS
    np.testing.assert_allclose(
        target.predict(now), blind.predict(now), rtol=0, atol=1e-6
    )  # not equal: the steps are cut elsewhere
    assert target.estimate(now).camera_age_ns == blind.estimate(now).camera_age_ns


@pytest.mark.parametrize(
    ("error_s", "sensors"),
    [(0.003, Sensors()), (-0.003, Sensors()), (0.02, Sensors()), (0.006, Sensors(encoder_hz=0.0))],
    ids=["late", "early", "beyond the gate", "camera alone"],
)
def test_a_wrong_delay_does_not_hide(error_s: float, sensors: Sensors) -> None:
    stream = make_stream(CONFIG, "swing", 8.0, 2, replace(sensors, stamp_error_s=error_s))
    target = StateFilter(RULES)
    errors(stream, target, SECOND)
    found = target.delay(stream.end_ns)
    assert found.suspect()
    assert math.copysign(1.0, found.error_s) == math.copysign(1.0, error_s)
    if abs(error_s) < 0.01:
        assert found.error_s == pytest.approx(error_s, rel=0.35)


@pytest.mark.parametrize("motion", ["swing", "upright"])
@pytest.mark.parametrize("encoder_hz", [0.0, 200.0])
def test_a_right_delay_is_not_suspect(motion: Motion, encoder_hz: float) -> None:
    stream = make_stream(CONFIG, motion, 8.0, 6, Sensors(encoder_hz=encoder_hz))
    target = StateFilter(RULES)
    errors(stream, target, SECOND)
    assert not target.delay(stream.end_ns).suspect()
    told = target.estimate(stream.end_ns)
    assert 0.5 < told.nis_camera < 1.6
    assert told.rejected < 0.1 * len(stream.arrivals)


@pytest.mark.parametrize("off_rad", [1.5, -0.9])
def test_frames_of_another_object_are_no_evidence_of_a_delay(off_rad: float) -> None:
    """A reflection stands still beside a swinging pole for most of the time."""
    stream = make_stream(CONFIG, "swing", 8.0, 3, Sensors())
    arrivals = tuple(
        (now_ns, replace(event, theta_rad=off_rad))
        if isinstance(event, Detection) and (event.t_ns - stream.start_ns) % SECOND > 400 * MS
        else (now_ns, event)
        for now_ns, event in stream.arrivals
    )
    target = StateFilter(RULES)
    errors(replace(stream, arrivals=arrivals), target, SECOND)
    frames = sum(isinstance(event, Detection) for _, event in arrivals)
    assert target.estimate(stream.end_ns).rejected > 0.3 * frames
    assert not target.delay(stream.end_ns).suspect()


def test_offset_of_the_camera_is_learned() -> None:
    config = Config.model_validate({"estimator": {"offset_sigma_rad": 0.01}})
    stream = make_stream(config, "upright", 8.0, 3, Sensors(encoder_hz=0, camera_offset_rad=-0.01))
    target = StateFilter(filter_rules(config))
    errors(stream, target, SECOND)
    assert target.offset == pytest.approx(-0.01, abs=3e-3)


def test_starts_by_itself_and_says_so() -> None:
    target = StateFilter(RULES)
    assert not target.estimate(SECOND).valid
    assert target.hint(SECOND) is None
    target.add_encoder(SECOND, 0.1, 0.0, sigma_theta=math.inf)
    assert not target.estimate(SECOND).valid  # no angle, no start
    target.add_camera(frame(SECOND, math.pi + 0.02, 0.1))
    assert target.initialised
    estimate = target.estimate(SECOND + 20 * MS)
    assert estimate.valid
    assert estimate.state[THETA] == pytest.approx(math.pi + 0.02, abs=0.02)
    assert estimate.camera_age_ns == 20 * MS
    assert estimate.encoder_age_ns == -1


def test_after_a_long_silence_it_starts_anew() -> None:
    target = StateFilter(RULES)
    target.reset(SECOND, START, SIGMA)
    target.add_camera(frame(SECOND + MS, 0.4, 0.05))
    later = SECOND + 5 * SECOND
    target.estimate(later)
    target.add_encoder(later, -0.1, 2.0)
    assert target.predict(later)[:3] == pytest.approx((-0.1, 0.0, 2.0))


def test_live_settings_act_on_what_comes_after() -> None:
    target, twin = StateFilter(RULES), StateFilter(RULES)
    deaf = Config.model_validate({"estimator": {"camera_sigma_rad": 0.1}})
    for one in (target, twin):
        one.reset(SECOND, START, SIGMA)
    target = StateFilter(filter_rules(deaf), target.memory)
    for one in (target, twin):
        one.add_camera(frame(SECOND + 5 * MS, 0.41))
    now = SECOND + 5 * MS
    assert target.estimate(now).sigma[THETA] > 2 * twin.estimate(now).sigma[THETA]


def test_a_flood_stays_within_its_memory_and_keeps_working() -> None:
    target = StateFilter(RULES)
    target.reset(SECOND, START, SIGMA)
    for k in range(1, 5000):
        target.add_encoder(SECOND + k * 10_000, START[0], START[2])
    now = SECOND + 50 * MS
    assert target.estimate(now).valid
    assert target.estimate(now).encoder_age_ns < MS


@pytest.mark.parametrize("seed", range(6))
def test_a_camera_alone_never_locks_onto_a_turn_a_frame(seed: int) -> None:
    """A third of a second in which every frame is nonsense, then good ones again."""
    target, rng, worst = StateFilter(RULES), np.random.default_rng(seed), 0.0
    period_ns = 6_666_667
    for k in range(300):
        t_ns = NANOSECONDS + k * period_ns
        nonsense = 100 <= k < 150
        theta = float(rng.uniform(-math.pi, math.pi)) if nonsense else 0.3 * math.sin(0.03 * k)
        frame = Detection(
            t_ns, t_ns + 12_000_000, k, DetectionStatus.OK, theta, 0.0, 0.0015, 0.001, 1.0
        )
        target.add_camera(frame)
        found = target.estimate(t_ns + 12_000_000)
        worst = max(worst, abs(found.state[OMEGA]))
    assert worst < 45.0  # the rig of these settings can do 38
    assert abs(found.state[OMEGA]) < 3.0
    assert math.remainder(found.state[THETA] - 0.3 * math.sin(0.03 * 301), math.tau) < 0.1


def test_nonsense_that_does_not_agree_opens_no_gate() -> None:
    """Two frames of three anywhere: the estimate stays with the third."""
    target, rng = StateFilter(RULES), np.random.default_rng(1)
    period_ns, worst = 6_666_667, 0.0
    for k in range(600):
        t_ns = NANOSECONDS + k * period_ns
        nonsense = k > 20 and rng.random() < 0.6
        theta = float(rng.uniform(-math.pi, math.pi)) if nonsense else 0.0
        target.add_camera(
            Detection(t_ns, t_ns, k, DetectionStatus.OK, theta, 0.0, 0.0015, 0.001, 1.0)
        )
        worst = max(worst, abs(math.remainder(target.estimate(t_ns).state[THETA], math.tau)))
    assert worst < 0.05
