"""Tables in and out, lists, differences, invariants."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from support.sessions import FakeCore, write_session

from cartpole.config.schema import Config
from cartpole.messages import (
    Command,
    EncoderSample,
    Estimate,
    Fault,
    Mode,
    Request,
    RequestKind,
    Severity,
    TickInput,
    TickRecord,
)
from cartpole.session.columns import LAYOUTS
from cartpole.session.exchange import (
    COLUMNS,
    export_csv,
    import_settings,
    import_table,
)
from cartpole.session.invariants import Invariants, Seen, WireCommands
from cartpole.session.listing import compare, describe, list_sessions
from cartpole.session.reader import open_session
from cartpole.session.replay import replay
from cartpole.session.tables import Run, Table, read_table

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "physical_cartpole"


def test_import_through_a_core_and_back_out(tmp_path: Path) -> None:
    run = Run(
        np.asarray(np.arange(50) * 0.02, np.float64),
        np.linspace(-0.1, 0.1, 50),
        np.linspace(0, 7, 50),
    )
    table = Table("folder/x.csv", "", LAYOUTS["plain"], (run, run))
    path = tmp_path / "run.mcap"
    config = import_settings("plain", None)
    found = import_table(table, config, path, original=b"abc", make_core=FakeCore)
    assert [one.samples for _, one in found] == [50, 50]
    assert found[1][0].name == "run-run2.mcap"
    assert open_session(found[1][0]).provenance["imported_run"] == "2"
    session = open_session(path)
    assert session.provenance["imported"] == "x.csv"
    assert session.provenance["imported_layout"] == LAYOUTS["plain"].text()
    assert replay(session, make_core=FakeCore).bitwise_equal
    assert session.contents.attachments["source.csv"] == b"abc"
    rows_at = tmp_path / "out.csv"
    assert export_csv(session, rows_at) == 50
    with rows_at.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    counts = [int(row["cart_counts"]) for row in rows]
    assert np.allclose(np.array(counts) / config.encoder.cart_counts_per_m, run.p_m, atol=3e-5)
    ticks = list(session.ticks())
    assert ticks[7].estimate is not None
    assert float(rows[7]["omega_rad_s"]) == ticks[7].estimate.state[3]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not on this machine")
def test_all_real_recordings_import_and_are_consistent(tmp_path: Path) -> None:
    files = sorted(REAL.glob("*.csv"))
    assert len(files) == 24
    config = import_settings("physical_cartpole", None)
    nis = []
    for number, path in enumerate(files):
        table = read_table(path)
        (run,) = table.runs
        output = tmp_path / f"{path.stem}.mcap"
        ((_, found),) = import_table(table, config, output)
        nis.append(found.nis_mean)
        assert found.rejected < 0.1 * 2 * found.samples
        if number % 8 == 0:
            session = open_session(output)
            assert replay(session).bitwise_equal
            last = list(session.ticks())[-1].estimate
            assert last is not None
            assert abs(last.state[0] - run.p_m[-1]) < 0.002
            assert abs(last.state[2] - run.theta_rad[-1]) < 0.02
    assert 0.5 < float(np.median(nis)) < 1.6


def test_list_and_compare(tmp_path: Path) -> None:
    write_session(tmp_path / "a.mcap", ticks=40)
    write_session(tmp_path / "b.mcap", ticks=60, lost_at=50)
    data = (tmp_path / "b.mcap").read_bytes()
    (tmp_path / "c.mcap").write_bytes(data[: len(data) // 2])
    (tmp_path / "d.mcap").write_bytes(b"nonsense")
    a, b, c, d = list_sessions(tmp_path)
    assert (a.name, a.whole, a.outcome) == ("a.mcap", True, "upright after 0.00 s")
    assert b.outcome == "encoder lost"
    assert not c.whole
    assert "not a recording" in d.outcome
    first, second = (open_session(tmp_path / name) for name in ("a.mcap", "b.mcap"))
    found = compare(first, second)
    assert found.settings == {}
    assert found.figures["ticks"] == (36, 56)
    assert found.figures["faults"] == ("none", "encoder lost")
    assert describe(tmp_path / "a.mcap").summary == a.summary


# ---- invariants ----

NOW = 1_000_000_000


def tick(index: int, u: float, **changes: object) -> TickRecord:
    now = NOW + index * 20_000_000
    state = changes.pop("state", (0.0, 0.0, math.pi, 0.0))
    age = changes.pop("age", 5_000_000)
    requests = changes.pop("requests", ())
    estimate = Estimate(now, state, (0.0,) * 4, 0.0, age, age)  # type: ignore[arg-type]
    base = TickRecord(
        index,
        TickInput(now, (), requests),  # type: ignore[arg-type]
        Mode.BALANCE,
        True,
        True,
        estimate,
        None,
        Command(now, index, u, True, u),
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def names(*records: TickRecord) -> list[str]:
    invariants = Invariants(Config())
    return [v.invariant for record in records for v in invariants.check(record)]


def fault(severity: Severity) -> Fault:
    return Fault(NOW, "x", severity, "", "")


def test_a_good_run_violates_nothing() -> None:
    assert names(tick(0, 0.1), tick(1, 0.2), tick(2, 0.1)) == []


def test_speed_and_slew() -> None:
    steps = [tick(k, min(0.16 * k, 1.01)) for k in range(8)]
    assert names(*steps) == ["I1"]
    assert names(tick(0, 0.0), tick(1, 0.17)) == ["I1"]
    off = Command(NOW, 0, 0.1, False, 0.1)
    assert names(tick(0, 0.1, command=off)) == ["I1"]


def test_the_drive_may_be_turned_off_at_once() -> None:
    off = Command(NOW + 20_000_000, 1, 0.0, False, 0.0)
    first = tick(0, 0.16)
    assert names(first, tick(1, 0.0, command=off, mode=Mode.FAULT)) == []


def test_way_to_the_stop() -> None:
    config = Config()
    motor = config.motor
    # 1 m/s held for the time-out, then the drive's lag: clipped first, an exponential at the end.
    held = config.safety.board_timeout_s + motor.delay_s
    knee = motor.acceleration_m_s2 * motor.tau_s
    coast = (1.0 - knee**2) / (2.0 * motor.acceleration_m_s2) + knee * motor.tau_s
    stop = config.rig.track_length_m / 2
    edge = stop - config.safety.stop_margin_m - held - coast
    fast = {"state": (edge - 0.004, 1.0, 0.0, 0.0)}
    assert names(tick(1, 1.0, **fast)) == []
    assert names(tick(1, 1.0, state=(edge + 0.014, 1.0, 0.0, 0.0))) == ["I2"]
    assert names(tick(1, -1.0, state=(-edge - 0.014, -1.0, 0.0, 0.0))) == ["I2"]
    assert names(tick(1, 0.1, state=(edge + 0.014, -1.0, 0.0, 0.0))) == []
    with_truth = Invariants(config).check(tick(1, 1.0), (edge + 0.011, 1.0, 0.0, 0.0))
    assert [v.invariant for v in with_truth] == ["I2"]
    seen = Seen(farthest_m=stop - 0.0049)
    assert [v.invariant for v in Invariants(config).check(tick(1, 0.1), None, seen)] == ["I2"]
    assert not Invariants(config).check(tick(1, 0.1), None, Seen(farthest_m=stop - 0.0051))


def test_the_wire_is_read_not_believed() -> None:
    def found(*wire: tuple[int, float], **changes: object) -> list[str]:
        invariants = Invariants(Config())
        invariants.check(tick(0, 0.0), None, Seen(commands=((NOW, 0.0),)))
        return [v.invariant for v in invariants.check(tick(1, 0.0, **changes), None, Seen(wire))]

    at = NOW + 20_000_000
    assert found((at, 0.16)) == []
    assert found((at, 0.17)) == ["I1"]
    assert found((at, 0.1), (at, 0.1)) == ["I7"]
    assert found() == ["I7"]
    assert found((NOW + 2_000_000, 0.1)) == ["I1"]  # no catching up
    off = {"faults": (fault(Severity.OFF),), "mode": Mode.FAULT}
    assert "I6" in found((at, 0.01), **off)
    brake = {"faults": (fault(Severity.BRAKE),), "mode": Mode.SAFE_STOP}
    assert found((at, 0.01), **brake) == ["I6"]
    assert WireCommands(Config()).feed(b"M1: 250\r\nM1: -100\r\nnonsense\r\n") == [0.1, 0.0]


def test_a_stamp_from_the_future_is_no_fresh_measurement() -> None:
    invariants = Invariants(Config())
    hour = 3600 * 1_000_000_000
    heard = EncoderSample(NOW + hour, NOW, 0, 0)
    first = dataclasses.replace(tick(0, 0.1), input=TickInput(NOW, (heard,)))
    assert not invariants.check(first)
    found = [v.invariant for k in range(1, 6) for v in invariants.check(tick(k, 0.1, age=0))]
    assert found == ["I4", "I4"]


def test_stale_state() -> None:
    assert names(tick(0, 0.1, age=61_000_000)) == ["I4"]
    assert names(tick(0, 0.0, age=61_000_000)) == []
    assert names(tick(0, 0.1, age=-1)) == ["I4"]
    assert names(tick(0, 0.1, estimate=None)) == ["I4"]


def test_latched_faults() -> None:
    brake, off = fault(Severity.BRAKE), fault(Severity.OFF)
    stopping = tick(0, 0.0, faults=(brake,), mode=Mode.SAFE_STOP)
    assert names(stopping) == []
    assert names(tick(0, 0.0, faults=(brake,))) == ["I6"]
    assert names(tick(0, 0.0, faults=(brake, off), mode=Mode.SAFE_STOP)) == ["I6"]
    after = tick(1, 0.0, mode=Mode.DISARMED)
    assert names(stopping, after) == ["I6"]
    reset = tick(1, 0.0, mode=Mode.DISARMED, requests=(Request(RequestKind.RESET),))
    assert names(stopping, reset) == []


def test_one_finite_command_a_tick() -> None:
    bad = Command(NOW, 0, math.nan, True, math.nan)
    assert "I7" in names(tick(0, 0.0, command=bad))
    assert names(tick(0, 0.0), tick(2, 0.0)) == ["I7"]
    same = Command(NOW + 20_000_000, 0, 0.0, True, 0.0)
    assert names(tick(0, 0.0), tick(1, 0.0, command=same)) == ["I7"]
    burst = Command(NOW + 1_000_000, 1, 0.0, True, 0.0)
    assert names(tick(0, 0.0), tick(1, 0.0, command=burst)) == ["I7"]
