"""The true rig: cart, pole, end stops, switches, encoders; stepped by a time that is handed in.

Integrated in steps of at most a millisecond; random accelerations disturb cart and pole. A push on
the cart reaches the pole through the same coupling as the motor's.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from cartpole.errors import UsageError
from cartpole.messages import NANOSECONDS, OMEGA, THETA, FloatArray, P, V
from cartpole.model.dynamics import coefficients, rig_step
from cartpole.sim import rough
from cartpole.sim.foreign import Foreign
from cartpole.sim.trouble import Trouble
from cartpole.sim.worn import Encoders

if TYPE_CHECKING:
    from cartpole.sim.rules import RigRules

STEP_NS = 1_000_000
BUMPER_M = 0.015  # from a switch to the hard stop behind it
NOISE_BLOCK = 4096
REST_NS = 800_000_000  # by then every drive is at rest
PEEK_NS = 50_000_000  # so often a silent cart is looked at
AT_REST_M_S = 1e-3
SILENCE = np.zeros(2 * PEEK_NS // STEP_NS)  # no noise


@njit(cache=True, nogil=True)
def _advance(
    state: FloatArray,
    command: float,
    steps: int,
    step_s: float,
    noise: FloatArray,
    used: int,
    cart_noise: float,
    pole_noise: float,
    model: FloatArray,
    stop_m: float,
) -> tuple[float, float, float, float]:
    """Advance ``state`` (4,) in place; from ``used`` on, ``noise`` holds 2 * steps normals."""
    rig = coefficients(model)
    coupling = rig.coupling
    root = math.sqrt(step_s)
    p, v, theta, omega = state
    for k in range(steps):
        p, v, theta, omega = rig_step((p, v, theta, omega), command, step_s, rig)
        push = cart_noise * root * noise[used + 2 * k]
        v += push
        omega += -coupling * math.cos(theta) * push + pole_noise * root * noise[used + 2 * k + 1]
        if abs(p) > stop_m:
            # The hard stop takes the cart's speed at once; the pole feels that as one push.
            omega += coupling * math.cos(theta) * v
            p, v = math.copysign(stop_m, p), 0.0
    state[0], state[1], state[2], state[3] = p, v, theta, omega
    return p, v, theta, omega


class Plant:
    """The simulated rig's truth. Times are host nanoseconds and never go back."""

    def __init__(
        self, rules: RigRules, seed: int, start: tuple[float, float, float, float], t_ns: int = 0
    ) -> None:
        self.parameters = rules.model
        encoder, sim = rules.true.encoder, rules.sim
        self._cart_scale = encoder.cart_sign * encoder.cart_counts_per_m
        self._pole_scale = encoder.pole_sign * encoder.pole_counts_per_turn / (2.0 * math.pi)
        self._switch_m = rules.switch_m
        self._noise = (sim.cart_disturbance, sim.pole_disturbance)
        self._rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
        self._normals = np.empty(0)
        self._used = 0
        self._state = np.array(start, dtype=np.float64)
        self._now = start
        self.told = (t_ns, 0.0)  # when the driver last gave a command, and which [m/s]
        self._stop_m = self._switch_m + BUMPER_M
        self._t_ns = t_ns
        self._command = 0.0
        self._pending: deque[tuple[int, float]] = deque()
        self.encoders = Encoders(sim, t_ns)
        self.trouble = Trouble()
        self._command_step = sim.command_step_m_s
        phase = np.random.default_rng(np.random.SeedSequence([seed, 4])).uniform(0.0, 2.0 * math.pi)
        self._rough = rough.figures(sim, phase)
        self._drive = np.array([start[P], start[V], 0.0])
        if rules.user_model and self._rough is not None:
            raise UsageError("imperfections of sim are of the rig's own equations: none here")
        self._foreign = None
        if rules.user_model:
            self._foreign = Foreign(rules.user_model, self.parameters.coupling_1_m)
        self._model = np.array(self.parameters.coefficients)

    @property
    def t_ns(self) -> int:
        """The time the state is at."""
        return self._t_ns

    @property
    def at_stop(self) -> bool:
        """Whether the cart stands at a hard stop."""
        return abs(self._now[P]) >= self._stop_m

    @property
    def is_smooth(self) -> bool:
        """Whether drive, belt and track do only what the equations of motion say."""
        return self._rough is None and self._foreign is None

    @property
    def state(self) -> tuple[float, float, float, float]:
        """(p, v, theta, omega) now."""
        return self._now

    def advance(self, t_ns: int) -> tuple[float, float, float, float]:
        """Go on to ``t_ns`` (a time already passed is *now*) and return the state there."""
        while self._pending and self._pending[0][0] <= t_ns:
            edge_ns, velocity = self._pending.popleft()
            self._integrate(edge_ns)
            self._command = velocity
        if t_ns > self._t_ns:
            self._integrate(t_ns)
        return self._now

    def _integrate(self, t_ns: int) -> None:
        span = t_ns - self._t_ns
        if span <= 0:
            return
        steps = -(-span // STEP_NS)
        if self._used + 2 * steps > len(self._normals):
            self._normals = self._rng.standard_normal(max(NOISE_BLOCK, 2 * steps))
            self._used = 0
        used, step_s = self._used, span / steps / NANOSECONDS
        self._used += 2 * steps
        if self._foreign is not None:
            self._now = self._foreign.advance(
                self._state, self._command, steps, step_s, self._normals, used, self._noise,
                self._stop_m,
            )  # fmt: skip
        elif self._rough is None:
            self._now = _advance(
                self._state, self._command, steps, step_s, self._normals, used, *self._noise,
                self._model, self._stop_m,
            )  # fmt: skip
        else:
            rough.advance_rough(
                self._state, self._drive, self._command, steps, step_s,
                self._t_ns / NANOSECONDS, self._normals[used : self._used], *self._noise,
                self._model, self._rough, self._stop_m,
            )  # fmt: skip
            self._now = tuple(self._state.tolist())
        self._t_ns = t_ns

    def push(self, cart_m_s: float = 0.0, pole_rad_s: float = 0.0) -> None:
        """A sudden change of speed now, as by a hand."""
        self._state[V] += cart_m_s
        self._drive[rough.W] += cart_m_s
        self._state[OMEGA] += pole_rad_s - self.parameters.coupling_1_m * cart_m_s * math.cos(
            float(self._state[THETA])
        )
        self._now = tuple(self._state.tolist())

    def carry(self, p_m: float) -> None:
        """A hand has put the cart there, and lets go of it at rest."""
        self._state[P], self._state[V] = p_m, 0.0
        self._drive[rough.Q], self._drive[rough.W] = p_m, 0.0
        self._now = tuple(self._state.tolist())

    def farthest_if_silent(self, timeout_s: float) -> float:
        """The largest \\|p\\| on the way to rest if no command came any more, without disturbances.

        Commands on their way still act; ``timeout_s`` after the last one was given, the driver
        commands zero.
        """
        silent_ns = self.told[0] + round(timeout_s * NANOSECONDS)
        edges = deque([*self._pending, (silent_ns, 0.0)])
        state, drive, command = self._state.copy(), self._drive.copy(), self._command
        far = abs(float(state[P]))
        t_ns, end_ns = self._t_ns, silent_ns + REST_NS
        while t_ns < end_ns:
            while edges and edges[0][0] <= t_ns:
                command = edges.popleft()[1]
            if not edges and max(abs(state[V]), abs(drive[rough.W])) < AT_REST_M_S:
                break
            next_ns = min(t_ns + PEEK_NS, edges[0][0] if edges else end_ns)
            steps = -(-(next_ns - t_ns) // STEP_NS)
            step_s, quiet = (next_ns - t_ns) / steps / NANOSECONDS, SILENCE[: 2 * steps]
            if self._foreign is not None:
                self._foreign.advance(state, command, steps, step_s, quiet, 0, (0.0, 0.0), 1e9)
            elif self._rough is None:
                _advance(state, command, steps, step_s, quiet, 0, 0.0, 0.0, self._model, 1e9)
            else:
                rough.advance_rough(
                    state, drive, command, steps, step_s, t_ns / NANOSECONDS, quiet, 0.0, 0.0,
                    self._model, self._rough, 1e9,
                )  # fmt: skip
            far, t_ns = max(far, abs(float(state[P]))), next_ns
        return far

    # What boards see (`cartpole.sim.boards.RigPlant`).

    def counts(self, t_ns: int) -> tuple[int, int]:
        """Cart and pole counts; the zero of both is the middle of the track, hanging."""
        p, _, theta, _ = self.advance(t_ns)
        cart, pole = math.floor(p * self._cart_scale), math.floor(theta * self._pole_scale)
        return self.encoders.read(self._t_ns, cart, pole)

    def limits(self, t_ns: int) -> tuple[bool, bool]:
        """The left and the right switch."""
        p = self.advance(t_ns)[P]
        return self.trouble.pressed((p <= -self._switch_m, p >= self._switch_m))

    def command(self, t_ns: int, velocity_m_s: float) -> None:
        """A command at the driver; it acts after the true delay."""
        if self.trouble.drive_held:
            return
        if self.trouble.drive_dead:
            velocity_m_s = 0.0
        if self._command_step:
            velocity_m_s = self._command_step * round(velocity_m_s / self._command_step)
        self.told = (t_ns, velocity_m_s)
        acts_ns = t_ns + round(self.parameters.delay_s * NANOSECONDS)
        self._pending.append((max(acts_ns, self._t_ns), velocity_m_s))
