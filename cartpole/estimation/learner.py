"""One learned model: length, lag, gain, delay and friction of the rig, found while it moves.

A second, slower filter beside the state filter. It works in the order of time on what is surely
known (counts, or frames where there are no encoders) and carries the model's parameters as slow
states with their covariance, so that it tells how sure it is of each. Its mean is the model in
force: filter, plan, fall-back and governor predict with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cartpole.estimation import learner_kernels as kernels
from cartpole.messages import NANOSECONDS, OMEGA, THETA, FloatArray, P, V
from cartpole.model.parameters import ModelParameters
from cartpole.recall import require

GAP_NS = NANOSECONDS // 5  # after this long without a reading the fast states start anew
FIRST_SPEED_M_S = 0.5
FIRST_RATE_RAD_S = 5.0
COMMANDS_KEPT = 64
LEAST_JITTER_S = 5e-5  # of a stamp

# How far the parameters may go: logarithms of coupling, lag and gain about the settings, then
# delay [s], viscous and dry friction, the zero [rad].
FARTHEST = (0.6, 1.6, 0.35)
LONGEST_DELAY_S = 0.1
MOST_DAMPING_1_S = 5.0
MOST_COULOMB_RAD_S2 = 20.0

# Drift in a second, in the same order: a supply sags, a pivot warms up.
WANDER = (0.002, 0.01, 0.005, 0.0003, 0.01, 0.02)

# A parameter that settled this far from the settings is worth a word: shares of length, lag and
# gain, seconds of delay, 1/s and rad/s² of friction; and at least so many deviations.
WORTH = (0.06, 0.25, 0.04, 0.006, 0.06, 0.2)
SURE_SIGMAS = 5.0
# Parameters that are sure to this share (or delay, friction) have settled.
SETTLED = (0.01, 0.1, 0.015, 0.002, 0.03, 0.1)


@dataclass(frozen=True, slots=True)
class LearnerRules:
    """What the learner is told. ``prior`` is the model of the settings.

    ``sigma`` (6,) and ``wander`` (6,) belong to the logarithms of length, lag and gain, to the
    delay [s], to viscous and dry friction: how well the settings know them, and by how much they
    drift in a second. ``half_p_m``, ``half_theta_rad`` are half a count of each encoder.
    """

    prior: ModelParameters
    sigma: tuple[float, ...]
    wander: tuple[float, ...]
    half_p_m: float
    half_theta_rad: float
    cart_noise_m_s2: float
    pole_noise_rad_s: float
    enabled: bool = True


@dataclass(slots=True)
class LearnerMemory:
    """State and covariance of the learner (``learner_kernels``), and the commands sent.

    ``cart`` and ``pole``: whether that part's fast states mean anything; ``told``: which
    parameters were spoken of; ``ramp_m_s2``: the driver's own ramp, 0: none was seen.
    """

    state: FloatArray
    covariance: FloatArray
    marks: kernels.Whole
    sent: kernels.Whole
    speeds: FloatArray
    cart: bool = False
    pole: bool = False
    told: tuple[bool, ...] = (False,) * 6
    ramp_m_s2: float = 0.0

    def check(self, _own: LearnerMemory) -> None:
        """SessionError for a memory that the kernels, which trust their indices, must not see."""
        following, count = int(self.marks[kernels.NEXT]), int(self.marks[kernels.COUNT])
        require(0 <= following <= count < 1 << 62, "the learner's commands")
        finite = bool(np.isfinite(self.state).all() and np.isfinite(self.covariance).all())
        require(finite, "the learner's state")
        require(len(self.told) == len(NAMES), "what the learner told")
        require(0.0 <= self.ramp_m_s2 < math.inf, "the driver's ramp")


@dataclass(frozen=True, slots=True)
class Finding:
    """A parameter that settled elsewhere than the settings say: which fault, and its figures."""

    name: str
    detail: str


class Learner:
    """Rules over a memory; deterministic, no clock."""

    def __init__(self, rules: LearnerRules, memory: LearnerMemory) -> None:
        self._rules, self._memory = rules, memory
        self._table = _table(rules)
        self._said = _parameters(rules.prior).tolist()
        self._model: ModelParameters | None = None  # in force, until something else is learned

    @staticmethod
    def fresh(rules: LearnerRules) -> LearnerMemory:
        """Nothing seen: the settings are believed as far as they are sure."""
        state = np.zeros(kernels.STATES)
        state[kernels.FIRST : kernels.ZERO] = _parameters(rules.prior)
        covariance = np.zeros((kernels.STATES, kernels.STATES))
        places = np.arange(kernels.FIRST, kernels.ZERO)
        covariance[places, places] = np.square(rules.sigma)
        memory = LearnerMemory(
            state,
            covariance,
            np.zeros(kernels.MARKS, dtype=np.int64),
            np.zeros(COMMANDS_KEPT, dtype=np.int64),
            np.zeros(COMMANDS_KEPT),
        )
        _load(rules)
        return memory

    @property
    def model(self) -> ModelParameters:
        """The model in force.

        What cannot be told from the settings stays with them: a difference d of deviation s counts
        by 1 - (s / d)^2 (the positive part of James and Stein's estimator, 1961), so that
        true settings are not disturbed by the noise of learning.
        """
        if self._model is None:
            self._model = self._shrunk()
        return self._model

    def _shrunk(self) -> ModelParameters:
        prior, seen = self._rules.prior, self._memory.state[kernels.FIRST : kernels.ZERO].tolist()
        values = []
        for said, one, sigma in zip(self._said, seen, self.sigma, strict=True):
            off = one - said
            values.append(said + off * max(0.0, 1.0 - sigma * sigma / max(off * off, 1e-300)))
        c, tau, gain, delay, damping, coulomb = values
        return ModelParameters(
            length_m=1.5 / math.exp(c),
            damping_1_s=damping,
            coulomb_rad_s2=coulomb,
            tau_s=math.exp(tau),
            motor_acceleration_m_s2=min(
                self._memory.ramp_m_s2 or math.inf, prior.motor_acceleration_m_s2
            ),
            delay_s=delay,
            gravity_m_s2=prior.gravity_m_s2,
            gain=math.exp(gain),
        )

    @property
    def sigma(self) -> list[float]:
        """(6,) deviations: logarithms of length, lag and gain, delay [s], both frictions."""
        variances = self._memory.covariance.diagonal()[kernels.FIRST : kernels.ZERO].tolist()
        return [math.sqrt(max(variance, 0.0)) for variance in variances]

    def add_command(self, t_ns: int, velocity_m_s: float) -> None:
        """A command [m/s] went out to a drive that is on."""
        memory = self._memory
        place = int(memory.marks[kernels.COUNT]) % COMMANDS_KEPT
        memory.sent[place], memory.speeds[place] = t_ns, velocity_m_s
        memory.marks[kernels.COUNT] += 1

    def told(self, parameter: int, value: float, sigma: float) -> None:
        """Somebody else found a parameter (its place in ``sigma``, as the states have it)."""
        state, covariance, k = (
            self._memory.state,
            self._memory.covariance,
            kernels.FIRST + parameter,
        )
        self._model = None
        gain = covariance[:, k] / (covariance[k, k] + sigma * sigma)
        state += gain * (value - state[k])
        covariance -= np.outer(gain, covariance[k, :])
        low, high = self._table[kernels.LOW :], self._table[kernels.HIGH :]
        count = kernels.STATES - kernels.FIRST
        np.clip(state[kernels.FIRST :], low[:count], high[:count], out=state[kernels.FIRST :])

    def ramped(self, ramp_m_s2: float) -> None:
        """The driver lets commands rise by so much [m/s^2] by itself; 0: by no less than it says.

        What was learned of a driver's lag while its ramp was not known is forgotten.
        """
        memory, k = self._memory, kernels.LAG
        self._model = None
        if ramp_m_s2 == memory.ramp_m_s2:
            return
        memory.ramp_m_s2 = ramp_m_s2
        memory.state[k] = self._said[k - kernels.FIRST]
        memory.covariance[k, :] = memory.covariance[:, k] = 0.0
        memory.covariance[k, k] = self._rules.sigma[k - kernels.FIRST] ** 2

    def rest(self) -> None:
        """The drive is off: hands may move the cart, nothing is to be learned."""
        self._memory.cart = self._memory.pole = False
        self._memory.marks[kernels.NEXT] = self._memory.marks[kernels.COUNT]

    def stamps_jitter(self, seen_s: float) -> None:
        """What the counts' stamps are off by, as seen."""
        jitter_s = max(seen_s, LEAST_JITTER_S)
        if jitter_s != self._table[kernels.JITTER]:
            self._table[kernels.JITTER] = jitter_s

    def add_cart(self, t_ns: int, p_m: float, sigma_m: float = 0.0) -> None:
        """Where the cart is, from any zero; without a sigma rounded to a count."""
        if not self._at(t_ns):
            return
        memory = self._memory
        if not memory.cart:
            self._begin(P, V, p_m, max(sigma_m, self._rules.half_p_m), FIRST_SPEED_M_S)
            memory.cart = True
            return
        half = 0.0 if sigma_m > 0.0 else self._rules.half_p_m
        self._read(True, p_m, half, sigma_m * sigma_m)

    def add_pole(
        self, t_ns: int, theta_rad: float, zero_sigma_rad: float, sigma_rad: float = 0.0
    ) -> None:
        """The pole's angle, its zero known to ``zero_sigma_rad``; as :meth:`add_cart`."""
        if not self._at(t_ns):
            return
        memory = self._memory
        if not memory.pole:
            half = max(sigma_rad, self._rules.half_theta_rad)
            self._begin(THETA, OMEGA, theta_rad, half, FIRST_RATE_RAD_S)
            memory.state[kernels.ZERO] = 0.0
            memory.covariance[kernels.ZERO, :] = memory.covariance[:, kernels.ZERO] = 0.0
            memory.covariance[kernels.ZERO, kernels.ZERO] = zero_sigma_rad * zero_sigma_rad
            memory.pole = True
            return
        half = 0.0 if sigma_rad > 0.0 else self._rules.half_theta_rad
        self._read(False, theta_rad, half, sigma_rad * sigma_rad)

    def add_both(
        self,
        t_ns: int,
        p_m: float,
        theta_rad: float,
        zero_sigma_rad: float,
        sigma_m: float = 0.0,
        sigma_rad: float = 0.0,
    ) -> None:
        """Cart and pole as they were in one instant: :meth:`add_cart`, then :meth:`add_pole`."""
        memory, rules = self._memory, self._rules
        if not rules.enabled:
            return
        known = memory.cart and memory.pole
        if not known or not 0 <= t_ns - int(memory.marks[kernels.TIME]) <= GAP_NS:
            self.add_cart(t_ns, p_m, sigma_m)
            self.add_pole(t_ns, theta_rad, zero_sigma_rad, sigma_rad)
            return
        self._model = None
        kernels.take(
            memory.state, memory.covariance, memory.marks, memory.sent, memory.speeds, t_ns,
            p_m, 0.0 if sigma_m > 0.0 else rules.half_p_m, sigma_m * sigma_m,
            theta_rad, 0.0 if sigma_rad > 0.0 else rules.half_theta_rad, sigma_rad * sigma_rad,
            self._table,
        )  # fmt: skip

    def findings(self) -> tuple[Finding, ...]:
        """What settled elsewhere than the settings say and was not told yet; it is told now."""
        prior, model, sigma = self._rules.prior, self.model, self.sigma
        pairs = (
            (prior.length_m, model.length_m),
            (prior.tau_s, model.tau_s),
            (prior.gain, model.gain),
            (prior.delay_s, model.delay_s),
            (prior.damping_1_s, model.damping_1_s),
            (prior.coulomb_rad_s2, model.coulomb_rad_s2),
        )
        told, found = list(self._memory.told), []
        for k, (said, seen) in enumerate(pairs):
            off = abs(math.log(seen / said)) if k < 3 else abs(seen - said)
            sure = sigma[k]
            if told[k] or off < max(WORTH[k], SURE_SIGMAS * sure) or sure > SETTLED[k]:
                continue
            told[k] = True
            found.append(
                Finding(NAMES[k], WORDS[k].format(seen=seen * SCALE[k], said=said * SCALE[k]))
            )
        self._memory.told = tuple(told)
        return tuple(found)

    def _at(self, t_ns: int) -> bool:
        """Carry the state to ``t_ns``; False for a reading that comes too late or is not wanted."""
        memory = self._memory
        if not self._rules.enabled:
            return False
        self._model = None
        now = int(memory.marks[kernels.TIME])
        if t_ns < now and (memory.cart or memory.pole):
            return False
        if t_ns - now > GAP_NS or not (memory.cart or memory.pole):
            memory.cart = memory.pole = False
            self._skip(t_ns)
        elif t_ns > now:
            kernels.advance(
                memory.state, memory.covariance, memory.marks,
                memory.sent, memory.speeds, t_ns, self._table,
            )  # fmt: skip
        return True

    def _skip(self, t_ns: int) -> None:
        """Go to ``t_ns`` without the fast states: the commands that act by then are over."""
        memory = self._memory
        delay_ns = round(float(memory.state[kernels.DELAY]) * NANOSECONDS)
        memory.marks[kernels.TIME] = t_ns
        first = max(0, int(memory.marks[kernels.COUNT]) - COMMANDS_KEPT)
        following = max(first, int(memory.marks[kernels.NEXT]))
        while following < memory.marks[kernels.COUNT]:
            if memory.sent[following % COMMANDS_KEPT] + delay_ns > t_ns:
                break
            following += 1
        memory.marks[kernels.NEXT] = following

    def _begin(self, place: int, rate: int, value: float, sigma: float, rate_sigma: float) -> None:
        """Start one part's fast states from a reading; what is known of the parameters stays."""
        state, covariance = self._memory.state, self._memory.covariance
        state[place], state[rate] = value, 0.0
        for k, deviation in ((place, sigma), (rate, rate_sigma)):
            covariance[k, :] = covariance[:, k] = 0.0
            covariance[k, k] = deviation * deviation

    def _read(self, cart: bool, reading: float, half: float, variance: float) -> None:
        memory = self._memory
        kernels.read(
            memory.state, memory.covariance, memory.marks,
            cart, reading, half, variance, self._table,
        )  # fmt: skip


LENGTH, DRY = 0, 5  # places in ``sigma``
NAMES = ("pole length differs", "drive lag differs", "drive gain differs",
         "command delay differs", "pole damping differs", "dry friction differs")  # fmt: skip
WORDS = (
    "{seen:.3f} m found, pole.length_m says {said:.3f}",
    "{seen:.0f} ms found, motor.tau_s says {said:.0f}",
    "the cart runs at {seen:.3f} of the commanded speed",
    "{seen:.1f} ms found, motor.delay_s says {said:.1f}",
    "{seen:.3f} 1/s found, pole.damping_1_s says {said:.3f}",
    "{seen:.2f} rad/s² found, pole.coulomb_rad_s2 says {said:.2f}",
)
SCALE = (1.0, 1e3, 1.0, 1e3, 1.0, 1.0)


def _parameters(model: ModelParameters) -> FloatArray:
    """(6,) as the learner's states have them."""
    return np.array(
        [
            math.log(model.coupling_1_m),
            math.log(model.tau_s),
            math.log(model.gain),
            model.delay_s,
            model.damping_1_s,
            model.coulomb_rad_s2,
        ]
    )


def _table(rules: LearnerRules) -> FloatArray:
    """The rules as the kernels take them."""
    model = rules.prior
    table = np.zeros(kernels.RULES)
    table[kernels.GRAVITY], table[kernels.LIMIT] = model.gravity_m_s2, model.motor_acceleration_m_s2
    table[kernels.CART_POWER] = rules.cart_noise_m_s2**2
    table[kernels.POLE_POWER] = rules.pole_noise_rad_s**2
    table[kernels.WANDER : kernels.LOW - 1] = np.square(rules.wander)
    middle = np.log((model.coupling_1_m, model.tau_s, model.gain))
    table[kernels.LOW : kernels.HIGH] = (*(middle - FARTHEST), 0.0, 0.0, 0.0, -1.0)
    table[kernels.HIGH : kernels.JITTER] = (
        *(middle + FARTHEST), LONGEST_DELAY_S, MOST_DAMPING_1_S, MOST_COULOMB_RAD_S2, 1.0,
    )  # fmt: skip
    table[kernels.JITTER] = LEAST_JITTER_S
    return table


def _load(rules: LearnerRules) -> None:
    """Load the compiled kernels now rather than in the first tick."""
    memory = LearnerMemory(
        np.zeros(kernels.STATES), np.eye(kernels.STATES), np.zeros(kernels.MARKS, dtype=np.int64),
        np.zeros(COMMANDS_KEPT, dtype=np.int64), np.zeros(COMMANDS_KEPT), cart=True, pole=True,
    )  # fmt: skip
    learner = Learner(rules, memory)
    learner.add_command(0, 0.1)
    learner.add_cart(100_000, 0.0)
    learner.add_pole(200_000, 0.0, 1e-3)
    learner.add_both(300_000, 0.0, 0.0, 1e-3)
