"""Late ticks with page, recording and a second client against none of them, in alternating pieces.

``python benchmarks/page_load.py [--quick] [--json FILE]``

One daemon on the simulated rig, balancing and recording; the page's process and a client that asks
for the status 20 times a second come and go. Both kinds of piece see the same neighbours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import urllib.request
from pathlib import Path

from cartpole.config.load import load_config
from cartpole.daemon.assembly import assemble
from cartpole.daemon.control_socket import Client
from cartpole.dashboard.process import PageProcess
from cartpole.messages import TickTiming

PIECE_S = 8.0


class Counter:
    """Lateness of every tick of the piece under way [us]."""

    def __init__(self) -> None:
        self.late_us: list[float] = []
        self.missed = 0

    def see(self, timing: TickTiming | None) -> None:
        """A tick is over."""
        if timing is not None:
            self.late_us.append(timing.late_ns / 1e3)
            self.missed += timing.missed

    def take(self) -> dict[str, float]:
        """Figures since the last call."""
        late, missed = self.late_us, self.missed
        self.late_us, self.missed = [], 0
        ordered = sorted(late)
        return {
            "ticks": len(late),
            "missed": missed,
            "late_us_median": statistics.median(ordered),
            "late_us_p99": ordered[int(0.99 * (len(ordered) - 1))],
        }


def ask_often(socket: Path, done: threading.Event) -> None:
    """A second client."""
    with Client(socket) as client:
        while not done.wait(0.05):
            client.call({"do": "status"})


def read_page(url: str, done: threading.Event) -> None:
    """Somebody who loads the page again and again."""
    while not done.wait(1.0):
        try:
            with urllib.request.urlopen(url, timeout=5.0) as answer:
                answer.read()
        except OSError:
            continue


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pairs = 2 if options.quick else 6
    pieces: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(
            Path("config/sim.yaml"),
            [
                f"session.folder={folder}/sessions",
                f"service.socket={folder}/socket",
                "dashboard.port=18080",
                "startup.action=swing_up",
            ],
        )
        with assemble(config, headless=True) as rig:
            counter = Counter()
            rig.daemon.on_tick = lambda _record: counter.see(rig.daemon.latest_timing)

            def watch() -> None:
                done = threading.Event()
                done.wait(15.0)
                for _ in range(pairs):
                    counter.take()
                    done.wait(PIECE_S)
                    pieces["without"].append(counter.take())
                    with PageProcess(config, rig.camera.pictures if rig.camera else None) as page:
                        stop = threading.Event()
                        for target, place in (
                            (ask_often, Path(config.service.socket)),
                            (read_page, page.setup.url),
                        ):
                            threading.Thread(target=target, args=(place, stop), daemon=True).start()
                        done.wait(5.0)  # its start is no part of the question
                        counter.take()
                        done.wait(PIECE_S)
                        pieces["with"].append(counter.take())
                        stop.set()
                rig.daemon.stop()

            threading.Thread(target=watch, daemon=True).start()
            rig.daemon.run(None)
    total = {
        kind: {
            "ticks": sum(piece["ticks"] for piece in found),
            "missed": sum(piece["missed"] for piece in found),
            "late_us_median": statistics.median(piece["late_us_median"] for piece in found),
            "late_us_p99": statistics.median(piece["late_us_p99"] for piece in found),
        }
        for kind, found in pieces.items()
    }
    ratio = total["with"]["late_us_p99"] / total["without"]["late_us_p99"]
    figures = {**total, "late_p99_ratio": ratio}
    print(json.dumps(figures, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
