"""Late ticks with page, recording and a second client against none of them, in alternating pieces.

``python benchmarks/page_load.py [--quick] [--json FILE]``

One daemon on the simulated rig, balancing. "with": the page's process, a headless Chromium that
shows the page, and a client that asks for the status 20 times a second. "without": none of these.
Both kinds of piece are recorded, see the same neighbours, and come in the order AB BA AB …; a piece
in which the simulated rig was not balanced throughout is flown again. Browser and client live in a
process of their own, as they would.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from page_visitor import FLAGS, Operator, chromium, free_port

from cartpole.config.load import load_config
from cartpole.daemon.assembly import Assembly, assemble
from cartpole.dashboard.process import PageProcess
from cartpole.messages import Mode, TickRecord, TickTiming
from cartpole.remote.socket import Client, call

PIECE_S = 8.0
SETTLE_S = 4.0  # a browser's start is no part of the question
TRIES = 4  # of a piece
ASK_EVERY_S = 0.05
KINDS = ("without", "with")


class Counter:
    """Lateness of every tick of the piece under way [us]."""

    def __init__(self) -> None:
        self.late_us: list[float] = []
        self.missed = 0
        self.balancing = True

    def see(self, record: TickRecord, timing: TickTiming | None) -> None:
        """A tick is over."""
        self.balancing &= record.mode is Mode.BALANCE
        if timing is not None:
            self.late_us.append(timing.late_ns / 1e3)
            self.missed += timing.missed

    def take(self) -> tuple[list[float], int, bool]:
        """Lateness and missed ticks since the last call, and whether it balanced all the while."""
        found = self.late_us, self.missed, self.balancing
        self.late_us, self.missed, self.balancing = [], 0, True
        return found


def visit(orders: Connection, socket: str) -> None:
    """A process: opens the page it is told of and asks the socket until it is told to leave."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        while url := orders.recv():
            browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            _open(page, url)
            page.wait_for_selector("#cp-picture[src^='data:image']", state="attached")
            done = threading.Event()
            asker = threading.Thread(target=_ask_often, args=(Path(socket), done))
            asker.start()
            orders.send("open")
            while not orders.poll():
                page.wait_for_timeout(100)  # lets the browser's events through
            orders.recv()
            done.set()
            asker.join()
            browser.close()
            orders.send("closed")


def _open(page: Any, url: str) -> None:
    end_s = time.monotonic() + 60.0
    while True:
        try:
            page.goto(url)
            return
        except Exception:  # not served yet
            if time.monotonic() > end_s:
                raise
            time.sleep(0.3)


def _ask_often(socket: Path, done: threading.Event) -> None:
    with Client(socket) as client:
        while not done.wait(ASK_EVERY_S):
            client.call({"do": "status"})


class Flight:
    """The daemon under way and what comes and goes around it."""

    def __init__(self, rig: Assembly, socket: Path, orders: Connection) -> None:
        self._rig, self._orders = rig, orders
        self._config = rig.daemon.config
        self._operator = Operator(lambda message: call(socket, message, 10.0))
        self._counter = Counter()
        rig.daemon.on_tick = lambda record: self._counter.see(record, rig.daemon.latest_timing)
        self.late_us: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.missed = dict.fromkeys(KINDS, 0)
        self.piece_p99_us: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.flown_again = 0

    @property
    def fault_stops(self) -> list[str]:
        """Faults that ended balancing, with or without."""
        return self._operator.fault_stops

    def fly(self, pairs: int) -> None:
        """All pieces; then the daemon is stopped."""
        _as_a_helper(self._config.service.priority)
        try:
            for pair in range(pairs):
                for kind in KINDS if pair % 2 == 0 else KINDS[::-1]:
                    with self._visitors(kind):
                        self._piece(kind)
        finally:
            self._rig.daemon.stop()

    @contextlib.contextmanager
    def _visitors(self, kind: str) -> Iterator[None]:
        if kind == "without":
            time.sleep(SETTLE_S)
            yield
            return
        camera = self._rig.camera
        with PageProcess(self._config, camera.pictures if camera else None) as page:
            self._orders.send(page.setup.url)
            self._orders.recv()
            time.sleep(SETTLE_S)
            yield
            self._orders.send("close")
            self._orders.recv()

    def _piece(self, kind: str) -> None:
        for _ in range(TRIES):
            if not self._operator.until_balanced(60.0):
                continue
            self._counter.take()
            time.sleep(PIECE_S)
            late_us, missed, balanced = self._counter.take()
            if balanced:
                self.late_us[kind] += late_us
                self.missed[kind] += missed
                self.piece_p99_us[kind].append(percentile(late_us, 0.99))
                return
            self.flown_again += 1
        sys.exit("the simulated rig does not stay upright: too busy a machine")

    def figures(self) -> dict[str, Any]:
        """See the head of this file."""
        total: dict[str, Any] = {
            kind: {
                "ticks": len(late),
                "missed": self.missed[kind],
                "late_us_median": statistics.median(late),
                "late_us_p99": percentile(late, 0.99),
                "late_us_max": max(late),
                "late_us_p99_pieces": [round(value, 1) for value in self.piece_p99_us[kind]],
            }
            for kind, late in self.late_us.items()
        }
        for name in ("median", "p99"):
            key = f"late_us_{name}"
            total[f"late_{name}_ratio"] = total["with"][key] / total["without"][key]
        total["fault_stops"] = self.fault_stops
        total["flown_again"] = self.flown_again
        total["load_average"] = os.getloadavg()[0]
        return total


def _as_a_helper(priority: int) -> None:
    """Half the priority for this thread, like all of the daemon's helpers: who holds Python's lock
    must not be starved. Processes it starts get none of it."""
    with contextlib.suppress(OSError):
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(max(priority // 2, 1)))


def percentile(values: list[float], share: float) -> float:
    """The value below which that share lies."""
    return sorted(values)[int(share * (len(values) - 1))]


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chromium()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "socket"
        orders, theirs = context.Pipe()
        visitor = context.Process(target=visit, args=(theirs, str(socket)), daemon=True)
        visitor.start()  # now, while this process has no priority to pass on
        config = load_config(
            Path("config/sim.yaml"),
            [
                f"session.folder={folder}/sessions",
                f"service.socket={socket}",
                f"dashboard.port={free_port()}",
            ],
        )
        before = os.getloadavg()[0]
        with assemble(config, headless=True) as rig:
            flight = Flight(rig, socket, orders)
            pilot = threading.Thread(target=flight.fly, args=(1 if options.quick else 6,))
            pilot.start()
            rig.daemon.run(None)
            pilot.join()
        orders.send("")
        visitor.join(10.0)
    if not all(flight.late_us.values()):
        sys.exit(1)
    figures = flight.figures() | {"load_average_before": before}
    print(json.dumps(figures, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
