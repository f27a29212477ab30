"""Runs the real capture code under the preload library: ``child.py SCENARIO CAMERA_JSON``.

Prints one JSON line a step; steps that need the outside world wait for a line on standard input.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from v4l2_shim.camera import number_in

from cartpole.config.schema import Camera
from cartpole.errors import DeviceError, DeviceLost
from cartpole.vision import v4l2_device as device
from cartpole.vision.v4l2_capture import V4l2Source


def say(**record: Any) -> None:
    print(json.dumps(record), flush=True)


def wait_for_a_line() -> None:
    sys.stdin.readline()


def counters(source: V4l2Source) -> dict[str, int]:
    found = source.counters
    return {"gaps": found.gaps, "skipped": found.skipped, "stale": found.stale}


def read(source: V4l2Source, count: int) -> list[tuple[int, int, int, int]]:
    """(sequence, number in the picture, t_ns, age in ns) of ``count`` pictures."""
    rows: list[tuple[int, int, int, int]] = []
    while len(rows) < count:
        frame = source.read_latest(1.0, 1.0)
        if frame is not None:
            age_ns = time.monotonic_ns() - frame.t_ns
            rows.append((frame.sequence, number_in(frame.data), frame.t_ns, age_ns))
    return rows


def capture(camera: Camera) -> None:
    source = V4l2Source(camera)
    try:
        say(opened=source.open())
    except DeviceError as error:
        say(error=str(error), kind=type(error).__name__)
        return
    say(rows=read(source, 20), **counters(source))
    source.close()
    say(again=source.open(), rows=read(source, 3))
    source.close()


def survey(camera: Camera) -> None:
    fd = device.open_node(camera.device)
    modes = [
        (mode.pixel_format, mode.width_px, mode.height_px, mode.rates_hz)
        for mode in device.list_modes(fd)
    ]
    controls = {control.name: control.value for control in device.list_controls(fd)}
    os.close(fd)
    say(modes=modes, controls=controls)


def slow(camera: Camera) -> None:
    source = V4l2Source(camera)
    source.open()
    read(source, 5)
    before = counters(source)
    time.sleep(0.6)
    frame = source.read_latest(0.1, 2.0)
    assert frame is not None
    age_ns = time.monotonic_ns() - frame.t_ns
    say(age_ns=age_ns, same=number_in(frame.data) == frame.sequence, before=before)
    say(**counters(source))
    source.close()


def replug(camera: Camera) -> None:
    source = V4l2Source(camera)
    opened = source.open()
    kept = source.read_latest(1.0, 1.0)
    assert kept is not None
    say(opened=opened)
    try:
        while True:
            source.read_latest(1.0, 1.0)
    except DeviceLost as error:
        say(lost=str(error), kept=int(kept.data[0, 0]))
    for _ in range(2):  # gone, then there again
        wait_for_a_line()
        try:
            say(opened=source.open())
        except DeviceError as error:
            say(error=str(error), kind=type(error).__name__)
    say(rows=read(source, 3))
    source.close()


if __name__ == "__main__":
    scenarios = {"capture": capture, "survey": survey, "slow": slow, "replug": replug}
    scenarios[sys.argv[1]](Camera.model_validate_json(sys.argv[2]))
