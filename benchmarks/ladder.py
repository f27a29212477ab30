"""The ladder: one imperfection at a time, as large as the controller shall bear, on the usual rig.

Each rung is flown in virtual time from power-on, homing included. It holds if the pole is up within
4 s of the first tick of SWING_UP and stays so, with a tail (RMS of the true angle over the last two
seconds) of at most 6 mrad; or if arming was refused, which is told with its reason. No rung is a
fault of a device, so a fault that stops the flight is told, too.

    python benchmarks/ladder.py [--quick] [--only NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import fresh_kernels  # noqa: F401  before numba is imported
import numpy as np

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.messages import NANOSECONDS, Mode, Severity
from cartpole.session.summary import from_upright
from cartpole.sim.run import VirtualRun

UP_WITHIN_S, TAIL_MRAD, UPRIGHT_RAD = 4.0, 6.0, 0.1
FLIGHT_S, TAIL_S, HOMING_S = 10.0, 2.0, 60.0

Values = dict[str, float]
RIG = Config()
LENGTH_M, TAU_S, DELAY_S = RIG.pole.length_m, RIG.motor.tau_s, RIG.motor.delay_s

# Name: what the rig does, and what the settings know of it.
RUNGS: dict[str, Values] = {
    "nothing": {},
    "pole 35 % shorter": {"sim.length_m": 0.65 * LENGTH_M},
    "pole 45 % longer": {"sim.length_m": 1.45 * LENGTH_M},
    "lag times 3": {"sim.tau_s": 3.0 * TAU_S},
    "gain ±10 % in flight": {"sim.supply_sag": 0.1, "sim.supply_period_s": 3.0},
    "driver ramps 3 m/s²": {"sim.drive_ramp_m_s2": 3.0},
    "driver ramps 5 m/s²": {"sim.drive_ramp_m_s2": 5.0},
    "50 ms later": {"sim.delay_s": DELAY_S + 0.05},
    "ripple 5 cm/s": {"sim.drive_ripple_m_s": 0.05},
    "belt 6 Hz": {"sim.belt_hz": 6.0},
    "bytes lost 1 %": {"sim.bytes_lost": 0.01},
    "commands lost 5 %": {"sim.commands_lost": 0.05},
    "tip as heavy as the rod": {"sim.tip_mass": 1.0},
    "answers in bursts of 16 ms": {"sim.answers_burst_s": 0.016},
    "questions and commands in bursts of 16 ms": {"sim.commands_burst_s": 0.016},
    "dry friction .7, configured": {"sim.coulomb_rad_s2": 0.7, "pole.coulomb_rad_s2": 0.7},
    "dry friction .7, unknown": {"sim.coulomb_rad_s2": 0.7},
}
MOST_MRAD = {"dry friction .7, configured": 5.0, "dry friction .7, unknown": 8.0}


@dataclass(frozen=True, slots=True)
class Rung:
    """What came of one: ``refused`` is the reason in the fault's own words, "" if it flew."""

    name: str
    holds: bool
    homing_s: float | None
    up_s: float | None
    tail_mrad: float | None
    refused: str
    faults: tuple[str, ...]


def fly(name: str, values: Values, seed: int) -> Rung:
    """One flight from power-on."""
    config = with_values(RIG, {"sim.homed": False, **values})
    begun_ns, homing_s, up_s, refused = -1, None, None, ""
    angles: list[float] = []
    faults: list[str] = []
    for tick in VirtualRun(config, seed).ticks():
        record = tick.record
        now_ns = record.input.now_ns
        faults += [one.name for one in record.faults if one.name not in faults]
        stopped = [one for one in record.faults if one.severity >= Severity.BRAKE]
        if begun_ns < 0:
            if stopped or now_ns > HOMING_S * NANOSECONDS:
                refused = stopped[0].meaning if stopped else "homing never ended"
                break
            if record.mode is not Mode.SWING_UP:
                continue
            begun_ns, homing_s = now_ns, now_ns / NANOSECONDS
        time_s = (now_ns - begun_ns) / NANOSECONDS
        angle = from_upright(tick.truth[2])
        if abs(angle) >= UPRIGHT_RAD or stopped:
            up_s = None
        elif up_s is None:
            up_s = time_s
        if time_s > FLIGHT_S - TAIL_S:
            angles.append(angle)
        if time_s >= FLIGHT_S or stopped:
            break
    tail = 1e3 * float(np.sqrt(np.mean(np.square(angles)))) if angles else None
    steady = tail is not None and tail <= MOST_MRAD.get(name, TAIL_MRAD)
    holds = bool(refused) or (up_s is not None and up_s <= UP_WITHIN_S and steady)
    return Rung(name, holds, homing_s, up_s, tail, refused, tuple(faults))


def main() -> None:
    """Fly, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed instead of three")
    parser.add_argument("--only", help="this rung")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    rungs = {k: v for k, v in RUNGS.items() if args.only in (None, k)}
    flown: list[dict[str, object]] = []
    for name, values in rungs.items():
        for seed in range(1 if args.quick else 3):
            rung = fly(name, values, seed)
            flown.append({"seed": seed, **asdict(rung)})
            up = "-" if rung.up_s is None else f"{rung.up_s:.2f} s"
            tail = "-" if rung.tail_mrad is None else f"{rung.tail_mrad:.1f} mrad"
            told = rung.refused or ", ".join(n for n in rung.faults if "differs" not in n)
            print(f"{'holds' if rung.holds else 'FAILS'}  {name}: {up}, {tail}  {told}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"rungs": flown}, indent=2) + "\n")


if __name__ == "__main__":
    main()
