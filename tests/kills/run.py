"""The daemon killed, or its machine without power, at random moments: what is left of a recording.

``python tests/kills/run.py --kills 200 --cuts 200``. Each kill is SIGKILL to a whole daemon on a
simulated rig; lost are the ticks that it had handed to the recorder and that cannot be read. For
the cuts a daemon writes through a journal of what reached the operating system and what was synced
when. A cut keeps what was synced before it; of what was written later each page is there, is zero,
or is not, by chance.
"""

from __future__ import annotations

import argparse
import io
import json
import mmap
import multiprocessing
import os
import signal
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from cartpole.config.schema import Config

TESTS = Path(__file__).resolve().parent.parent
PAGE = 4096
MOST_LOST_KILLED_S, MOST_LOST_CUT_S = 0.2, 1.0
START_S = 120.0
MOST_TICKS = 4096
_TICK = struct.Struct("<qq")  # the tick's time, and when it was handed over [ns]
JOURNAL_S = 12.0


@dataclass(frozen=True)
class Loss:
    """Seconds of ticks that were handed over and cannot be read."""

    seconds: float
    handed_over: int
    read: int


class Ticks:
    """What the daemon handed over, in memory that outlives it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 + MOST_TICKS * _TICK.size)

    def add(self, now_ns: int) -> None:
        count = self.count
        if count < MOST_TICKS:
            _TICK.pack_into(self._memory, 8 + count * _TICK.size, now_ns, time.monotonic_ns())
            struct.pack_into("<q", self._memory, 0, count + 1)

    @property
    def count(self) -> int:
        return int(struct.unpack_from("<q", self._memory, 0)[0])

    def until(self, t_ns: int | None = None) -> list[int]:
        """The ticks' times that were handed over before ``t_ns``."""
        found = [_TICK.unpack_from(self._memory, 8 + k * _TICK.size) for k in range(self.count)]
        return [now for now, at in found if t_ns is None or at < t_ns]


class Journal(io.FileIO):
    """A file that notes how much of it the operating system had, and the disk, and when."""

    def __init__(self, path: Path, notes: list[tuple[str, int, int]]) -> None:
        super().__init__(path, "w")
        self.notes = notes

    def write(self, data: object, /) -> int:
        count = super().write(data)  # type: ignore[arg-type]
        self.notes.append(("written", time.monotonic_ns(), self.tell()))
        return count or 0


def fly(path: Path, ticks: Ticks, journal: Path | None) -> None:
    """The daemon, in a process that was forked off a warm one; never returns."""
    from cartpole.daemon.assembly import assemble
    from cartpole.session.writer import SessionWriter
    from cartpole.sim import process

    os.setsid()
    fork = multiprocessing.get_context("fork")
    process.multiprocessing.get_context = lambda _kind: fork  # type: ignore[attr-defined]
    put = SessionWriter.put_tick

    def noted(self: SessionWriter, record: object, *rest: object) -> None:
        put(self, record, *rest)  # type: ignore[arg-type]
        ticks.add(record.input.now_ns)  # type: ignore[attr-defined]

    SessionWriter.put_tick = noted  # type: ignore[assignment,method-assign]
    notes: list[tuple[str, int, int]] = []
    if journal is not None:
        _journal_everything(notes)
    with assemble(_config(path.parent), record=path, headless=True) as rig:
        signal.signal(signal.SIGTERM, lambda _number, _frame: rig.daemon.stop())
        rig.daemon.run(None)
    if journal is not None:
        journal.write_text(json.dumps(notes))


def _journal_everything(notes: list[tuple[str, int, int]]) -> None:
    from cartpole.session.writer import SessionWriter

    real_sync = os.fdatasync

    def synced(number: int) -> None:
        size = os.fstat(number).st_size  # what is written while it syncs may not be on the disk
        real_sync(number)
        notes.append(("synced", time.monotonic_ns(), size))

    os.fdatasync = synced  # type: ignore[assignment]
    defaults = SessionWriter.__init__.__kwdefaults__
    assert defaults is not None
    defaults["opener"] = lambda path: io.BufferedWriter(Journal(path, notes))


def _config(folder: Path) -> Config:
    from cartpole.config.load import with_values

    values = {
        "camera.source": "none",
        "motor.port": "sim",
        "encoder.port": "sim",
        "session.folder": str(folder),
        "service.socket": str(folder / "x.sock"),
        "startup.action": "swing_up",
        "safety.stale_state_s": 0.5,
        "safety.lag_error_s": 1.0,
    }
    return with_values(Config(), values)


def started(path: Path, ticks: Ticks, journal: Path | None = None) -> int:
    """The process id of a daemon that has begun to tick."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            log = os.open(path.with_suffix(".log"), os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            fly(path, ticks, journal)
            code = 0
        finally:
            os._exit(code)
    end_s = time.monotonic() + START_S
    while ticks.count < 10:
        time.sleep(0.02)
        if time.monotonic() > end_s or os.waitpid(child, os.WNOHANG) != (0, 0):
            raise RuntimeError(path.with_suffix(".log").read_text()[-2000:])
    return child


def loss(path: Path, handed_over: list[int]) -> Loss:
    from cartpole.session.reader import open_session

    read = [tick.line.now_ns for tick in open_session(path).ticks()]
    known = set(handed_over)
    # One that was being handed over when the process died may be there, too.
    assert set(read[:-1]) <= known, "ticks that were never handed over"
    lost = len(known - set(read))
    period_s = (handed_over[-1] - handed_over[0]) / 1e9 / max(len(handed_over) - 1, 1)
    return Loss(lost * period_s, len(handed_over), len(read))


def kill(folder: Path, rng: Random) -> Loss:
    """One daemon killed at a random moment."""
    path = folder / "run.mcap"
    ticks = Ticks()
    child = started(path, ticks)
    time.sleep(rng.uniform(0.1, 1.6))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = loss(path, ticks.until())
    path.unlink()
    return found


def cuts(folder: Path, rng: Random, count: int, seconds: float = JOURNAL_S) -> list[Loss]:
    """One daemon's recording as it would be after so many power cuts."""
    path, journal = folder / "run.mcap", folder / "journal.json"
    ticks = Ticks()
    begin = time.monotonic_ns()
    child = started(path, ticks, journal)
    time.sleep(seconds)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    notes = json.loads(journal.read_text())
    data = path.read_bytes()
    first = min(at for what, at, _ in notes if what == "synced")
    last = max(at for _, at, _ in notes)
    found = []
    for _ in range(count):
        t_ns = rng.randrange(max(first, begin), last)
        handed_over = ticks.until(t_ns)
        if handed_over:
            broken = folder / "cut.mcap"
            broken.write_bytes(_after_cut(rng, data, notes, t_ns))
            found.append(loss(broken, handed_over))
    return found


def _after_cut(rng: Random, data: bytes, notes: list[tuple[str, int, int]], t_ns: int) -> bytes:
    def most(kind: str) -> int:
        return max((size for what, at, size in notes if what == kind and at < t_ns), default=0)

    synced, written = most("synced"), most("written")
    left = bytearray(data[:written])
    for at in range(synced, written, PAGE):
        fate = rng.randrange(3)
        if fate == 0:
            left[at : at + PAGE] = bytes(len(left[at : at + PAGE]))
        elif fate == 1 and rng.random() < 0.3:
            del left[at:]
            break
    return bytes(left)


def warm() -> None:
    """What each daemon would load is loaded once."""
    from cartpole.daemon.assembly import warm_up

    warm_up(_config(Path(tempfile.gettempdir())))


def figures(losses: list[Loss]) -> dict[str, float]:
    ordered = sorted(one.seconds for one in losses)
    return {
        "runs": len(ordered),
        "median_s": round(ordered[len(ordered) // 2], 3),
        "most_s": round(ordered[-1], 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rng = Random(options.seed)
    warm()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        if options.kills:
            found["kills"] = figures([kill(Path(name), rng) for _ in range(options.kills)])
            print(json.dumps(found), flush=True)
        cut: list[Loss] = []
        while len(cut) < options.cuts:
            cut += cuts(Path(name), rng, min(40, options.cuts - len(cut)))
        if cut:
            found["cuts"] = figures(cut)
    print(json.dumps(found))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    good = all(
        found[kind]["most_s"] <= most
        for kind, most in (("kills", MOST_LOST_KILLED_S), ("cuts", MOST_LOST_CUT_S))
        if kind in found
    )
    return 0 if good else 1


if __name__ == "__main__":
    from cartpole.kernel_cache import use_kernel_cache

    use_kernel_cache()
    sys.exit(main())
