"""Wrong beliefs, one by one: who is accused, how soon, and what the estimate is worth then.

Each case is flown with many seeds through the whole closed loop in virtual time. At a moment drawn
from .6 to 5.5 s, in the swing-up as well as upright, one sensor begins to lie, or something happens
to the pole; three seconds later the flight ends. A run is *right* if who is to blame is named, and
within 300 ms, and no other sensor is. A wrong state is *latched* if the estimate of the last half
second is off by more than 10 mrad, .5 rad/s or 3 mm while the loop flies on. Time counts from the
moment at which the lie can be seen: a count that sticks from where the pole has left it by 20 mrad,
counts that are lost from 5 mm on, wrong stamps from the first rate of 1 rad/s on.

    python benchmarks/culprits.py [--quick] [--runs N] [--first SEED] [--case NAME ...] [--jobs N]
        [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import fresh_kernels  # noqa: F401  before numba is imported
import numpy as np

from cartpole.config.schema import Config
from cartpole.control.modes import FLYING
from cartpole.messages import NANOSECONDS, OMEGA, THETA, FloatArray, P
from cartpole.sim.rig import VirtualRig
from cartpole.sim.run import START_NS, SimulatedTick, VirtualRun
from cartpole.sim.shutter import State

FROM_S, TO_S = 0.6, 5.5  # the swing-up begins at .5 s
AFTER_S, TAIL_S, SETTLED_S = 3.0, 0.5, 0.4
WITHIN_S = 0.3
LATCHED = {THETA: 0.01, OMEGA: 0.5, P: 0.003}
LOST_M = 0.005
SLOW_RAD_S, UPRIGHT_RAD = 1.0, 0.3
UP = frozenset({"SWING_UP", "BALANCE", "LQR_FALLBACK"})
STREAM = 41  # of the seeds that a run draws from

# Names that accuse a sensor; what else is said (findings, warnings) accuses none.
SENSORS = frozenset({
    "camera delay", "camera lost", "camera moved", "camera rejected", "encoder lost",
    "encoder silent", "missed counts", "pole encoder slipped", "pole encoder stuck", "state stale",
    "velocity stuck",
})  # fmt: skip
# Frames are refused until it is known why.
MEANWHILE = frozenset({"camera rejected"})

Strike = Callable[[VirtualRig, np.random.Generator, int], None]  # rig, chance, side
Seen = Callable[[VirtualRig, State, SimulatedTick], bool]  # rig, the truth when struck, now


def _pole_slips(counts: int, rig: VirtualRig, _chance: np.random.Generator, side: int) -> None:
    rig.plant.encoders.pole.slip(side * counts)


def _pole_sticks(rig: VirtualRig, _chance: np.random.Generator, _side: int) -> None:
    rig.plant.encoders.pole.stick(rig.plant.t_ns + 60 * NANOSECONDS)


def _cart_slips(rig: VirtualRig, chance: np.random.Generator, side: int) -> None:
    rig.plant.encoders.cart.slip(side * round(20000.0 * chance.uniform(0.007, 0.012)))


def _pushed(rig: VirtualRig, _chance: np.random.Generator, side: int) -> None:
    """By 5 px, which are 13 mm in the rig's plane."""
    rig.trouble.moved_m = 0.013 * side


def _turned(rig: VirtualRig, chance: np.random.Generator, side: int) -> None:
    rig.trouble.moved_m = 0.013 * side
    rig.trouble.turned_rad = float(chance.uniform(-0.08, 0.08))
    rig.trouble.turned_rad += math.copysign(0.03, rig.trouble.turned_rad)


def _hit(rig: VirtualRig, chance: np.random.Generator, side: int) -> None:
    rig.plant.push(pole_rad_s=side * float(chance.uniform(0.3, 1.2)))


def _reflection(rig: VirtualRig, chance: np.random.Generator, side: int) -> None:
    rig.trouble.reflection_rad = side * float(chance.uniform(0.6, 2.6))


def _nothing(_rig: VirtualRig, _chance: np.random.Generator, _side: int) -> None:
    """What is wrong is so from the start, or nothing is."""


def _at_once(_rig: VirtualRig, _then: State, _tick: SimulatedTick) -> bool:
    return True


def _gone(_rig: VirtualRig, then: State, tick: SimulatedTick) -> bool:
    """The pole has left the count that sticks by 4 of 1200 counts."""
    return abs(tick.truth[THETA] - then[THETA]) > 0.02


def _moving(_rig: VirtualRig, _then: State, tick: SimulatedTick) -> bool:
    return abs(tick.truth[OMEGA]) > SLOW_RAD_S


def _lost(rig: VirtualRig, _then: State, tick: SimulatedTick) -> bool:
    counts = rig.plant.counts(tick.record.input.now_ns)[0]
    return abs(counts / 20000.0 - tick.truth[P]) > LOST_M


@dataclass(frozen=True, slots=True)
class Case:
    """One of ``right`` must be named, no other sensor may be; none of none: nobody may.

    ``begins`` tells a lie that is there from the start, in the settings; ``stops`` one that rightly
    ends the flight.
    """

    right: frozenset[str]
    strike: Strike = _nothing
    settings: Mapping[str, Any] = field(default_factory=dict)
    seen: Seen = _at_once
    begins: bool = False
    stops: bool = False


SLIPPED, STUCK = frozenset({"pole encoder slipped"}), frozenset({"pole encoder stuck"})
MOVED, MISSED = frozenset({"camera moved"}), frozenset({"missed counts"})
NOBODY = frozenset[str]()
ALONE = {"encoder.protocol": "none", "sim.camera_outliers": 0.4}
CASES = {
    "pole encoder slips by 20": Case(SLIPPED, partial(_pole_slips, 20)),
    "pole encoder slips by 300": Case(SLIPPED, partial(_pole_slips, 300)),
    "pole encoder sticks": Case(STUCK, _pole_sticks, seen=_gone),
    "camera stamps 5 ms early": Case(frozenset({"camera delay"}), seen=_moving, begins=True,
        settings={"sim.camera_latency_s": 0.007}),
    "camera pushed by 5 px": Case(MOVED, _pushed),
    "camera pushed and turned": Case(MOVED, _turned),
    "cart counts slip": Case(MISSED, _cart_slips, stops=True),
    "cart counts lost": Case(MISSED, settings={"sim.cart_misses_one_in": 25}, seen=_lost,
        begins=True, stops=True),
    "pole hit": Case(NOBODY, _hit),
    "reflection": Case(frozenset({"camera rejected"}), _reflection),
    "camera only, nonsense": Case(NOBODY, settings=ALONE, begins=True),
    "nothing": Case(NOBODY, begins=True),
}  # fmt: skip


def configured(settings: Mapping[str, Any]) -> Config:
    """The default settings but for these, by dotted key."""
    tree = Config().model_dump()
    for key, value in settings.items():
        section, name = key.split(".")
        tree[section][name] = value
    return Config.model_validate(tree)


def fly(job: tuple[str, int]) -> dict[str, Any]:
    """One flight: what was named how long after it could be seen, and the errors after that."""
    name, seed = job
    case = CASES[name]
    chance = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
    at_s, side = float(chance.uniform(FROM_S, TO_S)), 1 if chance.random() < 0.5 else -1
    if case.begins:
        at_s = FROM_S
    run = VirtualRun(configured(case.settings), seed)
    end_s = TO_S if case.begins else at_s
    then: State | None = None
    seen_s: float | None = None
    named: dict[str, float] = {}
    errors: list[FloatArray] = []
    fast = False
    for tick in run.ticks():
        record = tick.record
        time_s = (record.input.now_ns - START_NS) / NANOSECONDS
        for fault in record.faults:
            named.setdefault(fault.name, time_s)
        if seen_s is not None and time_s > seen_s + SETTLED_S and record.estimate is not None:
            error = np.subtract(record.estimate.state, tick.truth)
            error[THETA] = math.remainder(error[THETA], math.tau)
            errors.append(error)
        if time_s > end_s + AFTER_S:
            break
        if then is None and time_s >= at_s:
            then = tick.truth
            fast = abs(math.remainder(then[THETA] - math.pi, math.tau)) > UPRIGHT_RAD
            case.strike(run.rig, chance, side)
        if then is not None and seen_s is None and case.seen(run.rig, then, tick):
            seen_s = time_s
            end_s = max(end_s, seen_s)
    off = np.array(errors)
    rms = np.sqrt(np.mean(off**2, axis=0)).tolist() if len(off) else None
    last = off[-round(TAIL_S / 0.02) :]
    wrong = {i: float(np.sqrt(np.mean(last[:, i] ** 2))) for i in LATCHED} if len(off) else {}
    flies = record.mode in FLYING
    return {
        "seed": seed, "at_s": at_s, "swings": fast, "seen_s": seen_s, "named": named, "rms": rms,
        "latched": flies and any(wrong[i] > most for i, most in LATCHED.items() if i in wrong),
        "mode": record.mode.value,
    }  # fmt: skip


def judged(case: Case, run: dict[str, Any]) -> str:
    """What is wrong with a run; "" if nothing is."""
    accused = set(run["named"]) & SENSORS
    wrong = accused - case.right - (MEANWHILE if case.right else NOBODY)
    if wrong:
        return "named " + ", ".join(sorted(wrong))
    told = [at_s for name, at_s in run["named"].items() if name in case.right]
    if case.right and not told:
        return "" if run["seen_s"] is None else "named nobody"
    if case.right and round(min(told) - (run["seen_s"] or 0.0), 3) > WITHIN_S:
        return "named late"
    if run["latched"]:
        return "latched"
    return "" if run["mode"] in UP or case.stops else f"ended in {run['mode']}"


def figures(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What the flights of a case say together."""
    case = CASES[name]
    told = sorted(
        min(at_s for who, at_s in run["named"].items() if who in case.right) - run["seen_s"]
        for run in runs
        if run["seen_s"] is not None and set(run["named"]) & case.right
    )
    failed = {run["seed"]: judged(case, run) for run in runs if judged(case, run)}
    theta = np.array([run["rms"][THETA] for run in runs if run["rms"] is not None])
    place = np.array([run["rms"][P] for run in runs if run["rms"] is not None])
    return {
        "runs": len(runs),
        "in_swings": sum(run["swings"] for run in runs),
        "right": 1.0 - len(failed) / len(runs),
        "told_s_median": told[len(told) // 2] if told else None,
        "told_s_p98": told[min(len(told) - 1, math.ceil(0.98 * len(told)) - 1)] if told else None,
        "told_s_max": told[-1] if told else None,
        "latched": sum(run["latched"] for run in runs),
        "theta_mrad_rms_median": 1e3 * float(np.median(theta)),
        "theta_mrad_rms_p98": 1e3 * float(np.quantile(theta, 0.98)),
        "p_mm_rms_p98": 1e3 * float(np.quantile(place, 0.98)),
        "failures": dict(Counter(failed.values())),
        "seeds": failed,
    }


def _line(name: str, row: dict[str, Any]) -> str:
    told = row["told_s_median"]
    when = "       nobody" if told is None else f"{told:5.2f} s {row['told_s_p98']:5.2f}"
    return (
        f"{name:26} {row['runs']:4} {100 * row['right']:6.1f} % right  told {when}  "
        f"latched {row['latched']:3}  theta {row['theta_mrad_rms_median']:5.2f} "
        f"{row['theta_mrad_rms_p98']:7.2f} mrad  p {row['p_mm_rms_p98']:6.2f} mm  {row['failures']}"
    )


def main() -> None:
    """Fly, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few runs, at most 50 s")
    parser.add_argument("--runs", type=int, default=20, help="seeds a case")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only these")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    seeds = range(args.first, args.first + (4 if args.quick else args.runs))
    result: dict[str, Any] = {}
    with ProcessPoolExecutor(args.jobs) as pool:
        for name in args.case or CASES:
            runs = []
            for run in pool.map(fly, [(name, seed) for seed in seeds]):
                runs.append(run)
                if sys.stderr.isatty():
                    print(f"\r{name} {len(runs)} of {len(seeds)}", end="", file=sys.stderr)
            result[name] = figures(name, runs)
            print(_line(name, result[name]), flush=True)
            if args.json:
                args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
