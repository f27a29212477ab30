"""One rig led through all parts: it stays as each part leaves it, and nothing is known of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_calibration_command import run

from calibration import procedures
from calibration.guide import Guide
from calibration.place import Place
from calibration.result import CalibrationResult, Estimate
from calibration.run import calibrate_rig
from calibration.simulated import SimulatedBench, SimulatedLead, pinned
from cartpole.config.load import load_config, with_values
from cartpole.errors import DeviceLost
from cartpole.messages import BoardStatus, Command, EncoderSample, Measurement
from firmware_bridge.protocol import BoardFault


@pytest.mark.parametrize("signs", [(-1, 1, -1), (1, -1, 1), (-1, -1, 1)])
def test_every_part_of_one_rig(signs: tuple[int, int, int]) -> None:
    """Off the middle, the track measured ten percent short, hardly any friction, signs reversed."""
    cart, pole, motor = signs
    truth: dict[str, Any] = {
        "sim.cart_sign": cart,
        "sim.pole_sign": pole,
        "sim.motor_sign": motor,
        "sim.track_length_m": 0.96,
        "sim.damping_1_s": 0.002,
        "sim.length_m": 0.62,
        "sim.pole_counts_per_turn": 2000.0,
        "camera.source": "none",
    }
    config = pinned(with_values(load_config(None), truth))
    times: list[float] = []
    lead = SimulatedLead(3, start=(0.4, 0.0, 0.05, 0.0))

    def done(_: float) -> None:
        assert lead.plant is not None
        times.append(lead.plant.t_ns * 1e-9)

    found: dict[str, Estimate] = {}
    for result in calibrate_rig("all", config, lead, done):
        found |= result.estimates
    assert [found[f"{name}_sign"].value for name in ("encoder.cart", "encoder.pole")] == [
        cart,
        pole,
    ]
    assert found["motor.sign"].value == motor
    assert found["encoder.pole_counts_per_turn"].value == 2000.0
    assert found["pole.length_m"].value == pytest.approx(0.62, rel=0.003)
    assert times[-1] < 300.0


def test_a_part_alone_finds_its_place_and_names_a_reversed_sign() -> None:
    config = pinned(load_config(None, ["camera.source=none", "sim.motor_sign=-1"]))
    lead = SimulatedLead(0, start=(-0.2, 0.0, 0.0, 0.0))
    with pytest.raises(DeviceLost, match=r"motor.sign or encoder.cart_sign is reversed"):
        list(calibrate_rig("motor", config, lead))
    assert lead.plant is not None
    assert abs(lead.plant.state[0] + 0.2) < 0.02


@pytest.mark.parametrize(
    ("left_at", "counts", "middle"),
    [
        (3000, 0, -1700.0),  # from zero again
        (3000, 3010, 1300.0),  # it went on, and the cart rolled half a millimetre
        (-90, 0, 1390.0),  # from zero again, though the cart was left close to the old zero
        (-90, -88, 1300.0),  # it went on there
    ],
)
def test_a_board_that_counts_anew_is_noticed(left_at: int, counts: int, middle: float) -> None:
    guide = arrived(Place(left_at, 1300.0, 8800.0), counts)
    assert guide.place() == Place(counts, middle, 8800.0)


def test_a_cart_that_was_moved_by_hand_has_no_known_place() -> None:
    assert arrived(Place(3000, 1300.0, 8800.0), 5000).place() is None


def arrived(place: Place, counts: int) -> Guide:
    """A guide that was told a place and now reads these counts of the cart."""
    config = load_config(None, ["camera.source=none"])
    guide = Guide(config, SimulatedBench(config, 0, start=(0.0, 0.0, 0.0, 0.0)))
    guide.notes.samples.append(EncoderSample(1, 1, counts, 0))
    guide.arrive(place)
    return guide


def test_two_pressed_switches_move_nothing_far() -> None:
    config = load_config(None, ["camera.source=none"])
    sweep = procedures.Sweep(config)

    class Both:
        p_m = v_m_s = theta_rad = omega_rad_s = 0.0
        limit_low = limit_high = True
        cart_counts = 0

    with pytest.raises(DeviceLost, match="both switches read pressed"):
        sweep(0.0, Both())


def test_what_was_found_is_kept_when_a_later_part_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, figures = tmp_path / "rig.yaml", tmp_path / "f.json"
    settings.write_text(f"pole: {{length_m: 0.5}}\nsession: {{folder: {tmp_path}}}\n")

    def fails(*_: object) -> Iterator[CalibrationResult]:
        yield CalibrationResult({"pole.length_m": Estimate(0.7, (0.69, 0.71), "m")}, 1.0)
        raise DeviceLost("the belt is off")

    monkeypatch.setattr("calibration.run.calibrate_rig", fails)
    arguments = ("calibrate", "all", "--config", settings, "--write", "--json", figures)
    assert run(monkeypatch, *arguments) == 1
    assert "the belt is off" in capsys.readouterr().err
    assert json.loads(figures.read_text())["pole.length_m"]["value"] == 0.7
    assert load_config(settings).pole.length_m == 0.7


def test_the_cart_calms_a_pole_that_turns_over() -> None:
    config = load_config(None, ["sim.damping_1_s=0", "camera.source=none"])
    bench = SimulatedBench(config, 0, start=(0.0, 0.0, 0.0, 0.0))
    guide = Guide(config, bench)
    guide.settle(may_move=True)
    bench.plant.push(pole_rad_s=14.0)
    guide.settle(may_move=True)
    _, _, theta, omega = bench.plant.state
    assert abs(math.remainder(theta, 2.0 * math.pi)) < 0.15
    assert abs(omega) < 0.6
    assert np.isfinite(theta)


@pytest.mark.parametrize("signs", [(-1, 1), (1, -1), (-1, -1), (1, 1)], ids=str)
@pytest.mark.parametrize("start_m", [-0.455, 0.455, -0.445, 0.445])
def test_a_cart_that_stands_at_a_switch_finds_out_which_sign_is_reversed(
    signs: tuple[int, int], start_m: float
) -> None:
    """A switch knows left from right whatever the signs: also on its very end."""
    cart, motor = signs
    given = ["camera.source=none", f"sim.cart_sign={cart}", f"sim.motor_sign={motor}"]
    config = pinned(load_config(None, given))
    lead = SimulatedLead(7, start=(start_m, 0.0, 0.0, 0.0))
    (result,) = calibrate_rig("encoder", config, lead)
    found = result.estimates
    assert (found["encoder.cart_sign"].value, found["motor.sign"].value) == (cart, motor)


def test_an_encoder_alone_is_told_by_the_switch_that_the_cart_came_to() -> None:
    config = pinned(load_config(None, ["camera.source=none", "sim.cart_sign=-1"]))
    lead = SimulatedLead(7, start=(-0.434, 0.0, 0.0, 0.0), bench=Stops)
    Stops.touched = False
    list(calibrate_rig("encoder", config, lead))
    assert not Stops.touched


class Late(SimulatedBench):
    """A board that switches its drive off in mid-motion, ``left`` times, for the cause ``code``."""

    left, code, moved = 0, BoardFault.HEARTBEAT, 0

    def wait(self) -> tuple[int, tuple[Measurement, ...]]:
        now_ns, found = super().wait()
        if type(self).left and self.moved > 150:
            type(self).left -= 1
            self.moved = 0
            return now_ns, (*found, BoardStatus(now_ns, fault_code=self.code))
        return now_ns, found

    def send(self, command: Command) -> None:
        self.moved += command.velocity_m_s != 0.0
        super().send(command)


def test_a_part_begins_anew_where_the_host_was_late_and_not_for_ever() -> None:
    config = pinned(load_config(None, ["camera.source=none"]))
    Late.left, Late.code = 2, BoardFault.HEARTBEAT
    (result,) = calibrate_rig("encoder", config, SimulatedLead(5, bench=Late))
    assert result.estimates["encoder.pole_counts_per_turn"].value == 1200.0
    assert Late.left == 0
    for times, code in ((3, BoardFault.HEARTBEAT), (1, BoardFault.LIMIT_LOW)):
        Late.left, Late.code = times, code
        with pytest.raises(DeviceLost, match=f"fault code {code}"):
            list(calibrate_rig("encoder", config, SimulatedLead(5, bench=Late)))
        assert Late.left == 0


class Stops(SimulatedBench):
    """Notes whether an end of the track was touched."""

    touched = False

    def send(self, command: Command) -> None:
        type(self).touched |= self.plant.at_stop
        super().send(command)
