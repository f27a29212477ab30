"""A rig that the machine did not run says so: no board and no camera is to blame."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from cartpole.config.schema import Config
from cartpole.messages import NANOSECONDS, Link, LinkState
from cartpole.sim.heartbeat import HELD_NS, Heartbeat, Listening
from cartpole.sim.process import SimulatedRig

T = 5 * NANOSECONDS
MS = 1_000_000


def test_a_rig_that_runs_is_not_held_up() -> None:
    heart, listening = Heartbeat(T), Listening()
    for k in range(1, 50):
        heart.beat(T + k * 2 * MS)
        assert listening.held_up(T + k * 2 * MS + MS, T + k * 2 * MS, 0, 0) is None
    assert (heart.held_until_ns, heart.held_ns) == (0, 0)


def test_it_is_told_at_first_sight_and_afterwards_how_long_it_was() -> None:
    """While the rig stands nobody but the reader can tell, and its silence is noticed later."""
    heart, listening = Heartbeat(T), Listening()
    assert listening.held_up(T + HELD_NS, T, 0, 0) is None
    first = listening.held_up(T + 40 * MS, T, 0, 0)
    assert first is not None
    assert (first.link, first.state) == (Link.ENCODER, LinkState.STARVED)
    assert first.detail == "the machine did not run the simulated rig for 40 ms"
    assert listening.held_up(T + 60 * MS, T, 0, 0) is None
    heart.beat(T + 70 * MS)
    told = (heart.held_until_ns, heart.held_ns)
    assert told == (T + 70 * MS, 70 * MS)
    after = listening.held_up(T + 75 * MS, T + 74 * MS, *told)
    assert after is not None
    assert "70 ms" in after.detail
    assert listening.held_up(T + 80 * MS, T + 78 * MS, *told) is None


@pytest.mark.realtime
def test_a_stopped_rig_process_is_named(tmp_path: Path) -> None:
    config = Config.model_validate({"camera": {"source": "none"}})
    rig = SimulatedRig(config, 0, tmp_path)
    rig.start()
    try:
        rig.wait_ready()
        assert rig._process.pid is not None
        os.kill(rig._process.pid, signal.SIGSTOP)
        time.sleep(0.08)
        standing = rig.held_up(time.monotonic_ns())
        os.kill(rig._process.pid, signal.SIGCONT)
        time.sleep(0.03)
        after = rig.held_up(time.monotonic_ns())
    finally:
        rig.close()
    assert standing is not None
    assert after is not None
