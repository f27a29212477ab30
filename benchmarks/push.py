"""How hard a push the held pole bears, against the hardest that anybody could catch.

A push is a jump of the pole's rate. It is caught if the pole never gets further than a quarter turn
from upright and stands within .1 rad two and a half seconds later. What is possible is the largest
jump, from where rig and pole are at that moment, for which commands inside the rig's limits and
its room for a silent host lead back to rest (IPOPT on the true model without noise, from several
guesses), the first of them acting when the first command can act that knows of the push: a period
and the drive's delay later.

    python benchmarks/push.py [--seeds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fresh_kernels  # noqa: F401  before numba is imported
import numpy as np

from cartpole.config.schema import Config
from cartpole.messages import NANOSECONDS, FloatArray, Request
from cartpole.rules.control import governor_limits
from cartpole.rules.model import true_model
from cartpole.session.summary import from_upright
from cartpole.sim.run import VirtualRun

if TYPE_CHECKING:
    from cartpole.sim.rig import VirtualRig

PUSH_S, JUDGED_S = 5.0, 7.5
SHARES = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
STEPS, STEP_S = 120, 0.02


class Hardest:
    """The largest jump of the rate [rad/s] that can be caught from a state (5,) = (p, v, theta,
    omega, u) at the push, theta near pi; built once."""

    def __init__(self, config: Config) -> None:
        import casadi as ca

        rig, model = config.rig, true_model(config)
        opti = ca.Opti()
        x, w = opti.variable(5, STEPS + 1), opti.variable(1, STEPS)
        begin, jump, side = opti.parameter(5), opti.variable(), opti.parameter()

        def rate(s: Any, u: Any) -> Any:
            a = (u - s[1]) / model.tau_s
            drive = model.gravity_m_s2 * ca.sin(s[2]) + a * ca.cos(s[2])
            turn = -model.coupling_1_m * drive - model.damping_1_s * s[3]
            return ca.vertcat(s[1], a, s[3], turn)

        def step(s: Any, u: Any, h: float) -> Any:
            k1 = rate(s, u)
            k2 = rate(s + h / 2 * k1, u)
            k3 = rate(s + h / 2 * k2, u)
            k4 = rate(s + h * k3, u)
            return s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

        unknown = config.controller.period_s + model.delay_s
        hit = ca.vertcat(begin[:3], begin[3] + side * jump)
        opti.subject_to(x[:4, 0] == step(hit, begin[4], unknown))
        opti.subject_to(x[4, 0] == begin[4])
        for k in range(STEPS):
            u = x[4, k] + STEP_S * w[k]
            opti.subject_to(x[:4, k + 1] == step(x[:4, k], u, STEP_S))
            opti.subject_to(x[4, k + 1] == u)
        last = x[:, STEPS]
        opti.subject_to(last[1:] == ca.vertcat(0, math.pi, 0, 0))
        rates = rig.acceleration_limit_m_s2
        opti.subject_to(opti.bounded(-rig.position_limit_m, x[0, :], rig.position_limit_m))
        opti.subject_to(opti.bounded(-rig.velocity_limit_m_s, x[4, :], rig.velocity_limit_m_s))
        opti.subject_to(opti.bounded(-rates, w, rates))
        opti.subject_to(opti.bounded(math.pi / 2, x[2, :], 1.5 * math.pi))
        # The room for a host that falls silent, of the governor (``docs/safety.md``).
        room = governor_limits(config)
        for sign in (-1.0, 1.0):
            way = sign * x[0, :] + sign * x[1, :] * (room.notice_s + model.tau_s)
            brake = x[1, :] ** 2 / (2.0 * rates)
            opti.subject_to(way + brake <= room.stop_m - room.margin_m)
        opti.minimize(-jump)
        quiet = {"print_level": 0, "sb": "yes", "max_iter": 500}
        opti.solver("ipopt", {"print_time": False}, quiet)
        self._opti, self._x, self._begin, self._jump, self._side = opti, x, begin, jump, side

    def find(self, state: FloatArray, side: float) -> float:
        """From ``state``, towards ``side`` (-1 or 1); 0 if IPOPT found nothing."""
        opti, best = self._opti, 0.0
        opti.set_value(self._begin, state)
        opti.set_value(self._side, side)
        for guess in (0.5, 1.0):
            opti.set_initial(self._x, np.tile([[0.0], [0.0], [math.pi], [0.0], [0.0]], STEPS + 1))
            opti.set_initial(self._jump, guess)
            try:
                best = max(best, float(opti.solve().value(self._jump)))
            except RuntimeError:
                continue
        return best


def at_push(config: Config, seed: int) -> FloatArray:
    """(5,) where a flight of this seed is when it is pushed, theta brought to the turn of pi."""
    command = 0.0
    for tick in VirtualRun(config, seed).ticks():
        if tick.record.input.now_ns >= round(PUSH_S * NANOSECONDS):
            p, v, theta, omega = tick.truth
            return np.array([p, v, math.pi + from_upright(theta), omega, command])
        command = tick.record.command.velocity_m_s
    raise AssertionError("a run's ticks never end")


def caught(config: Config, seed: int, jump_rad_s: float) -> bool:
    """Whether this push is caught."""
    pushed: list[int] = []

    def push(now_ns: int, rig: VirtualRig) -> tuple[Request, ...]:
        # Before the tick of ``now_ns``: the rig stands at the time of the tick before.
        if now_ns > round(PUSH_S * NANOSECONDS) and not pushed:
            pushed.append(now_ns)
            rig.plant.push(0.0, jump_rad_s)
        return ()

    for tick in VirtualRun(config, seed, disturb=push).ticks():
        angle = from_upright(tick.truth[2])
        if pushed and abs(angle) > math.pi / 2:
            return False
        if tick.record.input.now_ns >= JUDGED_S * NANOSECONDS:
            return abs(angle) < 0.1
    raise AssertionError("a run's ticks never end")


def main() -> None:
    """Push, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    config = Config()
    hardest, possible = Hardest(config), {}
    for seed in range(args.seeds):
        state = at_push(config, seed)
        for side in (-1.0, 1.0):
            possible[seed, side] = hardest.find(state, side)
    shares = {
        share: float(
            np.mean(
                [caught(config, key[0], key[1] * share * most) for key, most in possible.items()]
            )
        )
        for share in SHARES
    }
    best = [share for share in SHARES if all(shares[s] == 1.0 for s in SHARES if s <= share)]
    result = {
        "possible_rad_s_median": float(np.median(list(possible.values()))),
        "caught": max(best, default=None),
        "shares": shares,
    }
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
