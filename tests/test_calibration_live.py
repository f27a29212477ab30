"""Guided procedures in real time, over the wires and pictures of a simulated rig."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from calibration.live import LiveLead
from calibration.run import calibrate_rig
from calibration.simulated import pinned
from cartpole.config.load import load_config, with_values
from cartpole.config.schema import Config
from cartpole.errors import DeviceError, DeviceLost
from cartpole.sim.process import SimulatedRig

pytestmark = pytest.mark.realtime


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[tuple[SimulatedRig, Config]]:
    """A rig behind pseudo-terminals, and settings that name its ports as a real rig's are named."""
    truth = load_config(
        None,
        ["camera.source=none", "sim.tau_s=0.06", "sim.counts_per_m_s=1700", "sim.motor_sign=-1"],
    )
    started = SimulatedRig(truth, 0, tmp_path)
    try:
        started.start()
        started.wait_ready()
        ports = {"motor.port": started.motor_port, "encoder.port": started.encoder_port}
        yield started, with_values(truth, ports)
    finally:
        started.close()


def test_motor_over_serial_ports(rig: tuple[SimulatedRig, Config]) -> None:
    config = with_values(rig[1], {"motor.sign": -1})
    done: list[float] = []
    with LiveLead(seeing=False) as lead:
        (result,) = calibrate_rig("motor", config, lead, done.append)
    assert result.estimates["motor.tau_s"].value == pytest.approx(0.06, abs=0.006)
    assert result.estimates["motor.counts_per_m_s"].value == pytest.approx(1700.0, rel=0.03)
    assert done == [1]


def test_encoder_with_a_reversed_motor() -> None:
    """The ports are opened anew once the motor's sign is known."""
    config = pinned(load_config(None, ["camera.source=none", "sim.motor_sign=-1"]))
    with LiveLead(seeing=False) as lead:
        (result,) = calibrate_rig("encoder", config, lead)
    assert result.settings()["motor.sign"] == -1
    assert result.settings()["encoder.pole_counts_per_turn"] == 1200.0
    assert result.settings()["encoder.cart_sign"] == 1


def test_latency_with_pictures() -> None:
    config = pinned(load_config(None, ["sim.camera_latency_s=0.016", "sim.readout_s=0.0045"]))
    with LiveLead() as lead:
        (result,) = calibrate_rig("latency", config, lead)
    assert result.estimates["camera.readout_s"].value == pytest.approx(0.0045, abs=4e-4)
    assert result.estimates["camera.latency_s"].value == pytest.approx(0.016, abs=1e-3)


def test_a_rig_that_falls_silent_stops_the_procedure(rig: tuple[SimulatedRig, Config]) -> None:
    started, config = rig
    cut = threading.Timer(6.0, started.order, ("unplug", "encoder"))
    cut.start()
    with pytest.raises(DeviceLost, match="stopped"):
        list(calibrate_rig("motor", with_values(config, {"motor.sign": -1}), LiveLead()))
    cut.join()


def test_a_missing_port_is_named(rig: tuple[SimulatedRig, Config]) -> None:
    config = with_values(rig[1], {"encoder.port": "/dev/no-such-port"})
    with pytest.raises(DeviceError, match="no-such-port"):
        list(calibrate_rig("motor", config, LiveLead()))
