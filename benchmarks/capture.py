"""From a picture that can be read to a measurement that can be used: how long, and whose fault.

A feeder process writes rendered pictures into the ring at the camera's rate. The camera process
detects and hands over, once beside an idle parent and once beside a parent whose interpreter lock
is held all the time by a busy thread. For comparison the same capture loop runs as a thread of that
busy parent. The ways take turns, so that the machine's other load falls on all of them alike.

    python benchmarks/capture.py [--quick] [--priority N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cartpole.config.schema import Camera
from cartpole.messages import Detection
from cartpole.vision.frame import Frame
from cartpole.vision.process import CameraProcess
from cartpole.vision.ring import FrameRing
from cartpole.vision.ring_source import RingSource
from cartpole.vision.tracker import Tracker
from cartpole.vision.warm_up import drawn_pole, warm_up

RATES_HZ = (150.0, 187.0)
PICTURES = 40


def feed(ring: FrameRing, camera: Camera) -> None:
    """Swing the pole to and fro for ever, a picture a period."""
    rng = np.random.default_rng(0)
    shape = (camera.height_px, camera.width_px)
    there = [drawn_pole(camera, 0.02 * number) for number in range(PICTURES)]
    noisy = [np.clip(p + rng.normal(0.0, 3.0, shape), 0, 255).astype(np.uint8) for p in there]
    swing = noisy + noisy[::-1]
    period_ns = round(1e9 / camera.rate_hz)
    due_ns = time.monotonic_ns()
    sequence = 0
    while True:
        due_ns += period_ns
        left_ns = due_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns * 1e-9)
        now_ns = time.monotonic_ns()
        ring.write(Frame(swing[sequence % len(swing)], now_ns - 5_000_000, now_ns, sequence))
        sequence += 1


@contextmanager
def busy() -> Iterator[None]:
    """A thread that never lets go of the interpreter by itself."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(20_000))

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def watch(process: CameraProcess, duration_s: float) -> list[float]:
    """p50, p99, max [us] and rate of the process over the last pictures of ``duration_s``."""
    end_s = time.monotonic() + duration_s
    while time.monotonic() < end_s:
        process.poll()
        time.sleep(0.02)
    found = process.statistics
    return [found.latency_p50_us, found.latency_p99_us, found.latency_max_us, found.rate_hz]


def in_a_thread(tracker: Tracker, ring: FrameRing, duration_s: float) -> list[float]:
    """The same figures with capture and detection in a thread of this process."""
    tracker.reset()
    source = RingSource(ring)
    source.open()
    late_us: list[float] = []

    def capture() -> None:
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            frame = source.read_latest(10.0, 0.05)
            if frame is not None:
                tracker.detect(frame.data, frame.t_ns, frame.arrival_ns, frame.sequence, None)
                late_us.append((time.monotonic_ns() - frame.arrival_ns) * 1e-3)

    thread = threading.Thread(target=capture)
    thread.start()
    thread.join()
    p50, p99 = np.percentile(late_us, (50, 99))
    return [float(p50), float(p99), max(late_us), len(late_us) / duration_s]


def measure(
    rate_hz: float, rounds: int, segment_s: float, priority: int
) -> dict[str, dict[str, float]]:
    """Medians over ``rounds`` of every way of running."""
    camera = Camera(rate_hz=rate_hz)
    ring = FrameRing(camera.height_px, camera.width_px)
    feeder = multiprocessing.get_context("spawn").Process(
        target=feed, args=(ring, camera), daemon=True
    )
    tracker = Tracker(camera)
    warm_up(tracker, camera)
    rows: dict[str, list[list[float]]] = {"idle": [], "busy": [], "thread_busy": []}
    with CameraProcess(camera, ring, priority=priority) as process:
        process.wait_ready(120.0)
        feeder.start()
        while not any(isinstance(item, Detection) for item in process.poll()):
            time.sleep(0.02)
        watch(process, 2.0)
        for _ in range(rounds):
            rows["idle"].append(watch(process, segment_s))
            with busy():
                rows["busy"].append(watch(process, segment_s))
                rows["thread_busy"].append(in_a_thread(tracker, ring, segment_s))
    feeder.kill()
    feeder.join()
    ring.close()
    names = ("p50_us", "p99_us", "max_us", "rate_hz")
    return {
        way: dict(zip(names, np.median(found, axis=0).round(1).tolist(), strict=True))
        for way, found in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one rate, below 50 s")
    parser.add_argument("--priority", type=int, default=0, help="SCHED_FIFO, as a service has it")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rates = RATES_HZ[:1] if options.quick else RATES_HZ
    rounds = 1 if options.quick else 3
    result: dict[str, Any] = {}
    for rate_hz in rates:
        result[f"{rate_hz:g}"] = measure(rate_hz, rounds, 4.5, options.priority)
        for way, row in result[f"{rate_hz:g}"].items():
            print(f"{rate_hz:g} Hz {way:12s} " + "  ".join(f"{k} {v:g}" for k, v in row.items()))
    if options.json:
        options.json.write_text(json.dumps({"rates": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
