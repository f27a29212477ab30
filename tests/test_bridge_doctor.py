"""`doctor`, its checks and its jog, and `flash`: what they find and what they say to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cartpole.config.schema import Config, Service
from cartpole.doctor import devices, machine
from cartpole.doctor.jog import Jog, JogLeg, speed_at, verdict
from cartpole.doctor.machine import Level
from cartpole.errors import DeviceError, UsageError
from cartpole.messages import Command, EncoderSample, Link, LinkEvent, LinkState, Measurement
from cartpole.sim.boards import ArduinoAsciiBoard, SabertoothTextBoard
from cartpole.sim.pty_port import PtyPort, PtyServer
from firmware_bridge import flashing
from firmware_bridge.rules import LinkRules
from firmware_bridge.sabertooth_text import SabertoothText

ROOT = Path(__file__).parent.parent


def config_with(**sections: dict[str, object]) -> Config:
    return Config.model_validate(sections)


class TestMachine:
    def test_calibration_age(self, tmp_path: Path) -> None:
        path = tmp_path / "rig.yaml"
        path.write_text("pole:\n  length_m: 0.5\n")
        now = datetime(2026, 3, 1, tzinfo=UTC)
        assert machine.calibration(path, now).found == "never"
        (tmp_path / "rig.yaml.20260219T101010.bak").touch()
        assert machine.calibration(path, now).found == "10 days ago"
        path.write_text("# Calibrated from a session on 2025-01-01\npole:\n  length_m: 0.5\n")
        assert machine.calibration(path, now).level is Level.OK
        (tmp_path / "rig.yaml.20260219T101010.bak").unlink()
        old = machine.calibration(path, now)
        assert (old.level, old.found) == (Level.WARN, "424 days ago")
        assert "calibrate all" in old.advice

    def test_processor(self, tmp_path: Path) -> None:
        folder = tmp_path / "devices/system/cpu"
        folder.mkdir(parents=True)
        (folder / "isolated").write_text("0,3-5\n")
        assert machine.processor(Service(cpu=0), tmp_path).level is Level.OK
        (folder / "isolated").write_text("\n")
        assert machine.processor(Service(cpu=0), tmp_path).advice == (
            "add isolcpus=0 to the kernel's command line"
        )
        assert machine.processor(Service(cpu=1000), tmp_path).level is Level.FAIL

    def test_clock(self, tmp_path: Path) -> None:
        folder = tmp_path / "devices/system/clocksource/clocksource0"
        folder.mkdir(parents=True)
        for name, level in (("tsc", Level.OK), ("hpet", Level.WARN)):
            (folder / "current_clocksource").write_text(name)
            assert machine.clock(tmp_path).level is level

    def test_disk_leaves_nothing_behind(self, tmp_path: Path) -> None:
        found = machine.disk(tmp_path / "sessions/here", 1)
        assert found[0].level is Level.OK
        assert list(tmp_path.iterdir()) == []
        assert machine.disk(tmp_path, 10**12)[0].level is Level.WARN

    def test_the_table_as_figures(self) -> None:
        rows = [machine.Check("a", Level.OK, "x"), machine.Check("b", Level.FAIL, "y", "do z")]
        figures = machine.figures(rows)
        assert figures["ok"] is False
        assert json.loads(json.dumps(figures))["checks"][1]["advice"] == "do z"


class TestRig:
    def test_devices_that_are_not_there(self, tmp_path: Path) -> None:
        found = {
            check.name: check
            for check in devices.rig_checks(
                config_with(
                    motor={"port": str(tmp_path / "none")},
                    encoder={"port": "usb:1234:5678"},
                    camera={"source": "v4l2", "device": str(tmp_path / "video9")},
                )
            )
        }
        for name in ("motor port", "encoder port", "camera"):
            assert found[name].level is Level.FAIL
            assert found[name].advice
        assert "boards" not in found

    def test_a_driver_too_weak_for_the_speed_limit(self) -> None:
        check = devices.motor_range(config_with(motor={"counts_per_m_s": 3000.0}))[0]
        assert check.level is Level.WARN
        assert "0.65" in check.advice


class CartPlant:
    """A cart that follows its commands at once, on whatever track and scale."""

    def __init__(self, counts_per_m: float, switch_m: float = 1.0) -> None:
        self.position_m = 0.0
        self.velocity_m_s = 0.0
        self.t_ns = 0
        self.counts_per_m = counts_per_m
        self.switch_m = switch_m

    def advance(self, t_ns: int) -> None:
        self.position_m += self.velocity_m_s * max(t_ns - self.t_ns, 0) * 1e-9
        self.t_ns = max(t_ns, self.t_ns)

    def counts(self, t_ns: int) -> tuple[int, int]:
        self.advance(t_ns)
        return round(self.position_m * self.counts_per_m), 0

    def limits(self, t_ns: int) -> tuple[bool, bool]:
        return self.position_m < -self.switch_m, self.position_m > self.switch_m

    def command(self, t_ns: int, velocity_m_s: float) -> None:
        self.advance(t_ns)
        self.velocity_m_s = velocity_m_s


class FakeLinks:
    """Links to a plant in virtual time; ``sleep`` moves the time."""

    def __init__(self, plant: CartPlant) -> None:
        self.plant = plant
        self.t_ns = 0
        self.sent: list[Command] = []
        self.silent_from_ns = 10**18

    def clock(self) -> int:
        return self.t_ns

    def sleep(self, duration_s: float) -> None:
        self.t_ns += round(duration_s * 1e9)

    def start(self) -> None: ...

    def poll(self) -> list[Measurement]:
        if self.t_ns >= self.silent_from_ns:
            return []
        cart, pole = self.plant.counts(self.t_ns)
        low, high = self.plant.limits(self.t_ns)
        return [EncoderSample(self.t_ns, self.t_ns, cart, pole, low, high)]

    def send(self, command: Command) -> bool:
        self.sent.append(command)
        self.plant.command(self.t_ns, command.velocity_m_s if command.enable else 0.0)
        return True

    def update(self, rules: LinkRules) -> None: ...

    def close(self) -> None: ...

    def statistics(self) -> dict[str, dict[str, int]]:
        return {}


def jog(links: FakeLinks, speed: float = 0.1) -> list[JogLeg]:
    return Jog(links, Config(), links.clock, links.sleep).run(speed, 1.0)


class TestJog:
    def test_there_and_back(self) -> None:
        links = FakeLinks(CartPlant(20_000.0))
        legs = jog(links)
        assert legs[0].seen_m == pytest.approx(0.08, abs=0.003)  # 1 s less both ramps
        assert legs[1].seen_m == pytest.approx(-0.08, abs=0.003)
        assert verdict(legs) == ""
        assert links.plant.velocity_m_s == 0.0
        assert not links.sent[-1].enable
        sequences = [command.sequence for command in links.sent]
        assert sequences == sorted(set(sequences))
        steps = [
            b.velocity_m_s - a.velocity_m_s
            for a, b in zip(links.sent, links.sent[1:], strict=False)
        ]
        assert max(map(abs, steps)) <= 0.5 * 0.02 + 1e-9

    @pytest.mark.parametrize(
        ("counts_per_m", "text"),
        [(0.0, "did not move"), (-20_000.0, "other way"), (40_000.0, "2 times as far")],
    )
    def test_what_it_sees(self, counts_per_m: float, text: str) -> None:
        assert text in verdict(jog(FakeLinks(CartPlant(counts_per_m))))

    def test_a_switch_stops_it(self) -> None:
        links = FakeLinks(CartPlant(20_000.0, switch_m=0.02))
        legs = jog(links)
        assert legs[0].stopped_by == "the right limit switch"
        assert links.plant.position_m < 0.04
        assert "limit switch" in verdict(legs)

    def test_silence_stops_it(self) -> None:
        links = FakeLinks(CartPlant(20_000.0))
        links.silent_from_ns = 700_000_000
        assert "silent" in jog(links)[0].stopped_by
        assert links.plant.position_m < 0.07

    def test_a_lost_link_stops_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        links = FakeLinks(CartPlant(20_000.0))
        usual = links.poll
        gone = LinkEvent(0, Link.MOTOR, LinkState.DOWN, "cable")
        monkeypatch.setattr(
            links, "poll", lambda: [*usual(), *([gone] if links.t_ns > 600_000_000 else [])]
        )
        assert jog(links)[0].stopped_by == "cable"

    def test_refusals(self) -> None:
        links = FakeLinks(CartPlant(20_000.0))
        for speed in (0.0, -0.1, 0.5, float("nan")):
            with pytest.raises(UsageError, match="--speed"):
                jog(links, speed)
        links.silent_from_ns = 0
        with pytest.raises(DeviceError, match="unseen"):
            jog(links)
        assert all(command.velocity_m_s == 0.0 for command in links.sent)

    def test_the_ramp(self) -> None:
        assert [speed_at(t, 0.1, 1.0) for t in (-1.0, 0.0, 0.1, 0.5, 1.0, 2.0)] == [
            0.0, 0.0, 0.05, 0.1, 0.0, 0.0,
        ]  # fmt: skip


@pytest.fixture
def rig_file(tmp_path: Path) -> Iterator[Path]:
    """Settings of a text rig whose boards are emulated."""
    plant = CartPlant(20_000.0)
    driver = SabertoothText.from_config(Config().motor)
    encoder = PtyPort(ArduinoAsciiBoard(plant), tmp_path / "encoder")
    motor = PtyPort(SabertoothTextBoard(plant, driver), tmp_path / "motor")
    server = PtyServer([encoder, motor])
    server.start()
    path = tmp_path / "rig.yaml"
    path.write_text(
        f"motor:\n  port: {motor.path}\nencoder:\n  port: {encoder.path}\ncamera:\n  source: none\n"
    )
    yield path
    server.close()


def cartpole(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cartpole", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )


@pytest.mark.realtime
class TestCommands:
    def test_doctor_on_a_rig(self, rig_file: Path, tmp_path: Path) -> None:
        figures = tmp_path / "figures.json"
        done = cartpole("doctor", "--config", rig_file, "--json", figures)
        rows = {row["name"]: row for row in json.loads(figures.read_text())["checks"]}
        assert rows["motor port"]["level"] == rows["encoder port"]["level"] == "ok", done.stdout
        assert rows["encoder board"]["level"] in ("ok", "warn"), done.stdout
        assert "samples/s" in rows["encoder board"]["found"]
        assert "time-out" in done.stdout
        assert done.returncode == 0, done.stdout + done.stderr

    def test_doctor_board_jogs(self, rig_file: Path, tmp_path: Path) -> None:
        figures = tmp_path / "figures.json"
        done = cartpole(
            "doctor", "board", "--config", rig_file, "--jog", "--yes", "--json", figures
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "left free, right free" in done.stdout
        assert "drive and encoder agree" in done.stdout
        assert json.loads(figures.read_text())["jog"]["legs"][0]["seen_m"] > 0.03

    def test_doctor_board_meets_the_simulated_rig(self) -> None:
        done = cartpole("doctor", "board", "--config", ROOT / "config" / "sim.yaml")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "samples/s" in done.stdout

    def test_nothing_moves_without_a_yes(self, rig_file: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "cartpole", "doctor", "board", "-c", str(rig_file), "--jog"],
            input="n\n",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "nothing moved" in done.stdout
        assert "verdict" not in done.stdout

    def test_ports_that_are_missing_end_with_one_line(self, tmp_path: Path) -> None:
        path = tmp_path / "rig.yaml"
        path.write_text(f"motor: {{port: {tmp_path}/a}}\nencoder: {{port: {tmp_path}/b}}\n")
        done = cartpole("doctor", "board", "--config", path)
        assert done.returncode == 1
        assert done.stderr.startswith("cartpole: ")
        assert done.stderr.count("\n") == 1


class TestFlash:
    def test_the_port(self) -> None:
        bridge = config_with(motor={"protocol": "bridge", "port": "/dev/ttyACM3"})
        assert flashing.board_port(bridge.motor, None) == "/dev/ttyACM3"
        assert flashing.board_port(Config().motor, "/dev/ttyUSB0") == "/dev/ttyUSB0"
        for config, port in ((Config(), None), (Config(), "sim")):
            with pytest.raises(UsageError):
                flashing.board_port(config.motor, port)

    def test_the_command_line(self) -> None:
        line = " ".join(flashing.avrdude("/dev/ttyACM0", 115200, "flash:w:x.hex:i"))
        assert line == (
            "avrdude -p atmega328p -c arduino -P /dev/ttyACM0 -b 115200 -D -U flash:w:x.hex:i"
        )

    def test_dry_run_writes_nothing(self, tmp_path: Path) -> None:
        image = tmp_path / "x.hex"
        image.write_text(":00000001FF\n")
        done = cartpole(
            "flash", "--port", "/dev/null", "--hex", image, "--dry-run", "--keep", "old"
        )
        assert done.returncode == 0, done.stderr
        assert [line.split()[-1].split(":")[1] for line in done.stdout.splitlines()] == ["r", "w"]

    def test_refusals(self, tmp_path: Path) -> None:
        done = cartpole("flash", "--port", "/dev/null", "--hex", tmp_path / "none.hex", "--yes")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
