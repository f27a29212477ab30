"""Learning from recordings: the rig is told, residuals by what was held out, and a gate."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.recording import Recording
from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.errors import SessionError, UsageError
from cartpole.learning import recorded
from cartpole.learning.closed_loop import (
    LOST,
    Flown,
    Verdict,
    believed,
    fly,
    gate,
    judged_rig,
    paired,
    truth,
)
from cartpole.learning.command import Outcome, _weights, changes, judge, proposed, run
from cartpole.learning.innovations import (
    CART_SLOW,
    Track,
    counted,
    filtered,
    likelihood,
    prediction_error,
    track_of,
)
from cartpole.learning.motion import Model
from cartpole.learning.report import draw
from cartpole.learning.residual import Found, residuals, scan, tried, truth_settings, whole
from cartpole.learning.sysid import UNKNOWN, Held, bound, held_out, learn
from cartpole.learning.tune import TRUST, tune
from cartpole.messages import EncoderSample
from cartpole.rules.model import model_of
from cartpole.sim.run import VirtualRun

STEP_M, STEP_RAD = 1.0 / 20_000.0, 2.0 * np.pi / 1200.0


def flown(seed: int, seconds: float = 6.0, **values: float) -> Track:
    """A swing-up and hold on a rig that differs, as the encoders and the wire tell it."""
    named = {f"sim.{name}": value for name, value in values.items()}
    run_ = VirtualRun(with_values(Config(), {"sim.homed": True, **named}), seed)
    samples: list[EncoderSample] = []
    commands = []
    for tick in itertools.islice(run_.ticks(), round(seconds / 0.02)):
        given = tick.record.input.measurements
        samples += [one for one in given if isinstance(one, EncoderSample)]
        commands.append((tick.record.command.t_ns * 1e-9, tick.record.command.velocity_m_s))
    zero = run_.rig.homing  # as a recording is read: where the cart began is no matter of chance
    t = np.array([one.t_ns * 1e-9 for one in samples])
    p = np.array([(one.cart_counts - zero.cart_zero_counts) * STEP_M for one in samples])
    theta = np.array([(one.pole_counts - zero.pole_zero_counts) * STEP_RAD for one in samples])
    sent = np.array(commands)
    p, p_variance = counted(p, STEP_M, CART_SLOW)
    theta, theta_variance = counted(theta, STEP_RAD)
    return Track(f"seed {seed}", t, p, theta, sent[:, 0], sent[:, 1], p_variance, theta_variance)


TRUE = {"length_m": 0.53, "tau_s": 0.06, "damping_1_s": 0.08}


@pytest.fixture(scope="module")
def tracks() -> list[Track]:
    return [flown(seed, **TRUE) for seed in (1, 2)]


@pytest.fixture(scope="module")
def cogging() -> list[Track]:
    return [
        flown(seed, 10.0, drive_cogging_m_s2=1.0, drive_cogging_pitch_m=0.02) for seed in (3, 4)
    ]


def test_two_recordings_together_tell_the_rig(tracks: list[Track]) -> None:
    learned = learn(tracks, Model(), starts=2)
    for name, value in (*TRUE.items(), ("delay_s", 0.008), ("gain", 1.0)):
        wrong = abs(getattr(learned.model, name) - value)
        assert wrong < 4.0 * learned.sigma[name], name
        assert learned.sigma[name] < (0.05 if name == "damping_1_s" else 0.05 * value + 5e-4)
    white = filtered(tracks[0], learned.model.array())[1]
    assert 0.7 < white[:, 0].var() < 1.4
    assert all(curve[-1] <= curve[0] for curve in learned.curves)
    values = proposed(learned, Config())
    assert values["pole.length_m"] == pytest.approx(0.53, rel=0.02)
    held = held_out(tracks, Model())
    assert held.better
    assert held.gain > 20.0


def test_no_interval_is_narrower_than_what_the_recording_can_tell(tracks: list[Track]) -> None:
    """Cramer and Rao's bound; and a pole that stands on a count does not pass for disturbances."""
    learned = learn(tracks, Model())
    least = bound(tracks, learned.model, UNKNOWN)
    for name in UNKNOWN:
        assert 0.999 * least[name] <= learned.sigma[name] <= 3.0 * least[name], name
    assert least["length_m"] < 0.002 * 0.53
    assert learned.model.pole_noise == pytest.approx(0.05, abs=4.0 * learned.sigma["pole_noise"])


def test_the_likelihood_falls_away_from_the_truth(tracks: list[Track]) -> None:
    best = learn(tracks, Model(), intervals=False).model
    here = sum(likelihood(track, best) for track in tracks)
    for name in UNKNOWN[3:6]:
        for by in (0.8, 1.25):
            away = replace(best, **{name: getattr(best, name) * by})
            assert sum(likelihood(track, away) for track in tracks) > here + 2.0


def test_cogging_is_found_with_its_pitch_and_predicts_what_was_held_out(
    cogging: list[Track],
) -> None:
    base = learn(cogging, Model(), intervals=False).model
    assert min(abs(pitch - 0.02) for pitch in scan(cogging, base)) < 1e-3
    found = whole(cogging, tried(cogging, base, "cogging"))
    assert found.believed
    assert found.closer > 0.5
    values = truth_settings(found.model)
    assert values["sim.drive_cogging_m_s2"] == pytest.approx(1.0, abs=0.2)
    assert values["sim.drive_cogging_pitch_m"] == pytest.approx(0.02, abs=2e-4)
    assert tried(cogging, found.model, "tilt").believed is False


@pytest.mark.parametrize(("play", "hertz"), [(0.002, 0.0), (0.0007, 15.0)])
def test_a_belts_play_is_found_and_predicts_what_was_held_out(play: float, hertz: float) -> None:
    """Found in one recording, judged on another; not taken for stiction or a longer delay."""
    loose = {"belt_backlash_m": play, "belt_hz": hertz}
    one, other = (flown(seed, 10.0, **loose) for seed in (5, 6))
    base = learn([one], Model(), intervals=False).model
    model, good, _bad = residuals([one], base, ("stiction", "backlash"))
    assert good[0].name == "backlash"
    assert good[0].nats > 300.0
    sigma = good[0].sigma["backlash_m"]
    assert sigma < 3e-5
    assert model.backlash_m == pytest.approx(play, abs=4.0 * sigma + 2e-5)
    assert model.delay_s == pytest.approx(0.008, abs=4e-4)
    before, after = (prediction_error(other, each)[0] for each in (base, model))
    assert after < 0.4 * before
    values = truth_settings(model)
    assert values["sim.belt_backlash_m"] == model.backlash_m
    assert values["sim.belt_hz"] == pytest.approx(hertz or 25.0, rel=0.05)


def test_what_is_not_there_is_not_believed(tracks: list[Track]) -> None:
    base = learn(tracks, Model(), intervals=False).model
    for name in ("asymmetry", "tilt", "cogging", "backlash"):
        assert not tried(tracks, base, name).believed


def test_what_is_likelier_and_predicts_no_better_is_not_believed() -> None:
    """By likelihood alone a tenth of the rigs without flaws have one."""
    found = Found("tilt", 20.0, 4.0, 0.01, Model(), {})
    assert found.likelier
    assert not found.believed
    assert replace(found, closer=0.1).believed
    assert not replace(found, closer=0.1, worst_fold=-4.0).believed
    assert not replace(found, closer=0.1, nats=5.0).believed


def test_the_gate_refuses_a_spoilt_model(tracks: list[Track]) -> None:
    """By the recordings held out, before anything flies."""
    learned = learn(tracks, Model(), intervals=False)
    rng = np.random.default_rng(5)
    for _ in range(10):
        by = float(np.exp(rng.choice([-1.0, 1.0]) * rng.uniform(0.1, 0.6)))
        name = str(rng.choice(["length_m", "tau_s", "gain"]))
        spoilt = replace(learned.model, **{name: getattr(learned.model, name) * by})
        held = Held(
            tuple(likelihood(track, learned.model) for track in tracks),
            tuple(likelihood(track, spoilt) for track in tracks),
        )
        outcome = Outcome("sysid", values={"pole.length_m": spoilt.length_m})
        judge(outcome, Config(), spoilt, held)
        assert not outcome.writable
        assert "less likely" in outcome.why


def test_the_gate_refuses_spoilt_weights_and_what_does_not_fly() -> None:
    model = believed(Config())
    spoilt = {"controller.weights.command_rate": 30.0}
    assert not gate(Config(), spoilt, model, (1,), 1.02).passed
    late = {"motor.delay_s": 0.1}
    verdict = gate(Config(), late, model, (1,), 1.02)
    assert not verdict.passed
    assert gate(Config(), {"pole.length_m": 0.5}, model, (1,), 1.02).passed


def test_what_may_be_chance_is_refused() -> None:
    own = np.array([2.0, 3.0, 2.5, 2.2])
    assert paired(own, own + [-0.3, -0.4, -0.35, -0.3]).no_worse(0.98)
    assert not paired(own, own + [-1.5, 0.3, -0.4, 0.2]).no_worse(0.98)  # as much in the mean
    assert paired(own, own).no_worse(1.02)
    assert not paired(own, own + [0.5, -0.5, 0.6, -0.5]).no_worse(1.02)
    assert paired(own, own + [0.05, -0.1, 0.05, -0.1]).no_worse(1.02)  # chance hides little there
    assert not paired(own, own + [0.05, -0.1, 0.05, -0.1]).no_worse(0.98)
    assert not paired(own, np.array([1.0, 1.0, 1.0, LOST])).no_worse(1.02)
    assert paired(np.full(4, LOST), own).no_worse(1.02)  # who never flew is worse than who does
    assert not paired(np.full(4, LOST), np.full(4, LOST)).no_worse(1.02)


def test_tuning_keeps_the_owners_weights_where_chance_alone_speaks_for_others() -> None:
    """A short search among few flights: what it finds must pass other flights, or is nothing."""
    model = believed(Config())
    found = tune(Config(), model, (1, 2), rounds=((4, 1), (2, 2)))
    assert found.after <= found.before
    assert all(name.startswith(("controller.weights.", "estimator.")) for name in found.values)
    assert "controller.weights.angle" not in found.values  # it sets the scale of all
    for name, value in recorded.flattened(Config(), list(found.values)).items():
        if name.startswith("controller."):
            assert abs(np.log(found.values[name] / value)) <= TRUST + 1e-3
    verdict = gate(Config(), {"controller.weights.command": 0.01}, model, (3, 4), 0.98)
    assert not verdict.passed


def test_samples_that_stay_on_a_count_are_one() -> None:
    read = np.array([0, 1, 2, 2, 2, 2, 3, 3, 3, 2, 1, 0], dtype=float)
    samples, variances = counted(read, 1.0)
    assert np.isfinite(variances).tolist() == [
        True, True, True, False, False, True, True, False, True, True, True, True,
    ]  # fmt: skip
    assert samples[:3].tolist() == [0.0, 1.0, 2.0 - 0.5 + 0.125]
    assert samples[5] == 2.0 + 0.5 - 0.125
    assert samples[8] == pytest.approx(3.0 - 0.5 + 1 / 6)  # it leaves where it came in
    assert 12.0 * variances[1] == 1.0
    assert 12.0 * variances[2] == pytest.approx(1 / 16)
    still = np.repeat([0.0, 1.0, 2.0], [1, 50, 1])  # or a filter upright would lose the pole
    assert np.flatnonzero(np.isfinite(counted(still, 1.0)[1])).tolist() == [0, 1, 21, 41, 50, 51]


def test_a_flight_that_falls_is_lost() -> None:
    rig = truth(Config(), believed(Config()))
    assert fly(rig, 1).index < 100.0
    assert fly(with_values(rig, {"sim.pole_disturbance": 5.0}), 1).index == LOST


def test_weights_by_which_plans_were_made_are_found_again() -> None:
    """Terminal cost included: it follows the weights."""
    rng = np.random.default_rng(7)
    states = [
        np.array([*rng.normal(0.0, 0.1, 2), np.pi + rng.normal(0.0, 0.2), rng.normal(), 0.0])
        for _ in range(12)
    ]
    shown = recorded.planned(Config(), states, 0.02)
    flat = recorded.flattened(Config(), recorded.COST)
    factors = np.exp(rng.uniform(-1.0, 1.0, len(flat)) * np.log(4.5))
    wrong = {key: value * by for (key, value), by in zip(flat.items(), factors, strict=True)}
    found = recorded.imitate(with_values(Config(), wrong), shown, recorded.COST, starts=2)
    assert found.after < 1e-4 * found.before
    for key, value in flat.items():
        assert found.values[key] == pytest.approx(value, rel=1e-3)


def test_misuse_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="needs 200"):
        track_of(Recording("empty", ""))
    with pytest.raises(UsageError, match="one of sysid"):
        run("everything", [], Config(), 0, lambda _done, _what: None)
    mine = with_values(Config(), {"optimizer.user_model": "x.py:f"})
    with pytest.raises(UsageError, match="own equations"):
        run("sysid", [], mine, 0, lambda _done, _what: None)
    command = [sys.executable, "-m", "cartpole", "learn", "sysid", str(tmp_path / "none.mcap")]
    done = subprocess.run([*command, "--write"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--write needs --config" in done.stderr


def test_a_model_is_judged_by_what_it_is_worth_before_the_flight_has_learned_it() -> None:
    """The learner in flight would mend a wrong model as well as a true one: chance would decide."""
    rig = replace(believed(Config()), length_m=0.53, tau_s=0.06)
    model = {"pole.length_m": 0.53, "motor.tau_s": 0.06}
    assert not judged_rig(Config(), model, rig).estimator.learn
    assert judged_rig(Config(), {"controller.weights.position": 2.0}, rig).estimator.learn
    verdict = gate(Config(), model, rig, (2001, 2002, 2003, 2004), 1.02)
    assert verdict.passed
    assert verdict.after < 0.9 * verdict.before
    assert len(verdict.pairs) == 4


def test_flights_of_which_none_ends_upright_are_counted_once() -> None:
    own = np.array([2.0, 3.0])
    seen = paired(own, np.full(2, LOST))
    assert (seen.before, seen.fell) == (2.5, 2)


def test_a_plan_tells_the_model_it_was_made_by_whatever_its_weights() -> None:
    rng = np.random.default_rng(3)
    states = [np.array([0.05, 0.0, np.pi + rng.normal(0.0, 0.2), 0.3, 0.0]) for _ in range(6)]
    other = with_values(Config(), {"controller.weights.position": 4.0})
    model = replace(model_of(Config()), length_m=0.56, damping_1_s=0.11, tau_s=0.07)
    shown = recorded.planned(other, states, 0.02, model)
    assert len(shown) >= 3
    for one in shown:
        told = recorded.model_of_plan(one.states, Config())
        assert told is not None
        assert told.length_m == pytest.approx(0.56, rel=1e-4)
        assert told.tau_s == pytest.approx(0.07, rel=1e-6)
        assert told.damping_1_s == pytest.approx(0.11, rel=1e-2)
    spoilt = shown[0].states.copy()
    spoilt[5, 3] += 0.01
    assert recorded.model_of_plan(spoilt, Config()) is None


def test_weights_are_found_by_the_model_in_force_and_not_made_up_for_another() -> None:
    rng = np.random.default_rng(8)
    states = [
        np.array([*rng.normal(0.0, 0.1, 2), np.pi + rng.normal(0.0, 0.2), rng.normal(), 0.0])
        for _ in range(12)
    ]
    flown_by = with_values(Config(), {"controller.weights.position": 3.0})
    model = replace(model_of(Config()), length_m=0.55, tau_s=0.065)
    shown = recorded.planned(flown_by, states, 0.02, model)
    found = recorded.imitate(Config(), shown, recorded.COST, starts=1)
    assert found.values["controller.weights.position"] == pytest.approx(3.0, rel=1e-3)
    assert found.values["controller.weights.velocity"] == pytest.approx(0.9, rel=1e-3)
    assert found.sigma["controller.weights.position"] < 0.01
    before, after = recorded.held_out(Config(), recorded.common_model(shown), shown)
    assert after < before  # what their common model is worth with weights that are not theirs


def test_what_the_commands_do_not_tell_stays() -> None:
    """A pole that hardly moves: no weight is told beyond the errors of its commands."""
    shown = recorded.planned(Config(), [np.array([0.02, 0.0, np.pi, 0.0, 0.0])] * 3, 0.02)
    noise = np.random.default_rng(1)
    noisy = [replace(one, states=one.states + noise.normal(0.0, 1e-3, (1, 5))) for one in shown]
    outcome = Outcome("cost")
    fitted = _weights(outcome, Config(), noisy, 0, lambda _done, _what: None)
    assert len(fitted.values) < len(recorded.COST)
    assert any("stays" in line for line in outcome.lines)


def test_the_picture_is_drawn_with_and_without_flights(tmp_path: Path) -> None:
    flight = Flown(2.0, 1.8, (0.0, 0.02, 0.04), (3.1, -3.1, -3.0), (0.0, 0.01, 0.02))
    verdict = Verdict(2.0, 1.5, "", ((2.0, 1.5), (2.1, LOST)))
    both = Outcome("sysid", verdict=verdict, curves=((5.0, 1.0), (7.0, 1.0)))
    both.flights = (flight, flight)
    for name, outcome in (("both", both), ("none", Outcome("dynamics"))):
        draw(outcome, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_what_would_be_written_is_told() -> None:
    assert changes(Config(), {"pole.length_m": 0.53}) == [f"{'pole.length_m':36s} 0.5 -> 0.53"]
