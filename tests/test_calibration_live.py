"""The guided procedure in real time, over the wires of a simulated rig."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cartpole.cli.live_rig import calibrate_live
from cartpole.config.load import load_config
from cartpole.errors import DeviceLost
from cartpole.sim.process import SimulatedRig

TRUTH = ("camera.source=none", "sim.tau_s=0.06", "sim.counts_per_m_s=1700")


@pytest.mark.realtime
def test_motor_over_pseudo_terminals(tmp_path: Path) -> None:
    config = load_config(None, list(TRUTH))
    rig = SimulatedRig(config, 0, tmp_path)
    done: list[float] = []
    try:
        rig.start()
        rig.wait_ready()
        ports = {"encoder_port": rig.encoder_port, "motor_port": rig.motor_port}
        (result,) = calibrate_live("motor", config, done.append, **ports)
    finally:
        rig.close()
    assert result.estimates["motor.tau_s"].value == pytest.approx(0.06, abs=0.006)
    assert result.estimates["motor.counts_per_m_s"].value == pytest.approx(1700.0, rel=0.03)
    assert done == [1]


@pytest.mark.realtime
def test_a_rig_that_falls_silent_stops_the_procedure(tmp_path: Path) -> None:
    config = load_config(None, list(TRUTH))
    rig = SimulatedRig(config, 0, tmp_path)
    try:
        rig.start()
        rig.wait_ready()
        ports = {"encoder_port": rig.encoder_port, "motor_port": rig.motor_port}
        cut = threading.Timer(6.0, rig.order, ("unplug", "encoder"))
        cut.start()
        with pytest.raises(DeviceLost, match="stopped"):
            calibrate_live("motor", config, lambda _done: None, **ports)
        cut.join()
    finally:
        rig.close()
