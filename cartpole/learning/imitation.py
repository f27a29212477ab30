"""Imitation of recorded commands: parameters of an expert's model from its commands alone.

The expert's plan is the unlimited optimum of a program over a horizon. Plans are found by Newton's
method on rollouts (exact second derivatives, block recursion, backtracking); commands differentiate
by the parameters through the same recursion; Gauss-Newton with Levenberg's damping on their
logarithms fits them. A least-squares problem with zero residual converges quadratically that way,
where first-order methods take thousands of steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from cartpole.errors import UsageError
from cartpole.messages import FloatArray
from cartpole.model.programs import Program

SETTLED = 1e-11
# A plan with a larger residual is none.
FAILED = 1e-5
STEPS = 40
DAMPING = 1e-3
# The range of each parameter within which a fit may look, as a factor of its first guess.
RANGE = 30.0


@dataclass(frozen=True, slots=True)
class Fit:
    """What imitation found: parameters (p,), rms of the commands' errors, steps and restarts."""

    parameters: FloatArray
    rms: float
    steps: int
    restarts: int


@njit(cache=True, nogil=True, error_model="numpy")
def times(a: Any, b: Any, out: Any) -> None:
    """out = a b for small matrices (compiled faster, too, than a library's product)."""
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            total = 0.0
            for k in range(a.shape[1]):
                total += a[i, k] * b[k, j]
            out[i, j] = total


@njit(cache=True, nogil=True, error_model="numpy")
def transposed_times(a: Any, b: Any, out: Any) -> None:
    """out += a' b."""
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            total = 0.0
            for k in range(a.shape[0]):
                total += a[k, i] * b[k, j]
            out[i, j] += total


def make_solver(program: Program) -> Any:
    """``solve(x0 (n,), q (p,), us (T,), du (T, p)) -> residual``: plans in place, compiled.

    ``us`` is the first guess and becomes the plan; ``du`` its derivative by the parameters. One
    input. The backward sweep carries the cost-to-go's Hessian V (n, n), and in the columns of W the
    change of its gradient and that gradient's derivative by the parameters (n, 1 + p).
    """
    if program.inputs != 1:
        raise UsageError(f"imitation is of one command, not of {program.inputs}")
    parts, n, p = program.parts, program.states, program.parameters

    def solve(x0: Any, q: Any, us: Any, du: Any) -> float:
        horizon = us.shape[0]
        xs, nx, nu = np.zeros((horizon + 1, n)), np.zeros((horizon + 1, n)), np.zeros(horizon)
        f, fz, fq = np.zeros(n), np.zeros((n, n + 1)), np.zeros((n, p))
        hq, eq = np.zeros((n + 1, p)), np.zeros((n, p))
        g, u, lam, c = np.zeros(n + 1), np.zeros(1), np.zeros(n), np.zeros(1)
        gains, feed, mixed = np.zeros((horizon, n)), np.zeros(horizon), np.zeros((horizon, p))
        jac, by_q = np.zeros((horizon, n, n + 1)), np.zeros((horizon, n, p))
        v, w, vf = np.zeros((n, n)), np.zeros((n, 1 + p)), np.zeros((n, n + 1))
        t, pull = np.zeros((n, 1 + p)), np.zeros(n + 1)
        total, right = np.zeros((n + 1, n + 1)), np.zeros((n + 1, 1 + p))
        for i in range(n):
            xs[0, i] = nx[0, i] = x0[i]
        value = np.inf
        fall = 0.0
        good = True
        shift = 0.0
        worst = np.inf
        for _trial in range(STEPS):
            # Feedback and feed-forward of before, as far as the cost falls; at first a rollout.
            moved = False
            if good:
                alpha = 1.0
                for _half in range(30):
                    found = 0.0
                    for k in range(horizon):
                        u[0] = us[k] + alpha * feed[k]
                        for i in range(n):
                            u[0] += gains[k, i] * (nx[k, i] - xs[k, i])
                        nu[k] = u[0]
                        parts.cost(nx[k], u, q, c)
                        found += c[0]
                        parts.step(nx[k], u, q, nx[k + 1])
                    parts.last(nx[horizon], q, c)
                    found += c[0]
                    if found <= value + 1e-4 * alpha * fall + 1e-13 * abs(value):
                        moved = True
                        break
                    alpha *= 0.5
            if moved:
                xs[:] = nx
                us[:] = nu
                value = found
                shift = 0.0 if shift < 1e-3 else 0.2 * shift
            elif shift > 1e8 or (good and shift == 0.0 and worst < 1e-7):
                break
            else:
                shift = max(1e-4, 4.0 * shift)
            parts.end(xs[horizon], q, g, v)
            parts.end_mixed(xs[horizon], q, eq)
            for i in range(n):
                lam[i] = g[i]
                w[i, 0] = 0.0
                for j in range(p):
                    w[i, 1 + j] = eq[i, j]
            worst = 0.0
            fall = 0.0
            good = True
            for back in range(horizon):
                k = horizon - 1 - back
                u[0] = us[k]
                parts.stage(xs[k], u, q, lam, f, fz, g, total)
                parts.mixed(xs[k], u, q, lam, fq, hq)
                for i in range(n):
                    for j in range(n + 1):
                        jac[k, i, j] = fz[i, j]
                    for j in range(p):
                        by_q[k, i, j] = fq[i, j]
                # M = Q + F' V F, m = F' (w + V f_q) with the cost's own mixed derivatives.
                times(v, fz, vf)
                transposed_times(fz, vf, total)
                for i in range(n):
                    t[i, 0] = w[i, 0]
                    for j in range(p):
                        t[i, 1 + j] = w[i, 1 + j]
                        for r in range(n):
                            t[i, 1 + j] += v[i, r] * fq[r, j]
                right[:] = 0.0
                for i in range(n + 1):
                    for j in range(p):
                        right[i, 1 + j] = hq[i, j]
                transposed_times(fz, t, right)
                for i in range(n + 1):
                    pull[i] = g[i]
                    for r in range(n):
                        pull[i] += fz[r, i] * lam[r]
                worst = max(worst, abs(pull[n]))
                own = total[n, n] + shift
                if not own > 1e-9:
                    good = False
                    break
                right[n, 0] += pull[n]
                feed[k] = -right[n, 0] / own
                fall += right[n, 0] * feed[k]
                for i in range(n):
                    gains[k, i] = -total[n, i] / own
                    lam[i] = pull[i]
                for j in range(p):
                    mixed[k, j] = -right[n, 1 + j] / own
                for i in range(n):
                    for j in range(n):
                        v[i, j] = 0.5 * (total[i, j] + total[j, i]) + total[n, i] * gains[k, j]
                    w[i, 0] = right[i, 0] + total[n, i] * feed[k]
                    for j in range(p):
                        w[i, 1 + j] = right[i, 1 + j] + total[n, i] * mixed[k, j]
            if good and worst < SETTLED * max(1.0, abs(value)) and shift == 0.0:
                break
        # Commands by q: forward through the same gains.
        dx, dn = np.zeros((n, p)), np.zeros((n, p))
        for k in range(horizon):
            for j in range(p):
                du[k, j] = mixed[k, j]
                for i in range(n):
                    du[k, j] += gains[k, i] * dx[i, j]
            for i in range(n):
                for j in range(p):
                    dn[i, j] = by_q[k, i, j] + jac[k, i, n] * du[k, j]
                    for r in range(n):
                        dn[i, j] += jac[k, i, r] * dx[r, j]
            dx[:] = dn
        return worst

    return njit(cache=True, nogil=True, error_model="numpy")(solve)


def commands(
    solve: Any, starts: FloatArray, q: FloatArray, guess: FloatArray, give_up: float = np.inf
) -> tuple[FloatArray, FloatArray, float]:
    """Plans (B, T) from ``starts`` (B, n), their derivatives (B, T, p), worst residual.

    Ends with the first plan whose residual exceeds ``give_up``: absurd parameters have plans that
    do not converge, and each of them takes all the steps that it may.
    """
    us = guess.copy()
    du = np.zeros((*us.shape, len(q)))
    worst = 0.0
    for i, start in enumerate(starts):
        residual = float(solve(start, q, us[i], du[i]))
        worst = max(worst, residual)
        if not residual <= give_up:
            return us, du, np.inf
    return us, du, worst


def imitate(
    solve: Any,
    starts: FloatArray,
    expert: FloatArray,
    first: FloatArray,
    rng: np.random.Generator,
    *,
    good: float = 1e-9,
    restarts: int = 40,
) -> Fit:
    """Parameters whose plans are the expert's commands (B, T), from ``first`` (p,)."""
    best = Fit(first, np.inf, 0, 0)
    taken = 0
    for restart in range(restarts):
        log = np.log(first)
        if restart > 0:
            log = log + rng.uniform(-1.0, 1.0, len(first)) * np.log(4.5)
        with np.errstate(over="ignore", invalid="ignore"):  # far guesses are seen as infinite
            log, rms, steps = _descend(solve, starts, expert, log, np.log(first))
        taken += steps
        if rms < best.rms:
            best = Fit(np.exp(log), rms, taken, restart)
        if best.rms < good * max(1.0, float(np.abs(expert).max())):
            break
    return best


def _descend(
    solve: Any, starts: FloatArray, expert: FloatArray, log: FloatArray, middle: FloatArray
) -> tuple[FloatArray, float, int]:
    """Gauss-Newton from one start: (log parameters, rms, steps). Plans begin at the expert's."""
    damping = DAMPING
    us, du, worst = commands(solve, starts, np.exp(log), expert, FAILED)
    if not worst <= FAILED:
        return log, np.inf, 0
    error = us - expert
    now = float(np.sqrt(np.mean(error**2)))
    for done in range(60):
        jacobian = (du * np.exp(log)).reshape(-1, len(log))
        normal = jacobian.T @ jacobian
        slope = jacobian.T @ error.ravel()
        if not np.isfinite(normal).all():
            return log, np.inf, done
        change = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-12), -slope)
        change *= min(1.0, 1.0 / max(1e-300, float(np.abs(change).max())))
        trial = np.clip(log + change, middle - np.log(RANGE), middle + np.log(RANGE))
        us, new_du, worst = commands(solve, starts, np.exp(trial), expert, FAILED)
        rms = float(np.sqrt(np.mean((us - expert) ** 2)))
        if np.isfinite(rms) and worst <= FAILED and rms < now:
            log, du, error, now = trial, new_du, us - expert, rms
            damping = max(1e-15, 0.1 * damping)
            if np.abs(change).max() < 1e-12 or now < 1e-13:
                return log, now, done
        else:
            damping = max(1e-9, 10.0 * damping)
            if damping > 1e6 or np.abs(change).max() < 1e-13:
                return log, now, done
    return log, now, 60
