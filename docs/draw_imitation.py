"""Draw what imitation of a force-driven cart comes to: pictures/learning_imitation.png.

    python docs/draw_imitation.py

Left: four parameters (both masses, length, gravity) from the commands of 10, 50 and 100 experts,
starts times or over 4.5: their worst error, for commands that are exact or known to 1 and 10 % of
their rms. Right: experts whose pole has friction and whose cart stands in the wind, imitated by the
cart without either and by one that has both: how far the commands of other starts are off.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from cartpole.kernel_cache import use_kernel_cache

use_kernel_cache()

import matplotlib as mpl  # noqa: E402

mpl.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from cartpole.learning.imitation import commands, imitate, make_solver  # noqa: E402
from cartpole.messages import FloatArray  # noqa: E402
from cartpole.model.programs import compile_program  # noqa: E402

ROOT = Path(__file__).resolve().parent
PICTURE = ROOT / "pictures" / "learning_imitation.png"
EXAMPLE = runpy.run_path(str(ROOT.parent / "examples" / "force_cart.py"))
TRUTH = np.array(EXAMPLE["TRUTH"])
FRICTION_1_S, WIND_N = 0.5, 1.0
STEPS, COUNTS, SEEDS, NOISES = 20, (10, 50, 100), 5, (0.0, 0.01, 0.1)
# Of fits that must end at zero, and of those that cannot.
EXACT, ROUGH = 40, 10
STEP_S = EXAMPLE["STEP_S"]


def windy(x: Any, u: Any, q: Any, m: Any) -> Any:
    """The example's step with friction q[4] [1/s] and wind q[5] [N]."""
    slide, turn = EXAMPLE["pushed"](x[2], x[3], u[0] + q[5], q[:4], m, q[4])
    rates = (x[1], slide, x[3], turn)
    return tuple(value + STEP_S * rate for value, rate in zip(x, rates, strict=True))


def starts_of(rng: np.random.Generator, count: int) -> FloatArray:
    return rng.uniform(-1.0, 1.0, (count, 4)) * [0.5, 0.5, 0.8, 1.0]


def shown(plan: Any, starts: FloatArray, q: FloatArray) -> FloatArray:
    """Commands [N] of plans from ``starts``."""
    return commands(plan, starts, q, np.zeros((len(starts), STEPS)))[0]


def first_guess(rng: np.random.Generator, q: FloatArray) -> FloatArray:
    guess: FloatArray = q * np.exp(rng.uniform(-1.0, 1.0, len(q)) * np.log(4.5))
    return guess


def parameters_off(plan: Any, count: int, noise: float, seed: int) -> float:
    """Worst relative error of the four parameters."""
    rng = np.random.default_rng(seed)
    starts = starts_of(rng, count)
    expert = shown(plan, starts, TRUTH)
    size = noise * float(np.sqrt(np.mean(expert**2)))
    expert = expert + size * rng.normal(size=expert.shape)
    found = imitate(
        plan, starts, expert, first_guess(rng, TRUTH), rng, good=max(1e-9, 1.2 * size),
        restarts=ROUGH if noise else EXACT,
    )  # fmt: skip
    return float(np.abs(found.parameters / TRUTH - 1.0).max())


def commands_off(plan: Any, other: Any, count: int, seed: int) -> tuple[float, float]:
    """Of other starts' commands [N], by the cart without friction and wind and by that with."""
    rng = np.random.default_rng(seed)
    true = np.append(TRUTH, (FRICTION_1_S, WIND_N))
    starts, aside = starts_of(rng, count), starts_of(rng, 50)
    expert, held = shown(other, starts, true), shown(other, aside, true)
    off = []
    for solve, q in ((plan, TRUTH), (other, true)):
        first = first_guess(rng, q)
        found = imitate(
            solve, starts, expert, first, rng, restarts=ROUGH if solve is plan else EXACT
        ).parameters
        off.append(float(np.sqrt(np.mean((shown(solve, aside, found) - held) ** 2))))
    return off[0], off[1]


def main() -> None:
    sizes = {"states": 4, "inputs": 1}
    plan = make_solver(compile_program(EXAMPLE["dynamics"], EXAMPLE["cost"], **sizes, parameters=4))
    left = {
        noise: [[parameters_off(plan, n, noise, seed) for seed in range(SEEDS)] for n in COUNTS]
        for noise in NOISES
    }
    print(left, flush=True)
    other = make_solver(compile_program(windy, EXAMPLE["cost"], **sizes, parameters=6))
    right = np.array([[commands_off(plan, other, n, s) for s in range(SEEDS)] for n in COUNTS])
    print(right.tolist(), flush=True)
    figure, (ax, bx) = plt.subplots(1, 2, figsize=(9.0, 3.8))
    for noise, rows in left.items():
        told = "exact commands" if noise == 0.0 else f"commands known to {100 * noise:.0f} %"
        (line,) = ax.loglog(COUNTS, np.median(rows, axis=1), marker="o", label=told)
        ax.loglog(COUNTS, np.max(rows, axis=1), linestyle=":", color=line.get_color())
    ax.set(
        xlabel="experts", ylabel="relative error, dotted: worst seed",
        title="worst of mass, pole's mass, length, gravity",
    )  # fmt: skip
    for i, told in enumerate(("equations without them", "with them, fitted, too")):
        (line,) = bx.loglog(COUNTS, np.median(right[:, :, i], axis=1), marker="o", label=told)
        bx.loglog(COUNTS, np.max(right[:, :, i], axis=1), linestyle=":", color=line.get_color())
    bx.set(
        xlabel="experts", ylabel="rms error of other commands [N]",
        title="experts with friction and wind",
    )  # fmt: skip
    for one in (ax, bx):
        one.set_xticks(COUNTS, [str(count) for count in COUNTS])
        one.minorticks_off()
        one.legend()
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=80)


if __name__ == "__main__":
    main()
