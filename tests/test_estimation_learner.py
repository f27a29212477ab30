"""The model learned in flight: what it finds, how sure it is, what must not disturb it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest

from cartpole.config.schema import Config, Estimator, Motor, Pole
from cartpole.errors import SessionError
from cartpole.estimation.learner import Finding, Learner, LearnerMemory, LearnerRules
from cartpole.estimation.learner_kernels import COUNT, NEXT
from cartpole.model.dynamics import rig_step
from cartpole.model.parameters import ModelParameters
from cartpole.recall import check
from cartpole.rules.estimation import learner_rules
from cartpole.rules.model import model_of

CONFIG = Config()
RULES = learner_rules(CONFIG)
TRUTH = replace(
    RULES.prior,
    length_m=0.58,
    tau_s=0.07,
    gain=0.93,
    delay_s=0.017,
    damping_1_s=0.12,
)
STEP_NS = 1_000_000


class Bench:
    """A rig without noise, whose counts a learner reads 200 times a second."""

    def __init__(self, truth: ModelParameters, rules: LearnerRules = RULES) -> None:
        self.truth, self.now_ns, self.u = truth, 0, 0.0
        self.state = np.array([0.02, 0.0, 0.3, 0.0])
        self.pending: list[tuple[int, float]] = []
        self.memory: LearnerMemory = Learner.fresh(rules)
        self.learner = Learner(rules, self.memory)

    def run(self, duration_s: float, speed: float = 0.6) -> None:
        """Fly a sum of two sines at 50 commands a second."""
        for _ in range(round(duration_s * 1e9 / STEP_NS)):
            if self.now_ns % 20_000_000 == 0:
                t = self.now_ns * 1e-9
                u = speed * (math.sin(5.0 * t) + 0.5 * math.sin(13.0 * t))
                self.learner.add_command(self.now_ns, u)
                self.pending.append((self.now_ns + round(self.truth.delay_s * 1e9), u))
            while self.pending and self.pending[0][0] <= self.now_ns:
                self.u = self.pending.pop(0)[1]
            m = self.truth
            state = tuple(self.state)
            self.state[:] = rig_step(state, m.gain * self.u, STEP_NS * 1e-9, m.coefficients)
            self.now_ns += STEP_NS
            if self.now_ns % 5_000_000 == 0:
                self.read()

    def read(self, pole_off_rad: float = 0.0) -> None:
        """Both counts, as the observer hands them over."""
        cart, pole = 2.0 * RULES.half_p_m, 2.0 * RULES.half_theta_rad
        theta = self.state[2] + pole_off_rad
        self.learner.add_cart(self.now_ns, cart * (math.floor(self.state[0] / cart) + 0.5))
        self.learner.add_pole(self.now_ns, pole * (math.floor(theta / pole) + 0.5), 0.001)


def test_finds_every_parameter_and_knows_how_sure_it_is() -> None:
    bench = Bench(TRUTH)
    before = np.array(bench.learner.sigma)
    bench.run(3.0)
    found, after = bench.learner.model, np.array(bench.learner.sigma)
    assert found.length_m == pytest.approx(TRUTH.length_m, rel=0.01)
    assert found.tau_s == pytest.approx(TRUTH.tau_s, rel=0.06)
    assert found.gain == pytest.approx(TRUTH.gain, abs=0.01)
    assert found.delay_s == pytest.approx(TRUTH.delay_s, abs=0.0015)
    assert found.damping_1_s == pytest.approx(TRUTH.damping_1_s, abs=0.03)
    assert (after[:4] < 0.3 * before[:4]).all()
    off = math.log(found.length_m / TRUTH.length_m)
    assert abs(off) < 4.0 * after[0]


def test_learns_from_the_cart_alone() -> None:
    bench = Bench(TRUTH)
    bench.learner.add_pole = lambda *_: None  # type: ignore[method-assign]
    bench.run(2.0)
    found = bench.learner.model
    assert found.gain == pytest.approx(TRUTH.gain, abs=0.01)
    assert found.delay_s == pytest.approx(TRUTH.delay_s, abs=0.0015)
    assert found.length_m == pytest.approx(RULES.prior.length_m, rel=1e-9)


def test_dry_friction_is_told_from_viscous() -> None:
    bench = Bench(replace(RULES.prior, coulomb_rad_s2=0.7))
    bench.run(5.0)
    assert bench.learner.model.coulomb_rad_s2 == pytest.approx(0.7, abs=0.15)
    assert bench.learner.model.damping_1_s == pytest.approx(RULES.prior.damping_1_s, abs=0.06)


def test_a_little_dry_friction_is_believed_for_what_it_is() -> None:
    """Half of it believed, a balanced pole swayed by 10 mrad."""
    bench = Bench(replace(RULES.prior, coulomb_rad_s2=0.25))
    bench.run(5.0)
    assert bench.learner.model.coulomb_rad_s2 == pytest.approx(0.25, abs=0.06)


def test_true_settings_are_hardly_disturbed() -> None:
    bench = Bench(RULES.prior)
    bench.run(3.0)
    assert bench.learner.model.length_m == pytest.approx(RULES.prior.length_m, rel=0.004)
    assert bench.learner.model.coulomb_rad_s2 == pytest.approx(0.0, abs=0.02)
    assert bench.learner.findings() == ()


def test_what_settled_elsewhere_is_said_once_with_its_figures() -> None:
    bench = Bench(TRUTH)
    assert bench.learner.findings() == ()
    bench.run(4.0)
    said = {finding.name: finding for finding in bench.learner.findings()}
    assert said["pole length differs"] == Finding(
        "pole length differs", f"{bench.learner.model.length_m:.3f} m found, "
        "pole.length_m says 0.500"
    )  # fmt: skip
    assert {"drive lag differs", "drive gain differs", "command delay differs"} <= set(said)
    bench.run(2.0)
    assert not {finding.name for finding in bench.learner.findings()} & set(said)


def test_friction_that_differs_is_said_in_its_own_name() -> None:
    viscous = Bench(replace(RULES.prior, damping_1_s=0.4))
    viscous.run(8.0)
    assert "pole damping differs" in {finding.name for finding in viscous.learner.findings()}
    dry = Bench(replace(RULES.prior, coulomb_rad_s2=1.2))
    dry.run(8.0)
    assert "dry friction differs" in {finding.name for finding in dry.learner.findings()}


def test_a_push_is_no_physics() -> None:
    bench = Bench(TRUTH)
    bench.run(3.0)
    before = bench.learner.model
    for _ in range(4):
        bench.state[3] += 4.0
        bench.run(0.3)
    after = bench.learner.model
    assert after.length_m == pytest.approx(before.length_m, rel=0.02)
    assert after.damping_1_s == pytest.approx(before.damping_1_s, abs=0.08)


def test_nonsense_and_jumps_of_time_leave_it_finite_and_bounded() -> None:
    bench, rng = Bench(TRUTH), np.random.default_rng(0)
    for _ in range(300):
        bench.learner.add_cart(int(rng.integers(0, 1 << 40)), float(rng.normal(0.0, 1e3)))
        bench.learner.add_pole(int(rng.integers(0, 1 << 40)), float(rng.normal(0.0, 1e3)), 0.001)
        bench.learner.add_command(int(rng.integers(0, 1 << 40)), float(rng.normal()))
    assert np.isfinite(bench.memory.state).all()
    model = bench.learner.model
    assert 0.25 < model.length_m < 1.0
    assert 0.0 <= model.delay_s <= 0.1
    assert 0.7 < model.gain < 1.5


def test_hands_on_a_dead_drive_teach_nothing() -> None:
    bench = Bench(TRUTH)
    bench.run(2.0)
    kept = bench.learner.model
    bench.learner.rest()
    assert bench.learner.model == kept
    bench.state[1] = -1.0  # moved by hand meanwhile
    bench.run(0.05)
    assert bench.learner.model.gain == pytest.approx(kept.gain, abs=0.01)


def test_goes_on_from_its_memory_bit_for_bit() -> None:
    bench = Bench(TRUTH)
    bench.run(1.0)
    twin = copy.deepcopy(bench)
    twin.learner = Learner(RULES, twin.memory)
    bench.run(1.0)
    twin.run(1.0)
    assert np.array_equal(bench.memory.state, twin.memory.state)
    assert np.array_equal(bench.memory.covariance, twin.memory.covariance)


def test_a_memory_that_cannot_be_is_refused() -> None:
    kept = Learner.fresh(RULES)
    kept.marks[NEXT], kept.marks[COUNT] = 5, 3
    with pytest.raises(SessionError, match="the learner's commands"):
        check(kept, Learner.fresh(RULES))


def test_a_ramp_of_the_driver_is_part_of_the_model_and_its_lag_is_learned_anew() -> None:
    bench = Bench(TRUTH)
    bench.run(4.0)
    assert bench.learner.model.tau_s == pytest.approx(0.07, abs=0.004)
    length = bench.learner.model.length_m
    bench.learner.ramped(4.0)
    model = bench.learner.model
    assert model.motor_acceleration_m_s2 == 4.0
    assert model.tau_s == pytest.approx(RULES.prior.tau_s)
    assert model.length_m == length
    bench.learner.ramped(0.0)
    assert bench.learner.model.motor_acceleration_m_s2 == RULES.prior.motor_acceleration_m_s2
    broken = copy.deepcopy(bench.memory)
    broken.ramp_m_s2 = -1.0
    with pytest.raises(SessionError, match="ramp"):
        check(broken, bench.memory)


def test_settings_that_are_sure_are_believed() -> None:
    sure = learner_rules(
        Config(
            pole=Pole(),
            motor=Motor(),
            estimator=Estimator(length_sigma=1e-3, damping_sigma_1_s=1e-3),
        )
    )
    believing, doubting = Bench(TRUTH, sure), Bench(TRUTH)
    believing.run(0.25)
    doubting.run(0.25)
    prior = model_of(CONFIG).length_m
    assert abs(believing.learner.model.length_m - prior) < 0.3 * abs(
        doubting.learner.model.length_m - prior
    )


def test_learning_can_be_switched_off() -> None:
    bench = Bench(TRUTH, replace(RULES, enabled=False))
    bench.run(1.0)
    assert bench.learner.model.length_m == pytest.approx(RULES.prior.length_m, rel=1e-12)
