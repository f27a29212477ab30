"""Draws the pictures of optimizer.md: python docs/draw_optimizer.py"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from cartpole.config.schema import Config, Optimizer
from cartpole.optimizer.compiled import layout as rows_of
from cartpole.optimizer.compiled.solver import Guess, Solver
from cartpole.optimizer.compiled.workspace import rows
from cartpole.optimizer.penalty.solver import STEPS_PER_TICK, PenaltySolver
from cartpole.optimizer.problem import regulator
from cartpole.optimizer.torch.solver import TorchSolver
from cartpole.rules.optimizer import problem_from_config

PICTURES = Path(__file__).resolve().parent / "pictures"
KICK = Guess(1.0, 0.2, 1.0, math.pi)
# Order of a block of the KKT matrix: rate, multipliers (5), state (5).
BLOCK = 11
SETTLED = 1e-7


def save(figure: plt.Figure, name: str) -> None:
    figure.tight_layout()
    figure.savefig(PICTURES / f"optimizer_{name}.png", dpi=80)
    plt.close(figure)


def kkt_matrix(stages: int) -> np.ndarray:
    """The KKT matrix over (w, multipliers, y)_k from the torch backend's derivatives."""
    problem = problem_from_config(Config(optimizer=Optimizer(horizon_steps=100)))
    solver = TorchSolver(problem)
    solver.start(np.zeros(5), KICK)
    solver.solve(3)
    size = stages * BLOCK
    matrix = np.zeros((size, size))
    curvature = solver.parts.hessian.copy()
    curvature[:, 2:5, 2:5] += solver.parts.curvature
    row = {name: rows(solver.rows, getattr(rows_of, name)) for name in (
        "H", "C2", "E1", "D", "F11", "F12", "G1", "F21", "F22", "G2")}  # fmt: skip
    for k in range(stages):
        at = k * BLOCK
        h = row["H"][k]
        step = np.zeros((5, 5))
        step[0] = (1.0, h, 0.0, 0.0, row["C2"][k])
        step[1] = (0.0, 1.0, 0.0, 0.0, row["E1"][k])
        step[2, 2:] = (row["F11"][k], row["F12"][k], row["G1"][k])
        step[3, 2:] = (row["F21"][k], row["F22"][k], row["G2"][k])
        step[4, 4] = row["D"][k]
        w, lam, nxt = at, slice(at + 1, at + 6), slice(at + 6, at + 11)
        matrix[w, w] = 1.0
        matrix[lam, w] = matrix[w, lam] = h * step[:, 4]
        matrix[lam, nxt] = matrix[nxt, lam] = -np.eye(5)
        matrix[nxt, nxt] = curvature[k, :5, :5]
        if k > 0:
            before = slice(at - 5, at)
            matrix[lam, before] = step
            matrix[before, lam] = step.T
            matrix[w, before] = matrix[before, w] = h * curvature[k, 4, :5]
    return matrix


def band() -> None:
    """Where the KKT matrix and the penalty's Hessian have entries."""
    problem = problem_from_config(Config())
    penalty = PenaltySolver(problem)
    lower = penalty.band(np.full_like(penalty.y, 0.1))[0]
    size = 6 * 5
    dense = np.zeros((size, size))
    for offset in range(lower.shape[0]):
        values = lower[offset, : size - offset]
        dense[np.arange(offset, size), np.arange(size - offset)] = values
        dense[np.arange(size - offset), np.arange(offset, size)] = values
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 4.3))
    for ax, matrix, block, text in (
        (axes[0], kkt_matrix(6), BLOCK, "KKT matrix, half width 10"),
        (axes[1], dense, 5, "penalty method, half width 9"),
    ):
        # Size of the entries, as grey: zero is white.
        ax.imshow(np.log10(np.abs(matrix) + 1e-6), cmap="Greys", interpolation="nearest")
        for edge in range(0, matrix.shape[0] + 1, block):
            ax.axhline(edge - 0.5, color="tab:blue", linewidth=0.5)
            ax.axvline(edge - 0.5, color="tab:blue", linewidth=0.5)
        ax.set(title=f"{text}, first six steps", xticks=[], yticks=[])
    save(figure, "band")


def recursion() -> None:
    """The cost-to-go travels backward, the direction forward."""
    figure, ax = plt.subplots(figsize=(8.5, 2.9))
    ax.axis("off")
    ax.set(xlim=(0.0, 10.2), ylim=(0.0, 3.0))
    arrow = {"arrowstyle": "->", "linewidth": 1.5}
    names = ("0", "1", "2", "...", "N-1", "N")
    for i, name in enumerate(names):
        x = 0.6 + 1.8 * i
        ax.text(
            x, 1.5, f"stage {name}" if name != "..." else name, ha="center", va="center",
            bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "black"},
        )  # fmt: skip
        if i == len(names) - 1:
            continue
        ax.annotate("", (x + 0.1, 2.1), (x + 1.7, 2.1), arrowprops=arrow | {"color": "tab:blue"})
        ax.annotate("", (x + 1.7, 0.9), (x + 0.1, 0.9), arrowprops=arrow | {"color": "tab:red"})
    ax.text(
        5.1, 2.6, "backward: cost-to-go P, s (5 x 5, 5); keep the gains K, k of each stage",
        ha="center", color="tab:blue",
    )  # fmt: skip
    ax.text(
        5.1, 0.3, "forward: dw = k + K dy;  dy' = A dy + B dw + c;  multipliers = P dy + s",
        ha="center", color="tab:red",
    )  # fmt: skip
    save(figure, "recursion")


def iteration() -> None:
    """From the first motion to the plan: angle and command after some Newton steps."""
    problem = problem_from_config(Config())
    gain = regulator(problem.model, problem.weights, 0.02)[0]
    solver = Solver(problem, gain=gain, mu=1e-6, tolerance=1e-6)
    solver.start(np.zeros(5), KICK)
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.4))
    done, residuals = 0, []
    shown = {0, 5, 40}
    time = np.concatenate(([0.0], np.cumsum(problem.steps_s)))
    for _step in range(200):
        solution = solver.solution()
        if done in shown:
            axes[0].plot(time, solution.states[:, 2], label=f"{done}")
            axes[1].plot(time, solution.states[:, 4])
        if solver.solve(1).name not in ("BUDGET", "FEASIBLE", "CONVERGED"):
            break
        done += 1
        residuals.append(solver.solution().residual)
        if residuals[-1] < 2e-6:
            break
    solution = solver.solution()
    axes[0].plot(time, solution.states[:, 2], "k", label=f"{done}")
    axes[1].plot(time, solution.states[:, 4], "k")
    axes[2].semilogy(np.arange(1, done + 1), residuals, "k")
    limit = problem.limits.command
    axes[1].axhline(limit, color="tab:red", linewidth=0.8)
    axes[1].axhline(-limit, color="tab:red", linewidth=0.8)
    axes[0].set(xlabel="time [s]", title="angle [rad]")
    axes[1].set(xlabel="time [s]", title="command [m/s] inside its limit")
    axes[2].set(xlabel="Newton steps", title="KKT residual")
    axes[0].legend(title="Newton steps")
    save(figure, "iteration")


def stalling() -> None:
    """Distance to each method's own optimum: KKT, penalty with multipliers, penalty alone."""
    problem = problem_from_config(Config())
    gain = regulator(problem.model, problem.weights, 0.02)[0]
    state = np.array([0.0, 0.0, math.pi - 0.3, 0.0, 0.0])
    problem = replace(problem, reference_m=np.full(problem.horizon + 1, 0.1))
    steps = 60
    solver = Solver(problem, gain=gain, mu=1e-6, tolerance=1e-9)
    hold = Guess(0.0, 0.0, 1.0, math.pi)
    solver.start(state, hold)
    first = solver.solution().states
    exact = Solver(problem, gain=gain, mu=1e-9, tolerance=SETTLED)
    exact.start(state, hold)
    exact.solve(400)
    curves: dict[str, list[float]] = {"Newton on the KKT system": []}
    for _step in range(steps):
        solver.solve(1)
        states = solver.solution().states
        curves["Newton on the KKT system"].append(distance(states, exact.solution().states))
    for name, moves in (("penalty and multipliers", True), ("penalty alone", False)):
        penalty = PenaltySolver(problem)
        penalty.start(state, first, math.pi)
        best = PenaltySolver(problem)
        best.start(state, first, math.pi)
        for _round in range(300):
            best.newton(STEPS_PER_TICK)
            best.lift()
        curve: list[float] = []
        for _step in range(steps):
            penalty.newton(1)
            if moves and (_step + 1) % STEPS_PER_TICK == 0:
                penalty.lift()
            curve.append(distance(penalty.y, best.y))
        curves[name] = curve
    figure, ax = plt.subplots(figsize=(7.0, 3.6))
    for name, curve in curves.items():
        ax.semilogy(np.arange(1, steps + 1), np.maximum(curve, 1e-9), label=name)
    ax.set(xlabel="Newton steps", ylabel="angle's distance to its end [rad]")
    ax.legend()
    save(figure, "penalty")


def distance(plan: np.ndarray, best: np.ndarray) -> float:
    """Largest difference of the angles."""
    return float(np.abs(plan[:, 2] - best[:, 2]).max())


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    band()
    recursion()
    iteration()
    stalling()


if __name__ == "__main__":
    main()
