"""Mutated recordings, tables and settings by the thousand: ``python tests/fuzz/run.py``.

Workers use one file after the other; whoever needs more than 5 s of processor time or 256 MB for
one, raises anything but the program's own errors, or says that something is whole which is not as
the original, is a finding. ``--cases 10000 --from 0 --seed-of N`` repeats one.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
MOST_S, MOST_BYTES = 5.0, 256 << 20
LONGEST_FIT_S = 60.0
GIVEN_UP_S = 90.0  # by the wall clock, on a machine that has other things to do
BATCH = 50


@dataclass(frozen=True)
class Result:
    """What came of one case; ``finding`` is empty if all was well."""

    seed: int
    kind: str
    seconds: float
    bytes: int
    finding: str = ""


def resident(name: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most since the last ``forget_peak``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def try_case(seed: int, bases: object, folder: Path) -> Result:
    """One case in this process."""
    from fuzz.commands import CALIBRATED, Bases, Finding, one_case

    assert isinstance(bases, Bases)
    forget_peak()
    before, begin = resident("VmRSS"), time.process_time()
    kind, finding = "?", ""
    try:
        kind = one_case(seed, bases, folder)
    except Finding as error:
        finding = str(error)
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        finding = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
    seconds = time.process_time() - begin
    used = resident("VmHWM") - before
    if not finding and seconds > (LONGEST_FIT_S if kind == CALIBRATED else MOST_S):
        finding = f"{seconds:.1f} s"
    if not finding and used > MOST_BYTES:
        finding = f"{used >> 20} MB"
    return Result(seed, kind, seconds, used, finding)


def work(seeds: Sequence[int], bases: object, told: Connection) -> None:
    """Try cases, one after the other, and tell of each."""
    warnings.simplefilter("error", RuntimeWarning)
    limit = resident("VmData") + 2 * MOST_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (of a process that ends)
    with tempfile.TemporaryDirectory() as name:
        for seed in seeds:
            folder = Path(name) / "x"
            folder.mkdir(exist_ok=True)
            told.send(try_case(seed, bases, folder))
            for left in folder.iterdir():
                left.unlink()


def try_cases(
    seeds: Sequence[int], bases: object, processes: int = 1, seconds: float = math.inf
) -> list[Result]:
    """All of them, or what is done in so many seconds, in processes of their own; one that hangs
    is a finding, too."""
    end_s = time.monotonic() + seconds
    context = multiprocessing.get_context("fork")
    waiting = [list(seeds[k : k + BATCH]) for k in range(0, len(seeds), BATCH)]
    found: list[Result] = []
    running: list[_Worker] = []
    while waiting or running:
        if time.monotonic() > end_s:
            waiting = []
        while waiting and len(running) < processes:
            running.append(_Worker(context, waiting.pop(0), bases))
        time.sleep(0.02)
        for worker in list(running):
            found += worker.heard()
            rest = worker.left_over()
            if rest is not None:
                running.remove(worker)
                found += rest[0]
                if rest[1]:
                    waiting.insert(0, rest[1])
    return found


class _Worker:
    """A process that works through some seeds."""

    def __init__(self, context: object, seeds: list[int], bases: object) -> None:
        assert isinstance(context, multiprocessing.context.ForkContext)
        self._seeds = list(seeds)
        self._mine, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=work, args=(seeds, bases, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._since = time.monotonic()

    def heard(self) -> list[Result]:
        found: list[Result] = []
        try:
            while self._mine.poll():
                found.append(self._mine.recv())
                self._seeds.pop(0)
                self._since = time.monotonic()
        except EOFError:
            pass
        return found

    def left_over(self) -> tuple[list[Result], list[int]] | None:
        """When it is done, or must be ended: findings of the case at which it stood, and the
        seeds that are still to be tried."""
        hangs = time.monotonic() - self._since > GIVEN_UP_S
        if self._process.is_alive() and not hangs:
            return None
        found = self.heard()
        self._process.kill()
        self._process.join()
        if not self._seeds:
            return found, []
        why = "hangs" if hangs else f"the process died ({self._process.exitcode})"
        found.append(Result(self._seeds[0], "?", GIVEN_UP_S if hangs else 0.0, 0, why))
        return found, self._seeds[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--seed-of", type=int, help="this case alone, here, with its traceback")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no more after these")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from fuzz.commands import make_bases, one_case

    with tempfile.TemporaryDirectory() as name:
        bases = make_bases(Path(name))
        if options.seed_of is not None:
            with tempfile.TemporaryDirectory() as folder:
                print(one_case(options.seed_of, bases, Path(folder)))
            return 0
        seeds = range(options.first, options.first + options.cases)
        found = try_cases(seeds, bases, options.processes, options.seconds)
    findings = [one for one in found if one.finding]
    for one in findings:
        print(f"{one.seed}: {one.kind}: {one.finding}")
    figures = {
        "cases": len(found),
        "findings": len(findings),
        "kinds": dict(Counter(one.kind for one in found)),
        "longest_s": max((one.seconds for one in found), default=0.0),
        "most_mb": max((one.bytes for one in found), default=0) / 2**20,
    }
    print(json.dumps(figures))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))
    from cartpole.kernel_cache import use_kernel_cache

    use_kernel_cache()
    sys.exit(main())
