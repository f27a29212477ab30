"""Counts over many runs: the table that the command writes and prints."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from cartpole.campaign.judge import Flown
from cartpole.campaign.strikes import STRIKES
from cartpole.control.faults import CATALOGUE
from cartpole.messages import Mode, PlanStatus

INVARIANTS = ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10")
UP_BY_S = 8.0
SHOWN = 10  # failures told one by one
REACHED = ("modes_reached", "plan_statuses", "fallbacks", "faults_raised", "faults_injected")
FALLBACKS = ("last good plan", "feedback")


def figures(runs: Sequence[Flown], options: Sequence[str] = ()) -> dict[str, Any]:
    """The campaign's figures; ``options`` are those that its commands need again."""
    runs = sorted(runs, key=lambda run: run.seed)
    wall_s = sum(run.wall_s for run in runs)
    simulated_s = sum(run.simulated_s for run in runs)
    struck = [run for run in runs if run.fault is not None]
    return {
        "runs": len(runs),
        "simulated_s": simulated_s,
        "speed_x": simulated_s / wall_s if wall_s else 0.0,
        "violations": _summed(runs, "violations", INVARIANTS),
        "no_fault": _without_fault([run for run in runs if run.fault is None]),
        "modes_reached": _summed(runs, "modes", [mode.value for mode in Mode]),
        "plan_statuses": _summed(runs, "plan_statuses", [status.name for status in PlanStatus]),
        "fallbacks": _summed(runs, "fallbacks", FALLBACKS),
        "faults_raised": _summed(runs, "faults", CATALOGUE),
        "faults_injected": _injected(struck),
        "left_out": _summed(runs, "left_out", ()),
        "ends_right": _share([run.end_right for run in struck]),
        "causes_right": _share([run.cause_right for run in struck]),
        "by_fault": _by_fault(struck),
        "failures": [_failure(run, options) for run in runs if run.why],
    }


def _summed(runs: Sequence[Flown], name: str, known: Collection[str]) -> dict[str, int]:
    total: Counter[str] = Counter(dict.fromkeys(known, 0))
    for run in runs:
        total.update(getattr(run, name))
    return dict(total)


def _injected(struck: Sequence[Flown]) -> dict[str, int]:
    return dict(Counter(dict.fromkeys(STRIKES, 0)) + Counter(str(run.fault) for run in struck)) | {
        name: 0 for name in STRIKES if not any(run.fault == name for run in struck)
    }


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 1.0


def _quantile(values: Sequence[float], share: float) -> float | None:
    """Of sorted values; ``None`` if there are none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


def _without_fault(runs: Sequence[Flown]) -> dict[str, Any]:
    up = [run.upright_s for run in runs if run.upright_s is not None]
    return {
        "runs": len(runs),
        "success_8s": sum(t <= UP_BY_S for t in up) / len(runs) if runs else 1.0,
        "upright_s_median": _quantile(up, 0.5),
        "upright_s_p95": _quantile(up, 0.95),
        "false_faults": sum(bool(run.causes) for run in runs),
    }


def _by_fault(struck: Sequence[Flown]) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for name in STRIKES:
        mine = [run for run in struck if run.fault == name]
        if mine:
            reacted = [run.react_s for run in mine if run.react_s is not None]
            table[name] = {
                "runs": len(mine),
                "ends": dict(Counter(run.end for run in mine)),
                "causes": dict(Counter(cause for run in mine for cause in run.causes)),
                "right": sum(run.end_right and run.cause_right for run in mine),
                "react_s_median": _quantile(reacted, 0.5),
                "react_s_max": max(reacted, default=None),
            }
    return table


def command(run: Flown, options: Sequence[str] = (), keep: Sequence[str] | None = None) -> str:
    """The one command that flies a run again and draws it."""
    kept = [] if keep is None else ["--keep", ",".join(keep)]
    words = ["cartpole", "campaign", "--replay", str(run.seed), *kept, *options]
    return shlex.join([*words, "--plot", f"build/campaign-{run.seed}.png"])


def _failure(run: Flown, options: Sequence[str]) -> dict[str, Any]:
    return {"seed": run.seed, "why": run.why, "command": command(run, options)}


def told(found: dict[str, Any]) -> list[str]:
    """The figures as lines for a person."""
    quiet = found["no_fault"]
    injected = sum(found["faults_injected"].values())
    never = [
        f"{kind} {name}" for kind in REACHED for name, count in found[kind].items() if not count
    ]
    median, last = quiet["upright_s_median"], quiet["upright_s_p95"]
    lines = [
        f"{found['runs']} runs, {found['simulated_s']:.0f} s, x{found['speed_x']:.0f} a process",
        "violations: " + ", ".join(f"{k} {n}" for k, n in found["violations"].items()),
        f"without a fault: {quiet['runs']} runs, {100 * quiet['success_8s']:.1f} % up by 8 s, "
        + (f"median {median:.2f} s, p95 {last:.2f} s, " if median is not None else "")
        + f"{quiet['false_faults']} with a fault raised",
        "faults {}: right end {:.1f} %, right cause {:.1f} %".format(
            injected, 100 * found["ends_right"], 100 * found["causes_right"]
        ),
    ]
    lines += [
        f"{kind.replace('_', ' ')}: " + ", ".join(f"{name} {n}" for name, n in found[kind].items())
        for kind in REACHED
    ]
    if found["left_out"]:
        lines.append(
            "ticks left out: " + ", ".join(f"{k} {n}" for k, n in found["left_out"].items())
        )
    if never:
        lines.append("never seen: " + ", ".join(never))
    failures = found["failures"]
    for failure in failures[:SHOWN]:
        lines.append(f"seed {failure['seed']}: {failure['why']}")
        if "ingredients" in failure:
            lines.append(f"  needs {', '.join(failure['ingredients']) or 'nothing but the rig'}")
        lines.append(f"  {failure['command']}")
    if len(failures) > SHOWN:
        lines.append(f"... and {len(failures) - SHOWN} more failures")
    return lines
