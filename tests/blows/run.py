"""The real daemon, struck in mid-flight again and again: `make blows`.

    PYTHONPATH=tests python -m blows.run [--runs N] [--resume FILE] [--json FILE] [--minutes M]
                                         [--kills-only]

SIGKILL at N random moments of swing-up and balance, on text boards and on the bridge board with the
real firmware in turn, each followed by a new daemon on the same rig; then every other scene once a
protocol. What is done stands in the file, a line a run: cut off, it goes on where it was. Exit 1 if
anything did not hold, 3 if ``--minutes`` were over first.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from blows import scenes
from blows.scenes import Figures
from blows.stand import Stand

from cartpole.cli.progress import progress
from cartpole.errors import CartpoleError
from firmware_bridge.simulator.machine import missing_tools

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 4.0  # after the swing-up began
KILL = "killed"
PAIRS = 5
OTHERS: dict[str, Callable[[Stand], Figures]] = {
    "terminated": scenes.terminated,
    "told nonsense": scenes.told_nonsense,
    "held 0.06 s": lambda stand: scenes.held(stand, 0.06),
    "held 0.1 s": lambda stand: scenes.held(stand, 0.1),
    "held 0.2 s": lambda stand: scenes.held(stand, 0.2),
    "held 0.5 s": lambda stand: scenes.held(stand, 0.5),
    "two daemons": scenes.two_daemons,
    "motor on another node": lambda stand: scenes.another_node(stand, "motor"),
    "encoder on another node": lambda stand: scenes.another_node(stand, "encoder"),
    "full disk": scenes.full_disk,
    "garbage flood": lambda stand: scenes.flooded(stand, scenes.garbage),
    "control flood": lambda stand: scenes.flooded(stand, scenes.asking, PAIRS),
}
ONE_PORT = ("encoder on another node",)  # the bridge board has no second port


def planned(runs: int, kills_only: bool = False) -> list[tuple[str, str, int]]:
    """(scene, protocol, number), in the order in which they run."""
    protocols = ["text"] if missing_tools() else ["text", "bridge"]
    kills = [(KILL, protocols[n % len(protocols)], n) for n in range(runs)]
    others = [
        (name, protocol, 0)
        for name in OTHERS
        for protocol in protocols
        if protocol == "text" or name not in ONE_PORT
    ]
    return kills if kills_only else others + kills


def fly(scene: str, protocol: str, number: int) -> Figures:
    """One scene on a rig of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if scene == "full disk":
            with scenes.small_disk(folder), Stand(folder, protocol) as stand:
                return scenes.full_disk(stand)
        with Stand(folder, protocol) as stand:
            if scene == KILL:
                return scenes.killed(stand, random.Random(number).uniform(0.0, LONGEST_S))
            return OTHERS[scene](stand)


def done(path: Path) -> list[Figures]:
    """The runs that stand in the file; a line that was cut off counts for nothing."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def work(
    plan: list[tuple[str, str, int]], path: Path, lane: int, lanes: int, until_s: float
) -> None:
    """Every run that is not done yet and falls to this lane, as long as there is time."""
    have = {(one["scene"], one["protocol"], one["number"]) for one in done(path)}
    for count, (scene, protocol, number) in enumerate(plan):
        if count % lanes != lane or (scene, protocol, number) in have:
            continue
        if time.monotonic() > until_s:
            return
        try:
            figures = fly(scene, protocol, number)
        except (AssertionError, CartpoleError) as error:
            figures = {"wrong": f"never came so far: {error}"}
        line = {"scene": scene, "protocol": protocol, "number": number, **figures}
        with path.open("a") as file:  # what was cut off before ends here
            file.write("\n" * _cut_off(path) + json.dumps(line) + "\n")


def _cut_off(path: Path) -> bool:
    data = path.read_bytes()
    return bool(data) and not data.endswith(b"\n")


def told(found: list[Figures]) -> list[str]:
    """What a person reads."""
    kills = [one for one in found if one["scene"] == KILL and "rest_s" in one]
    lines = []
    for protocol in ("text", "bridge"):
        some = [one for one in kills if one["protocol"] == protocol]
        if some:
            worst = max(some, key=lambda one: one["rest_s"] - one["allowed_s"])
            lines.append(
                f"{len(some)} kills, {protocol}: at most {max(o['lost_s'] for o in some):.3f} s of "
                f"the recording lost, at rest within {max(o['rest_s'] for o in some):.3f} s "
                f"(nearest to its limit: {worst['rest_s']:.3f} of {worst['allowed_s']:.3f} s), "
                f"at least {min(o['clear_mm'] for o in some):.0f} mm clear of the switches"
            )
    lines += [
        f"{one['scene']}, {one['protocol']}: {scenes.shown(one)}"
        for one in found
        if one["scene"] != KILL
    ]
    wrong = [one for one in found if one["wrong"]]
    lines += [
        f"WRONG {one['scene']} {one['protocol']} {one['number']}: {one['wrong']}" for one in wrong
    ]
    return [*lines, f"{len(found) - len(wrong)} of {len(found)} good"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=200, help="kills")
    parser.add_argument("--resume", type=Path, default=ROOT / "build" / "blows.jsonl")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin nothing after these")
    parser.add_argument(
        "--lanes", type=int, default=1, help="rigs at once; one for honest lateness"
    )
    parser.add_argument("--lane", type=int)
    parser.add_argument("--kills-only", action="store_true", help="no other scene")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    path: Path = options.resume.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    until_s = time.monotonic() + 60.0 * options.minutes
    plan = planned(options.runs, options.kills_only)
    if options.lane is not None:
        work(plan, path, options.lane, options.lanes, until_s)
        return 0
    again = [sys.executable, "-m", "blows.run", *sys.argv[1:], "--lane"]
    lanes = [subprocess.Popen([*again, str(n)]) for n in range(options.lanes)]
    every = len(plan)
    with progress("striking", every) as advance:
        while any(lane.poll() is None for lane in lanes):
            time.sleep(0.5)
            advance(len(done(path)))
    found = done(path)
    print("\n".join(told(found)))
    if options.json is not None:
        options.json.write_text(json.dumps({"planned": every, "runs": found}, indent=1) + "\n")
    if any(one["wrong"] for one in found):
        return 1
    return 0 if len(found) >= every else 3


if __name__ == "__main__":
    sys.exit(main())
