"""IPOPT on the rig's own problems: the same plan, and the time-optimal swing-up."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cartpole.rules.model import true_model

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.optimizer.problem import Problem

FloatArray = npt.NDArray[np.float64]


class RigIpopt:
    """The planner's problem (states p, v, theta, omega, u; input the rate of u) for IPOPT, in C."""

    def __init__(self, problem: Problem, folder: Path) -> None:
        import casadi as ca

        n, model, weights = problem.horizon, problem.model, problem.weights
        h = float(problem.steps_s[0])
        tau = model.tau_s
        x, w = ca.SX.sym("x", 5), ca.SX.sym("w")
        u = x[4] + h * w
        e = u - x[1]
        decay = float(np.exp(-h / tau))

        def rate(theta: Any, omega: Any, share: float) -> Any:
            drive = model.gravity_m_s2 * ca.sin(theta) + share * e / tau * ca.cos(theta)
            return ca.vertcat(omega, -model.coupling_1_m * drive - model.damping_1_s * omega)

        pole = x[2:4]
        middle = float(np.exp(-0.5 * h / tau))
        k1 = rate(pole[0], pole[1], 1.0)
        q = pole + h / 2 * k1
        k2 = rate(q[0], q[1], middle)
        q = pole + h / 2 * k2
        k3 = rate(q[0], q[1], middle)
        q = pole + h * k3
        k4 = rate(q[0], q[1], decay)
        after = pole + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        p = x[0] + h * x[1] + (h - tau * (1.0 - decay)) * e
        f = ca.Function("f", [x, w], [ca.vertcat(p, x[1] + (1.0 - decay) * e, after, u)])
        z = ca.MX.sym("z", 6 * n + 5)
        start, target = ca.MX.sym("start", 5), ca.MX.sym("target")
        stages = ca.reshape(z[: 6 * n], 6, n)
        xs, ws, last = stages[:5, :], stages[5, :], z[6 * n :]
        following = ca.horzcat(xs[:, 1:], last)
        lead = problem.limits.lead_p * following[0, :] + problem.limits.lead_v * following[1, :]
        g = ca.vertcat(ca.vec(following - f.map(n)(xs, ws)), xs[:, 0] - start, ca.vec(lead))
        us = following[4, :]
        cost = h * (
            weights.position * ca.sumsqr(xs[0, :])
            + weights.velocity * ca.sumsqr(xs[1, :])
            + weights.angle * ca.sumsqr(xs[2, :] - target)
            + weights.rate_of_angle * ca.sumsqr(xs[3, :])
            + weights.command * ca.sumsqr(us)
            + weights.rate * ca.sumsqr(ws)
        )
        off = last - ca.vertcat(0, 0, target, 0, 0)
        cost += 0.5 * ca.dot(off, ca.mtimes(ca.DM(problem.terminal), off))
        limits = problem.limits
        bound = np.array([limits.position_m, np.inf, np.inf, np.inf, limits.command])
        high = np.concatenate([np.tile([*bound, limits.rate], n), bound])
        high[:5] = np.inf
        room = np.concatenate([np.zeros(5 * n + 5), np.full(n, limits.lead)])
        self.bounds = {"lbx": -high, "ubx": high, "lbg": -room, "ubg": room}
        options: dict[str, Any] = {
            "print_time": False,
            "error_on_fail": False,
            "ipopt": {"print_level": 0, "sb": "yes", "tol": 1e-6, "max_iter": 1000},
        }
        if shutil.which("gcc") is not None:
            options |= {
                "jit": True,
                "compiler": "shell",
                "jit_options": {"flags": ["-O2"], "compiler": "gcc"},
                "jit_temp_suffix": True,
            }
        nlp = {"x": z, "f": cost, "g": g, "p": ca.vertcat(start, target)}
        self.solver = ca.nlpsol("rig", "ipopt", nlp, options)
        self.n = n
        self.folder = folder

    def solve(
        self, state: FloatArray, states: FloatArray, inputs: FloatArray, target: float
    ) -> float | None:
        """Cost of the plan from a guess, or None if IPOPT did not converge."""
        guess = np.concatenate([np.column_stack([states[:-1], inputs]).ravel(), states[-1]])
        r = self.solver(x0=guess, p=np.append(state, target), **self.bounds)
        return float(r["f"]) if self.solver.stats()["success"] else None


class TimeOptimal:
    """Least time from hanging to exact rest upright on the true rig, with the rate-limited command.

    One normalised problem with the rig as parameters, built once; a local method from several
    guesses, so the figure is an upper bound of the least time, and close to it.
    """

    STEPS = 60

    def __init__(self) -> None:
        import casadi as ca

        n = self.STEPS
        x, w, rig = ca.SX.sym("x", 5), ca.SX.sym("w"), ca.SX.sym("rig", 4)  # T, c, b, tau
        h = rig[0] / n

        def rate(s: Any) -> Any:
            u = x[4] + h * w
            a = (u - s[1]) / rig[3]
            drive = 9.81 * ca.sin(s[2]) + a * ca.cos(s[2])
            return ca.vertcat(s[1], a, s[3], -rig[1] * drive - rig[2] * s[3])

        s = x[:4]
        k1 = rate(s)
        k2 = rate(s + h / 2 * k1)
        k3 = rate(s + h / 2 * k2)
        k4 = rate(s + h * k3)
        after = ca.vertcat(s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), x[4] + h * w)
        f = ca.Function("f", [x, w, rig], [after])
        z = ca.MX.sym("z", 6 * n + 6)
        constants = ca.MX.sym("constants", 3)
        stages = ca.reshape(z[: 6 * n], 6, n)
        xs, ws, last, total = stages[:5, :], stages[5, :], z[6 * n : 6 * n + 5], z[6 * n + 5]
        following = ca.horzcat(xs[:, 1:], last)
        columns = ca.repmat(ca.vertcat(total, constants), 1, n)
        g = ca.vec(following - f.map(n)(xs, ws, columns))
        nlp = {"x": z, "f": total, "g": g, "p": constants}
        options = {
            "print_time": False,
            "error_on_fail": False,
            "ipopt": {"print_level": 0, "sb": "yes", "tol": 1e-5, "max_iter": 250},
        }
        self.solver = ca.nlpsol("fastest", "ipopt", nlp, options)

    def solve(self, config: Config) -> float | None:
        """Seconds, or None if no guess led to a solution."""
        n, rig, truth = self.STEPS, config.rig, true_model(config)
        high = np.array([rig.position_limit_m, np.inf, np.inf, np.inf, rig.velocity_limit_m_s])
        upper = np.concatenate(
            [np.tile([*high, rig.acceleration_limit_m_s2], n), np.zeros(5), [4.5]]
        )
        lower = -upper
        upper[:5] = lower[:5] = 0.0
        upper[6 * n : 6 * n + 5] = lower[6 * n : 6 * n + 5] = (0.0, 0.0, np.pi, 0.0, 0.0)
        lower[-1] = 0.3
        constants = [truth.coupling_1_m, truth.damping_1_s, truth.tau_s]
        pole_time = truth.characteristic_time_s
        best = None
        for total, swings in ((9.0, 1.0), (12.0, 1.5)):
            t = np.linspace(0.0, 1.0, n + 1)
            guess = np.zeros((n + 1, 6))
            guess[:, 2] = np.pi * t**2 - 0.8 * np.sin(2.0 * np.pi * swings * t) * (1.0 - t)
            guess[:, 0] = 0.5 * rig.position_limit_m * np.sin(2.0 * np.pi * swings * t)
            start = np.append(guess.ravel()[: 6 * n + 5], min(total * pole_time, 4.0))
            r = self.solver(x0=start, p=constants, lbx=lower, ubx=upper, lbg=0.0, ubg=0.0)
            if self.solver.stats()["success"]:
                seconds = float(r["f"])
                best = seconds if best is None else min(best, seconds)
        return best
