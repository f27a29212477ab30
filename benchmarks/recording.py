"""What recording costs the tick: the same paced run with and without it, in alternating pieces.

``python benchmarks/recording.py [--quick] [--json FILE]``
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

from cartpole.config.load import load_config
from cartpole.control.core import ControlCore
from cartpole.messages import NANOSECONDS, HomingResult, TickInput
from cartpole.rules.control import settings_of
from cartpole.session.provenance import provenance
from cartpole.session.reader import open_session
from cartpole.session.replay import replay
from cartpole.session.writer import SessionWriter
from cartpole.sim.run import VirtualRun

PIECE_S = 4.0
RAW_HZ = 450.0  # what two serial lines and their answers come to


class Piece:
    """What one piece of the run measured; microseconds."""

    def __init__(self) -> None:
        self.compute: list[float] = []
        self.late: list[float] = []
        self.put: list[float] = []
        self.late_ticks = 0


def recorded_inputs(seconds: float) -> tuple[list[TickInput], HomingResult | None]:
    """The inputs of a simulated swing-up."""
    config = load_config(Path("config/sim.yaml"), [])
    run = VirtualRun(config, 1)
    inputs = []
    for tick in run.ticks():
        inputs.append(tick.record.input)
        if len(inputs) >= seconds / config.controller.period_s:
            return inputs, run.homed
    raise AssertionError("the simulation is endless")


def fly(
    inputs: list[TickInput], homed: HomingResult | None, writer: SessionWriter | None, piece: Piece
) -> None:
    """Run the controller on the clock, as the daemon does."""
    config = load_config(Path("config/sim.yaml"), [])
    core = ControlCore(settings_of(config), homed=homed)
    period_ns = round(config.controller.period_s * NANOSECONDS)
    due_ns = time.monotonic_ns() + period_ns
    for tick in inputs:
        time.sleep(max(0, due_ns - time.monotonic_ns()) / NANOSECONDS)
        begin = time.monotonic_ns()
        record = core.tick(tick)
        done = time.monotonic_ns()
        if writer is not None:
            writer.put_tick(record, (0.0, 0.0, 0.0, 0.0))
            piece.put.append((time.monotonic_ns() - done) / 1e3)
        piece.compute.append((done - begin) / 1e3)
        piece.late.append((begin - due_ns) / 1e3)
        piece.late_ticks += done - due_ns > period_ns
        due_ns += period_ns


def serial_traffic(writer: SessionWriter, stop: threading.Event) -> None:
    """Bytes as the serial threads hand them over."""
    while not stop.wait(1.0 / RAW_HZ):
        writer.put_raw(time.monotonic_ns(), "encoder", "in", b"12345\t-678\t0\t0\r\n")


def middle(values: list[float]) -> float:
    return round(statistics.median(values), 1)


def high(values: list[float]) -> float:
    return round(sorted(values)[int(0.99 * (len(values) - 1))], 1)


def measure(pieces: int, folder: Path) -> dict[str, object]:
    """Alternate with and without recording; returns the figures."""
    inputs, homed = recorded_inputs(PIECE_S)
    fly(inputs[:60], homed, None, Piece())  # everything compiled and warm
    on, off = Piece(), Piece()
    dropped = size = 0
    for number in range(pieces):
        fly(inputs, homed, None, off)
        config = load_config(Path("config/sim.yaml"), [])
        writer = SessionWriter(folder / f"{number}.mcap", config, provenance(config))
        writer.put_start(homed)
        stop = threading.Event()
        thread = threading.Thread(target=serial_traffic, args=(writer, stop))
        thread.start()
        fly(inputs, homed, writer, on)
        stop.set()
        thread.join()
        writer.close()
        dropped += writer.status().dropped
        size += writer.status().bytes
    begin = time.perf_counter()
    result = replay(open_session(folder / "0.mcap"))
    elapsed = time.perf_counter() - begin
    figures = {
        name: {
            "compute_us_median": middle(piece.compute),
            "compute_us_p99": high(piece.compute),
            "late_us_median": middle(piece.late),
            "late_us_p99": high(piece.late),
            "late_ticks": piece.late_ticks,
            "ticks": len(piece.compute),
        }
        for name, piece in (("recording", on), ("not_recording", off))
    }
    return {
        **figures,
        "compute_ratio": round(middle(on.compute) / middle(off.compute), 4),
        "put_us_median": middle(on.put),
        "put_us_p99": high(on.put),
        "dropped": dropped,
        "kilobytes_per_s": round(size / 1e3 / (pieces * PIECE_S), 1),
        "replay": {
            "times_real_time": round(result.duration_s / elapsed, 1),
            "bitwise_equal": result.bitwise_equal,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(3 if arguments.quick else 15, Path(folder))
    text = json.dumps(figures, indent=2, allow_nan=False)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
